// Small safetensors files made in memory, for tests that need one or a deliberate mistake.
#ifndef OUTRIGGER_TESTS_SUPPORT_SAFETENSORS_WRITER_H_
#define OUTRIGGER_TESTS_SUPPORT_SAFETENSORS_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace outrigger {

/// The header's length, the header, and so many bytes of data, which count up.
inline std::vector<std::byte> safetensors_file(std::string_view header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::vector<std::byte> bytes(sizeof length + header.size() + data_bytes);
  std::memcpy(bytes.data(), &length, sizeof length);
  std::memcpy(bytes.data() + sizeof length, header.data(), header.size());
  for (size_t i = 0; i < data_bytes; ++i) bytes[sizeof length + header.size() + i] = static_cast<std::byte>(i);
  return bytes;
}

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_SUPPORT_SAFETENSORS_WRITER_H_
