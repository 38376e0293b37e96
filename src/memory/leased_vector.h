// LeasedVector: a vector whose memory, where it is large, is a lease of a residency.
#ifndef OUTRIGGER_SRC_MEMORY_LEASED_VECTOR_H_
#define OUTRIGGER_SRC_MEMORY_LEASED_VECTOR_H_

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <vector>

#include "src/memory/ledger.h"
#include "src/memory/memory_lease.h"

namespace outrigger {

class TensorResidency;

/// From so many bytes on a vector's memory is a lease; below that, the heap's, and not counted. What is made of a model, matrices in few
/// bits and what corrects them, stays and adds up: a page of it is one. Of the rest what a lease adds, its own count and what is missing to
/// a whole page, is at most a fifteenth.
constexpr uint64_t least_lease(MemoryUse use) { return use == MemoryUse::kBackbone || use == MemoryUse::kBranches ? 4 << 10 : 64 << 10; }

/// Bytes that the ledger counts for a vector with room for `bytes`.
uint64_t leased_bytes(MemoryUse use, uint64_t bytes);

/// Whose memory a vector takes, and what for. No residency: the heap's, whatever the size.
struct LeaseSource {
  TensorResidency* residency = nullptr;
  MemoryUse use = MemoryUse::kOther;

  bool operator==(const LeaseSource&) const = default;
};

/// Says where vectors that are made on this thread take their memory, while it lives; inner ones go before outer ones. It is the thread's
/// and not an argument, since a large part of compressing is arithmetic on matrices that has nothing else to do with who owns them.
class LeaseScope {
 public:
  /// The residency must outlive every vector made in the scope.
  LeaseScope(TensorResidency& residency, MemoryUse use);
  /// Another purpose of the residency of the scope around it; without one it does nothing.
  explicit LeaseScope(MemoryUse use);
  ~LeaseScope();
  LeaseScope(const LeaseScope&) = delete;
  LeaseScope& operator=(const LeaseScope&) = delete;

  /// Of the innermost scope of this thread.
  static LeaseSource source();

 private:
  LeaseSource outer_;
};

/// Counts what code that knows no leases takes from the heap by itself, for the scope's purpose. Throws as take_leased().
MemoryClaim claim_of_heap(uint64_t bytes);

/// Memory of at least 64 bytes' alignment where it is a lease. Throws std::bad_alloc, also when the budget is spent:
/// MemoryLedger::last_refusal() says so.
std::byte* take_leased(const LeaseSource& source, uint64_t bytes);
/// With the same arguments that it was taken with.
void give_back_leased(const LeaseSource& source, std::byte* memory, uint64_t bytes) noexcept;

/// Takes what its scope said when the vector was made; copies and those that are moved to go on with the source's.
template <typename T>
class LeasedAllocator {
 public:
  using value_type = T;
  using propagate_on_container_copy_assignment = std::true_type;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;
  using is_always_equal = std::false_type;

  LeasedAllocator() noexcept : source_(LeaseScope::source()) {}
  /// The scope's residency, for another purpose.
  LeasedAllocator(MemoryUse use) noexcept : source_{LeaseScope::source().residency, use} {}  // NOLINT: a purpose stands for it
  template <typename Other>
  LeasedAllocator(const LeasedAllocator<Other>& other) noexcept : source_(other.source()) {}  // NOLINT: as allocators convert

  T* allocate(size_t count) {
    if (count > SIZE_MAX / sizeof(T)) throw std::bad_alloc();
    return reinterpret_cast<T*>(take_leased(source_, count * sizeof(T)));
  }
  void deallocate(T* memory, size_t count) noexcept { give_back_leased(source_, reinterpret_cast<std::byte*>(memory), count * sizeof(T)); }

  const LeaseSource& source() const { return source_; }
  template <typename Other>
  bool operator==(const LeasedAllocator<Other>& other) const {
    return source_ == other.source();
  }

 private:
  LeaseSource source_;
};

/// Threads: as std::vector; made, grown and destroyed by any thread. Must not outlive its residency.
template <typename T>
using LeasedVector = std::vector<T, LeasedAllocator<T>>;

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MEMORY_LEASED_VECTOR_H_
