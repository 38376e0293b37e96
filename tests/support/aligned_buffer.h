// AlignedBuffer: memory that direct reads may write to.
#ifndef OUTRIGGER_TESTS_SUPPORT_ALIGNED_BUFFER_H_
#define OUTRIGGER_TESTS_SUPPORT_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/io/byte_source.h"

namespace outrigger {

struct AlignedBuffer {
  explicit AlignedBuffer(uint64_t bytes)
      : memory(static_cast<std::byte*>(std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096)), std::free), size(bytes) {}
  std::unique_ptr<std::byte, decltype(&std::free)> memory;
  uint64_t size;
  std::span<std::byte> span() const { return {memory.get(), size}; }
};

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_SUPPORT_ALIGNED_BUFFER_H_
