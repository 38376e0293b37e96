// LeasedVector: the lease lies in front of the memory that it is of.
#include "src/memory/leased_vector.h"

#include <memory>
#include <utility>

#include "src/base/bytes.h"
#include "src/device/host_pages.h"
#include "src/memory/residency.h"

namespace outrigger {
namespace {

constexpr uint64_t kHeader = 64;  // of a lease, and so that what follows is aligned to it
static_assert(sizeof(MemoryLease) <= kHeader);

thread_local LeaseSource current;

bool is_leased(const LeaseSource& source, uint64_t bytes) { return source.residency != nullptr && bytes >= least_lease(source.use); }

}  // namespace

uint64_t leased_bytes(MemoryUse use, uint64_t bytes) {
  return bytes < least_lease(use) ? 0 : (bytes + kHeader + kPageBytes - 1) / kPageBytes * kPageBytes;
}

LeaseScope::LeaseScope(TensorResidency& residency, MemoryUse use) : outer_(std::exchange(current, {&residency, use})) {}
LeaseScope::LeaseScope(MemoryUse use) : outer_(std::exchange(current, {current.residency, use})) {}
LeaseScope::~LeaseScope() { current = outer_; }
LeaseSource LeaseScope::source() { return current; }

MemoryClaim claim_of_heap(uint64_t bytes) {
  if (current.residency == nullptr) return {};
  Result<MemoryClaim> claim = current.residency->claim(current.use, bytes);
  if (!claim.is_ok()) throw std::bad_alloc();
  return std::move(claim).value();
}

std::byte* take_leased(const LeaseSource& source, uint64_t bytes) {
  if (!is_leased(source, bytes)) return static_cast<std::byte*>(::operator new(bytes));
  if (bytes > UINT64_MAX - kHeader) throw std::bad_alloc();
  Result<MemoryLease> lease = source.residency->reserve(source.use, bytes + kHeader);
  if (!lease.is_ok()) throw std::bad_alloc();
  std::byte* const memory = lease->data();
  std::construct_at(reinterpret_cast<MemoryLease*>(memory), std::move(lease).value());
  return memory + kHeader;
}

void give_back_leased(const LeaseSource& source, std::byte* memory, uint64_t bytes) noexcept {
  if (!is_leased(source, bytes)) return ::operator delete(memory);
  auto* const place = reinterpret_cast<MemoryLease*>(memory - kHeader);
  const MemoryLease lease = std::move(*place);
  std::destroy_at(place);
}

}  // namespace outrigger
