// TensorResidency: what it reserves, what it refuses, and that it leaves nothing behind.
#include "src/memory/residency.h"

#include <cstring>

#include "src/tensor/dequantize.h"
#include "tests/memory/scenario.h"
#include "tests/support/catch.h"
#include "tests/support/heap_watch.h"

namespace outrigger {
namespace {

Scenario small_model() {
  Scenario scenario;
  scenario.add(DType::kF16, 40, 33, MatrixUse::kRowLookup);
  scenario.add(DType::kQ8_0, 50, 96);
  scenario.add(DType::kQ4_1, 100, 64);
  scenario.add(DType::kBF16, 33, 20);
  scenario.add(DType::kQ4_0, 70, 32, MatrixUse::kLogits, true);
  return scenario;
}

std::vector<float> row_of_file(const Scenario& scenario, uint32_t matrix, uint64_t row) {
  const WeightSource& weight = scenario.weights[matrix];
  std::vector<float> values(weight.columns);
  REQUIRE(
      dequantize(weight.type, scenario.file.data() + weight.file_offset + row * weight.row_bytes, values.data(), weight.columns).is_ok());
  return values;
}

TEST_CASE("TensorResidency: the ledger's bytes after create are the plan's, to the byte, and so are the backend's") {
  for (unsigned round = 0; round < 100; ++round) {
    CAPTURE(round);
    Scenario scenario;
    scenario.random.seed(round);
    scenario.shape.fixed_bytes = scenario.random() % 3 == 0 ? 0 : scenario.random() % 9000;
    scenario.add_random_model(6);
    const Plan plan = scenario.plan(scenario.some(), 2 + scenario.random() % 3);
    FakeBackend backend;
    {
      auto residency = TensorResidency::create(backend, scenario.source(), scenario.shape, scenario.weights, plan);
      REQUIRE(residency.is_ok());
      const TierUse use = residency.value()->report();
      REQUIRE(use.current.weights_resident == plan.host.breakdown.weights_resident);
      REQUIRE(use.current.stream_slots == plan.host.breakdown.stream_slots);
      REQUIRE(use.current_bytes == backend.current_bytes);
      {
        auto kv = residency.value()->reserve(MemoryUse::kKvCache, plan.host.breakdown.kv_cache);
        auto activations = residency.value()->reserve(MemoryUse::kActivations, plan.host.breakdown.activations);
        REQUIRE(kv.is_ok());
        REQUIRE(activations.is_ok());
        REQUIRE(residency.value()->report().current_bytes == plan.host.planned_bytes);
        REQUIRE(residency.value()->reserve(MemoryUse::kOther, 1).status().code() == StatusCode::kBudget);
      }
      REQUIRE(residency.value()->report().current_bytes == use.current_bytes);
      REQUIRE(residency.value()->report().peak_bytes == plan.host.planned_bytes);
    }
    REQUIRE(backend.current_bytes == 0);
  }
}

TEST_CASE("TensorResidency: the fixed memory is zeroed, aligned, apart from the matrices, and null when there is none") {
  Scenario scenario = small_model();
  FakeBackend backend;
  auto residency =
      TensorResidency::create(backend, scenario.source(), scenario.shape, scenario.weights, scenario.plan(scenario.all(false)));
  REQUIRE(residency.is_ok());
  std::byte* fixed = residency.value()->fixed_memory();
  REQUIRE(fixed != nullptr);
  REQUIRE(reinterpret_cast<uintptr_t>(fixed) % 64 == 0);
  for (uint64_t i = 0; i < scenario.shape.fixed_bytes; ++i) REQUIRE(fixed[i] == std::byte{0});
  for (uint32_t m = 0; m < scenario.weights.size(); ++m) {
    REQUIRE(residency.value()->is_resident(m));
    const std::byte* begin = residency.value()->operand({m, 0, 1});
    REQUIRE(reinterpret_cast<uintptr_t>(begin) % kPackAlignment == 0);
    REQUIRE((begin + scenario.shape.matrices[m].packed_bytes <= fixed || begin >= fixed + scenario.shape.fixed_bytes));
  }

  scenario.shape.fixed_bytes = 0;
  auto none = TensorResidency::create(backend, scenario.source(), scenario.shape, scenario.weights, scenario.plan(scenario.all(false)));
  REQUIRE(none.is_ok());
  REQUIRE(none.value()->fixed_memory() == nullptr);
}

TEST_CASE("TensorResidency: whichever allocation of the backend fails, create says so and gives everything back") {
  const Scenario scenario = small_model();
  const Plan plan = scenario.plan({true, true, false, true, true});
  for (uint64_t nth = 1;; ++nth) {
    CAPTURE(nth);
    FakeBackend backend;
    backend.failing_allocation = nth;
    {
      auto residency = TensorResidency::create(backend, scenario.source(), scenario.shape, scenario.weights, plan);
      if (residency.is_ok()) {
        REQUIRE(nth == 5);  // weights, ring, staging, row buffer
        break;
      }
      REQUIRE(residency.status().code() == StatusCode::kOutOfMemory);
    }
    REQUIRE(backend.current_bytes == 0);
    REQUIRE(backend.allocations == nth);
  }
}

TEST_CASE("TensorResidency: whichever allocation of the heap fails, create says so and gives everything back") {
  const Scenario scenario = small_model();
  const Plan plan = scenario.plan({true, true, false, true, true});
  const auto source = scenario.source();
  uint64_t failures = 0;
  for (uint64_t nth = 1;; ++nth) {
    CAPTURE(nth);
    FakeBackend backend;
    std::vector<WeightSource> weights = scenario.weights;
    bool has_happened = false, is_ok = false;
    StatusCode code = StatusCode::kOk;
    {
      const FailingAllocation failing(nth);
      auto residency = TensorResidency::create(backend, source, scenario.shape, std::move(weights), plan);
      has_happened = failing.has_happened();
      is_ok = residency.is_ok();
      code = residency.is_ok() ? StatusCode::kOk : std::as_const(residency).status().code();
    }
    REQUIRE(backend.current_bytes == 0);
    if (!has_happened) {
      REQUIRE(is_ok);
      break;
    }
    ++failures;
    REQUIRE(code == StatusCode::kOutOfMemory);
  }
  REQUIRE(failures >= 5);
}

TEST_CASE("TensorResidency: a budget that the plan does not fit is refused before anything is allocated") {
  const Scenario scenario = small_model();
  Plan plan = scenario.plan(scenario.all(false));
  --plan.host.budget_bytes;
  FakeBackend backend;
  auto residency = TensorResidency::create(backend, scenario.source(), scenario.shape, scenario.weights, plan);
  REQUIRE(residency.status().code() == StatusCode::kInvalidArgument);
  REQUIRE(backend.allocations == 0);
}

TEST_CASE("TensorResidency: weights that are not those of the shape or not in the source are refused with their name") {
  const Scenario right = small_model();
  const Plan plan = right.plan(right.all(true));
  const auto refusal = [&](const std::function<void(Scenario&)>& spoil) {
    Scenario wrong = right;
    spoil(wrong);
    FakeBackend backend;
    auto residency = TensorResidency::create(backend, wrong.source(), wrong.shape, wrong.weights, plan);
    REQUIRE_FALSE(residency.is_ok());
    REQUIRE(backend.allocations == 0);
    return residency.status();
  };
  REQUIRE(refusal([](Scenario& s) { s.weights.pop_back(); }).code() == StatusCode::kInvalidArgument);
  REQUIRE(refusal([](Scenario& s) { ++s.weights[1].rows; }).subject() == "matrix1");
  REQUIRE(refusal([](Scenario& s) { s.weights[2].columns = 32; }).subject() == "matrix2");
  REQUIRE(refusal([](Scenario& s) { --s.weights[3].row_bytes; }).subject() == "matrix3");
  REQUIRE(refusal([](Scenario& s) { s.weights[3].type = DType::kIQ2_XXS; }).code() == StatusCode::kUnsupported);
  REQUIRE(refusal([](Scenario& s) { s.weights[4].file_offset = s.file.size() - 10; }).subject() == "matrix4");
  REQUIRE(refusal([](Scenario& s) { s.weights[4].file_offset = UINT64_MAX - 10; }).subject() == "matrix4");
  REQUIRE(refusal([](Scenario& s) { s.shape.matrices[1].row_block_bytes /= 2; }).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("TensorResidency: reserved memory is in whole pages, zeroed, counted while it is held and moves without being counted twice") {
  const Scenario scenario = small_model();
  FakeBackend backend;
  auto residency =
      TensorResidency::create(backend, scenario.source(), scenario.shape, scenario.weights, scenario.plan(scenario.all(false)));
  REQUIRE(residency.is_ok());
  const uint64_t before = residency.value()->report().current_bytes;
  {
    auto result = residency.value()->reserve(MemoryUse::kKvCache, 5000);
    REQUIRE(result.is_ok());
    MemoryLease lease = std::move(result).value();
    REQUIRE(lease.bytes() == 8192);
    REQUIRE(reinterpret_cast<uintptr_t>(lease.data()) % 4096 == 0);
    REQUIRE(std::all_of(lease.data(), lease.data() + 8192, [](std::byte b) { return b == std::byte{0}; }));
    REQUIRE(residency.value()->report().current.kv_cache == 8192);

    MemoryLease other = std::move(lease);
    REQUIRE(residency.value()->report().current.kv_cache == 8192);
    auto second = residency.value()->reserve(MemoryUse::kActivations, 1);
    REQUIRE(second.is_ok());
    other = std::move(second).value();  // gives the cache back
    REQUIRE(residency.value()->report().current.kv_cache == 0);
    REQUIRE(residency.value()->report().current.activations == 4096);

    auto none = residency.value()->reserve(MemoryUse::kDraft, 0);
    REQUIRE(none.is_ok());
    REQUIRE(none.value().data() == nullptr);
    REQUIRE(residency.value()->reserve(MemoryUse::kDraft, UINT64_MAX - 3).status().code() == StatusCode::kBudget);
    backend.failing_allocation = backend.allocations + 1;
    REQUIRE(residency.value()->reserve(MemoryUse::kDraft, 100).status().code() == StatusCode::kOutOfMemory);
    REQUIRE(residency.value()->report().current.draft == 0);
  }
  REQUIRE(residency.value()->report().current_bytes == before);
  REQUIRE(backend.current_bytes == before);
}

TEST_CASE("TensorResidency: a row is the same from memory and from the file, and only the latter counts as streamed") {
  const Scenario scenario = small_model();
  auto team = ThreadTeam::create(1);
  REQUIRE(team.is_ok());
  for (const bool streamed : {false, true}) {
    CAPTURE(streamed);
    FakeBackend backend;
    auto source = scenario.source();
    auto residency = TensorResidency::create(backend, source, scenario.shape, scenario.weights, scenario.plan(scenario.all(streamed)));
    REQUIRE(residency.is_ok());
    REQUIRE(residency.value()->load(*team.value(), {}, {}).is_ok());
    uint64_t streamed_bytes = 0;
    for (const uint32_t matrix : {0u, 4u}) {
      std::vector<float> row(scenario.weights[matrix].columns);
      for (const uint64_t index : {uint64_t{0}, uint64_t{1}, uint64_t{17}, scenario.weights[matrix].rows - 1}) {
        REQUIRE(residency.value()->read_row(matrix, index, row.data()).is_ok());
        REQUIRE(row == row_of_file(scenario, matrix, index));
        if (streamed) streamed_bytes += scenario.weights[matrix].row_bytes;
      }
    }
    REQUIRE(residency.value()->streamed_bytes() == streamed_bytes);
    std::vector<float> row(scenario.weights[0].columns);
    source->has_changed = true;
    REQUIRE(residency.value()->read_row(0, 3, row.data()).code() == (streamed ? StatusCode::kIo : StatusCode::kOk));
  }
}

}  // namespace
}  // namespace outrigger
