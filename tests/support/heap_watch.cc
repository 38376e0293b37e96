// HeapWatch: replaces the global operator new of the test it is linked into.
#include "tests/support/heap_watch.h"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace outrigger {
namespace {

std::atomic<uint64_t> allocations{0};
std::atomic<uint64_t> failing_number{0};  // in the count of `allocations`; 0: none

void* take(std::size_t bytes, std::size_t alignment) {
  if (allocations.fetch_add(1, std::memory_order_relaxed) + 1 == failing_number.load(std::memory_order_relaxed)) return nullptr;
  if (bytes == 0) bytes = 1;
  if (alignment <= alignof(std::max_align_t)) return std::malloc(bytes);
  return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

void* take_or_throw(std::size_t bytes, std::size_t alignment) {
  if (void* memory = take(bytes, alignment)) return memory;
  throw std::bad_alloc();
}

}  // namespace

uint64_t heap_allocations() { return allocations.load(std::memory_order_relaxed); }

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
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
