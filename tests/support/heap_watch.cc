// HeapWatch: replaces the global operator new of the test it is linked into.
#include "tests/support/heap_watch.h"

#include <malloc.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace outrigger {
namespace {

std::atomic<uint64_t> allocations{0};
std::atomic<uint64_t> live_bytes{0}, peak_bytes{0};
std::atomic<uint64_t> failing_number{0};  // in the count of `allocations`; 0: none

void* take(std::size_t bytes, std::size_t alignment) {
  if (allocations.fetch_add(1, std::memory_order_relaxed) + 1 == failing_number.load(std::memory_order_relaxed)) return nullptr;
  if (bytes == 0) bytes = 1;
  void* memory = alignment <= alignof(std::max_align_t) ? std::malloc(bytes)
                                                        : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  const uint64_t now = live_bytes += malloc_usable_size(memory);
  for (uint64_t peak = peak_bytes; now > peak && !peak_bytes.compare_exchange_weak(peak, now);) continue;
  return memory;
}

void give_back(void* memory) {
  live_bytes -= malloc_usable_size(memory);
  std::free(memory);
}

void* take_or_throw(std::size_t bytes, std::size_t alignment) {
  if (void* memory = take(bytes, alignment)) return memory;
  throw std::bad_alloc();
}

}  // namespace

uint64_t heap_allocations() { return allocations.load(std::memory_order_relaxed); }

uint64_t heap_bytes() { return live_bytes; }
uint64_t heap_peak_bytes() { return peak_bytes; }
void restart_heap_peak() { peak_bytes = live_bytes.load(); }

FailingAllocation::FailingAllocation(uint64_t nth) { failing_number = allocations + nth; }
FailingAllocation::~FailingAllocation() { failing_number = 0; }
bool FailingAllocation::has_happened() const { return allocations >= failing_number; }

}  // namespace outrigger

void* operator new(std::size_t bytes) { return outrigger::take_or_throw(bytes, 0); }
void* operator new[](std::size_t bytes) { return outrigger::take_or_throw(bytes, 0); }
void* operator new(std::size_t bytes, std::align_val_t a) { return outrigger::take_or_throw(bytes, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t bytes, std::align_val_t a) { return outrigger::take_or_throw(bytes, static_cast<std::size_t>(a)); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return outrigger::take(bytes, 0); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return outrigger::take(bytes, 0); }
void operator delete(void* memory) noexcept { outrigger::give_back(memory); }
void operator delete[](void* memory) noexcept { outrigger::give_back(memory); }
void operator delete(void* memory, std::size_t) noexcept { outrigger::give_back(memory); }
void operator delete[](void* memory, std::size_t) noexcept { outrigger::give_back(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { outrigger::give_back(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { outrigger::give_back(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { outrigger::give_back(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { outrigger::give_back(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { outrigger::give_back(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { outrigger::give_back(memory); }
