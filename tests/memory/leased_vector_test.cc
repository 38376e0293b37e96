// LeasedVector: whose memory it takes, that it is counted while it is held, and what becomes of copies.
#include "src/memory/leased_vector.h"

#include <memory>
#include <thread>
#include <utility>

#include "src/device/cpu_backend.h"
#include "src/memory/residency.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

constexpr uint64_t kBytes = 100'000, kLeased = 102'400;

struct Bench {
  explicit Bench(uint64_t budget_bytes = 0) : memory(std::move(TensorResidency::create_empty(backend, budget_bytes)).value()) {}
  uint64_t held() const { return memory->report().current_bytes; }

  CpuBackend backend;
  std::unique_ptr<TensorResidency> memory;
};

TEST_CASE("LeasedVector: what is large is a lease of the scope's residency, in whole pages, as long as it is held") {
  Bench bench;
  {
    const LeaseScope scope(*bench.memory, MemoryUse::kGrams);
    LeasedVector<std::byte> bytes(kBytes);
    CHECK(bench.held() == kLeased);
    CHECK(leased_bytes(MemoryUse::kGrams, kBytes) == kLeased);
    CHECK(reinterpret_cast<uintptr_t>(bytes.data()) % 64 == 0);
    CHECK(bench.memory->ledger().peak_bytes(MemoryUse::kGrams) == kLeased);
    CHECK(bench.memory->ledger().peak_bytes(MemoryUse::kTraining) == 0);
    const LeasedVector<std::byte> small(65'535);
    CHECK(bench.held() == kLeased);
    CHECK(leased_bytes(MemoryUse::kGrams, small.size()) == 0);
    bytes = LeasedVector<std::byte>();
    CHECK(bench.held() == 0);
  }
  CHECK(bench.memory->report().peak_bytes == kLeased);
}

TEST_CASE("LeasedVector: of what stays a page is a lease") {
  Bench bench;
  const LeaseScope scope(*bench.memory, MemoryUse::kBranches);
  const LeasedVector<std::byte> page(4096), less(4095);
  CHECK(bench.held() == 8192);  // with the lease itself
  CHECK(leased_bytes(MemoryUse::kBackbone, 4095) == 0);
}

TEST_CASE("LeasedVector: without a scope, and on other threads, it is the heap's") {
  Bench bench;
  LeasedVector<float> outside(kBytes);
  CHECK(bench.held() == 0);
  const LeaseScope scope(*bench.memory, MemoryUse::kGrams);
  std::thread([&] {
    const LeaseScope nothing(MemoryUse::kTraining);
    const LeasedVector<float> elsewhere(kBytes);
    CHECK(bench.held() == 0);
  }).join();
  outside = LeasedVector<float>(kBytes);  // which is the scope's
  CHECK(bench.held() == leased_bytes(MemoryUse::kGrams, kBytes * sizeof(float)));
}

TEST_CASE("LeasedVector: copies and what is moved keep the purpose, whatever scope they are made in") {
  Bench bench;
  const LeaseScope scope(*bench.memory, MemoryUse::kGrams);
  LeasedVector<std::byte> first(kBytes), second(kBytes, MemoryUse::kBackbone);
  const MemoryLedger& ledger = bench.memory->ledger();
  {
    const LeaseScope inner(MemoryUse::kTraining);
    const LeasedVector<std::byte> copy = first, moved = std::move(second);
    CHECK(ledger.peak_bytes(MemoryUse::kGrams) == 2 * kLeased);
    CHECK(ledger.peak_bytes(MemoryUse::kBackbone) == kLeased);
    CHECK(bench.held() == 3 * kLeased);
  }
  LeasedVector<std::byte> third(kBytes, MemoryUse::kBackbone);
  std::swap(first, third);
  first = LeasedVector<std::byte>();
  CHECK(bench.held() == kLeased);
  CHECK(bench.memory->report().current.other == kLeased);
  CHECK(ledger.peak_bytes(MemoryUse::kTraining) == 0);
}

TEST_CASE("LeasedVector: beyond the budget it throws, and the ledger says what was asked for") {
  Bench bench(kLeased);
  const LeaseScope scope(*bench.memory, MemoryUse::kMatrices);
  const LeasedVector<std::byte> fits(kBytes);
  CHECK(bench.memory->ledger().last_refusal().is_ok());
  CHECK_THROWS_AS(LeasedVector<std::byte>(kBytes), std::bad_alloc);
  const Status refusal = bench.memory->ledger().last_refusal();
  CHECK(refusal.code() == StatusCode::kBudget);
  CHECK(refusal.needed_bytes() == 2 * kLeased);
  CHECK(refusal.given_bytes() == kLeased);
  CHECK_THROWS_AS(LeasedAllocator<double>().allocate(SIZE_MAX / 4), std::bad_alloc);
  CHECK(bench.held() == kLeased);
}

TEST_CASE("LeasedVector: what a library takes by itself is counted as long as the claim lives") {
  Bench bench(kBytes);
  const LeaseScope scope(*bench.memory, MemoryUse::kGrams);
  {
    const MemoryClaim claim = claim_of_heap(kBytes);
    CHECK(bench.held() == kBytes);
    CHECK_THROWS_AS(claim_of_heap(1), std::bad_alloc);
  }
  CHECK(bench.held() == 0);
}

}  // namespace
}  // namespace outrigger
