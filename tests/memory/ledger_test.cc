// MemoryLedger: the sums, the budget's edge, and the peak.
#include "src/memory/ledger.h"

#include <thread>
#include <vector>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

TEST_CASE("MemoryLedger: counts each purpose by itself and all together") {
  MemoryLedger ledger(10'000, 9'000);
  const MemoryUse uses[] = {MemoryUse::kWeights, MemoryUse::kStreamSlots, MemoryUse::kKvCache, MemoryUse::kActivations,
                            MemoryUse::kDraft,   MemoryUse::kBranches,    MemoryUse::kOther};
  uint64_t bytes = 1;
  for (const MemoryUse use : uses) {
    REQUIRE(ledger.charge(use, bytes).is_ok());
    bytes *= 2;
  }
  const TierUse use = ledger.report();
  REQUIRE(use.current.weights_resident == 1);
  REQUIRE(use.current.stream_slots == 2);
  REQUIRE(use.current.kv_cache == 4);
  REQUIRE(use.current.activations == 8);
  REQUIRE(use.current.draft == 16);
  REQUIRE(use.current.branches == 32);
  REQUIRE(use.current.other == 64);
  REQUIRE(use.current_bytes == 127);
  REQUIRE(use.budget_bytes == 10'000);
  REQUIRE(use.planned_bytes == 9'000);
}

TEST_CASE("MemoryLedger: the last byte of the budget is given, one more is refused and not counted") {
  MemoryLedger ledger(4096, 0);
  REQUIRE(ledger.charge(MemoryUse::kWeights, 4000).is_ok());
  const Status refused = ledger.charge(MemoryUse::kKvCache, 97);
  REQUIRE(refused.code() == StatusCode::kBudget);
  REQUIRE(refused.needed_bytes() == 4097);
  REQUIRE(refused.given_bytes() == 4096);
  REQUIRE(refused.message().find("the KV cache") != std::string::npos);
  REQUIRE(ledger.report().current_bytes == 4000);
  REQUIRE(ledger.report().peak_bytes == 4000);
  REQUIRE(ledger.charge(MemoryUse::kKvCache, 96).is_ok());
  REQUIRE(ledger.report().current_bytes == 4096);
}

TEST_CASE("MemoryLedger: the peak stays when bytes are given back, and what was given back can be had again") {
  MemoryLedger ledger(1000, 0);
  REQUIRE(ledger.charge(MemoryUse::kActivations, 700).is_ok());
  ledger.refund(MemoryUse::kActivations, 700);
  REQUIRE(ledger.report().current_bytes == 0);
  REQUIRE(ledger.report().peak_bytes == 700);
  REQUIRE(ledger.charge(MemoryUse::kActivations, 900).is_ok());
  REQUIRE(ledger.report().peak_bytes == 900);
}

TEST_CASE("MemoryLedger: a budget of 0 is none, but a sum beyond 64 bits is refused even so") {
  MemoryLedger ledger(0, 0);
  REQUIRE(ledger.charge(MemoryUse::kWeights, UINT64_MAX - 5).is_ok());
  REQUIRE(ledger.charge(MemoryUse::kOther, 6).code() == StatusCode::kBudget);
  REQUIRE(ledger.charge(MemoryUse::kOther, 5).is_ok());
}

TEST_CASE("MemoryLedger: threads that charge and refund at once never exceed the budget and leave nothing behind") {
  MemoryLedger ledger(1000, 0);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        if (!ledger.charge(MemoryUse::kOther, 300).is_ok()) continue;
        if (ledger.charge(MemoryUse::kDraft, 150).is_ok()) ledger.refund(MemoryUse::kDraft, 150);
        ledger.refund(MemoryUse::kOther, 300);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  REQUIRE(ledger.report().current_bytes == 0);
  REQUIRE(ledger.report().peak_bytes <= 1000);
  REQUIRE(ledger.report().peak_bytes >= 300);
}

}  // namespace
}  // namespace outrigger
