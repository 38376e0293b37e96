// LargeAllocations: stands in front of glibc's functions, in the test it is linked into.
#include "tests/support/large_allocations.h"

#include <atomic>
#include <cstddef>
#include <cstdlib>

namespace {

std::atomic<uint64_t> largest{0};

[[maybe_unused]] void note(std::size_t bytes) {
  for (uint64_t most = largest.load(std::memory_order_relaxed); bytes > most && !largest.compare_exchange_weak(most, bytes);) continue;
}

}  // namespace

namespace outrigger::testing {

uint64_t largest_allocation() { return largest; }
void restart_largest_allocation() { largest = 0; }

}  // namespace outrigger::testing

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

extern "C" {

void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* memory, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);

void* malloc(std::size_t bytes) noexcept {
  note(bytes);
  return __libc_malloc(bytes);
}
void* calloc(std::size_t count, std::size_t bytes) noexcept {
  note(count * bytes);
  return __libc_calloc(count, bytes);
}
void* realloc(void* memory, std::size_t bytes) noexcept {
  note(bytes);
  return __libc_realloc(memory, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
  note(bytes);
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) noexcept {
  note(bytes);
  *memory = __libc_memalign(alignment, bytes);
  return *memory != nullptr ? 0 : 12;
}

}  // extern "C"

#endif
