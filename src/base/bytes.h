// Sizes for people: "94.0 MiB", and literals for code and tests.
#ifndef OUTRIGGER_SRC_BASE_BYTES_H_
#define OUTRIGGER_SRC_BASE_BYTES_H_

#include <cstdint>
#include <string>

namespace outrigger {

constexpr uint64_t operator""_KiB(unsigned long long n) { return n << 10; }
constexpr uint64_t operator""_MiB(unsigned long long n) { return n << 20; }
constexpr uint64_t operator""_GiB(unsigned long long n) { return n << 30; }

/// "612 B", "1.5 KiB", "93.8 MiB", "4.0 GiB": three digits or so, binary units.
std::string format_bytes(uint64_t bytes);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_BASE_BYTES_H_
