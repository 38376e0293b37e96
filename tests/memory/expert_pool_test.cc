// ExpertPool: steps over random routings, with every expert's bytes compared while it is in use.
#include "src/memory/expert_pool.h"

#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include "src/memory/residency.h"
#include "tests/memory/scenario.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

struct Pooled {
  Scenario scenario;
  Plan plan;
  FakeBackend backend;
  std::shared_ptr<FakeSource> source;
  std::unique_ptr<TensorResidency> residency;
  uint32_t layers, experts, used;
  std::vector<std::vector<std::byte>> packed;  ///< per matrix: the whole stack
  std::vector<ExpertUse> uses;
  std::vector<uint32_t> wave_ends;
  uint64_t mismatches = 0;

  Pooled(uint32_t layer_count, uint32_t expert_count, uint32_t used_count, uint32_t slots, unsigned seed)
      : layers(layer_count), experts(expert_count), used(used_count) {
    scenario.random.seed(seed);
    for (uint32_t layer = 0; layer < layers; ++layer) {
      for (const uint64_t rows : {48, 48, 40}) add_stack(layer, rows);
    }
    scenario.shape.used_experts = used;
    plan = scenario.plan(scenario.all(false));
    place(slots);
    source = scenario.source();
    auto made = TensorResidency::create(backend, source, scenario.shape, scenario.weights, plan);
    REQUIRE(made.is_ok());
    residency = std::move(made).value();
  }

  void add_stack(uint32_t layer, uint64_t rows) {
    const DType type = layer % 2 == 0 ? DType::kQ4_1 : DType::kQ8_0;
    scenario.add(type, rows * experts, 64, MatrixUse::kRouted);
    WeightSource& weight = scenario.weights.back();
    MatrixShape& matrix = scenario.shape.matrices.back();
    weight.rows = matrix.rows = rows;
    weight.experts = matrix.experts = experts;
    matrix.layer = layer;
    matrix.packed_bytes = packed_bytes(weight.kind, rows, 64) * experts;
    std::vector<std::byte>& whole = packed.emplace_back(matrix.packed_bytes);
    for (uint32_t expert = 0; expert < experts; ++expert) {
      pack_rows(type, scenario.file.data() + weight.file_offset + expert * weight.expert_file_bytes(), rows, 64,
                whole.data() + expert * matrix.expert_packed_bytes());
    }
  }

  // The stacks out of memory, and slots instead.
  void place(uint32_t slots) {
    uint64_t largest = 0, bytes = 0;
    for (size_t i = 0; i < scenario.shape.matrices.size(); ++i) {
      bytes = (i % 3 == 0 ? 0 : bytes) + scenario.shape.matrices[i].expert_packed_bytes();
      largest = std::max(largest, bytes);
      plan.tensors[i].mode = Residence::kStreamed;
    }
    plan.expert_slots = slots;
    plan.expert_slot_bytes = Scenario::pages(largest);
    const uint32_t arrivals = expert_arrivals(slots);
    plan.reads = std::min(4u, 3 * arrivals);
    plan.staging_bytes = arrivals * arrival_bytes();
    TierBreakdown& parts = plan.host.breakdown;
    parts.weights_resident = Scenario::pages(scenario.shape.fixed_bytes);
    parts.stream_slots = plan.staging_bytes;
    parts.experts = plan.expert_slots * plan.expert_slot_bytes;
    plan.host.planned_bytes = plan.host.budget_bytes = parts.total();
  }

  // Three matrices, each in one read, which begins anywhere in a page.
  uint64_t arrival_bytes() const {
    uint64_t largest = 0;
    for (size_t i = 0; i < weights(); i += 3) {
      uint64_t bytes = 0;
      for (size_t part = i; part < i + 3; ++part) {
        const WeightSource& weight = scenario.weights[part];
        bytes += Scenario::pages(weight.blocks_per_expert() * weight.block_file_bytes() + 4095);
      }
      largest = std::max(largest, bytes);
    }
    return largest;
  }
  size_t weights() const { return scenario.weights.size(); }

  ExpertPool& pool() { return *residency->experts(); }

  std::vector<uint32_t> draw(uint32_t count) {
    std::vector<uint32_t> all(experts);
    for (uint32_t i = 0; i < experts; ++i) all[i] = i;
    std::shuffle(all.begin(), all.end(), scenario.random);
    all.resize(count);
    return all;
  }

  void route(uint32_t layer, const std::vector<uint32_t>& chosen) {
    uses.clear();
    for (const uint32_t expert : chosen) uses.push_back({expert, 0, 1, 0});
    wave_ends.assign(pool().waves(static_cast<uint32_t>(chosen.size())), 0);
    pool().route(layer, uses, wave_ends);
  }

  // What has arrived is packed first, as those who multiply with it do, a few row blocks at a time.
  void compare(uint32_t layer, uint32_t wave) {
    for (uint32_t i = wave == 0 ? 0 : wave_ends[wave - 1]; i < wave_ends[wave]; ++i) {
      for (uint32_t part = 0; part < 3; ++part) {
        const uint32_t matrix = layer * 3 + part;
        if (uses[i].arrival != ExpertArrivals::kNone) pack(layer, uses[i], part);
        const uint64_t bytes = scenario.shape.matrices[matrix].expert_packed_bytes();
        mismatches += std::memcmp(pool().part(layer, uses[i], part), packed[matrix].data() + uses[i].expert * bytes, bytes) != 0;
      }
    }
  }

  void pack(uint32_t layer, const ExpertUse& use, uint32_t part) {
    const WeightSource& weight = scenario.weights[layer * 3 + part];
    const auto blocks = static_cast<uint32_t>(weight.blocks_per_expert());
    std::memset(pool().part(layer, use, part), 0x5a, packed_bytes(weight.kind, weight.rows, weight.columns));
    for (uint32_t block = 0, some = 0; block < blocks; block += some) {
      const ArrivedRows rows = pool().arrived(use, part, block);
      some = std::min(2u, rows.blocks);
      weight.place(rows.data, weight.file_bytes(uint64_t{use.expert} * blocks + block, some),
                   pool().part(layer, use, part) + block * packed_block_bytes(weight.kind, weight.columns));
    }
  }

  Status guess(uint32_t layer, const std::vector<uint32_t>& experts, bool is_certain = false) {
    pool().guess(layer, experts, is_certain);
    return pool().request();
  }

  // One layer as the graph runs it.
  Status layer(uint32_t index, const std::vector<uint32_t>& chosen) {
    route(index, chosen);
    return run_layer(index);
  }
  Status run_layer(uint32_t index) {
    Status status = pool().request();
    for (uint32_t wave = 0; wave < wave_ends.size() && status.is_ok(); ++wave) {
      if (wave > 0) status = pool().arrive(wave);
      if (status.is_ok()) compare(index, wave), pool().release(wave);
    }
    return status;
  }
};

TEST_CASE("ExpertPool: whatever is routed, every expert has the file's bytes while its wave is computed") {
  for (const uint32_t slots : {1u, 2u, 3u, 5u, 11u, 20u, 40u}) {
    CAPTURE(slots);
    Pooled pooled(4, 10, 2, slots, slots);
    for (int step = 0; step < 30; ++step) {
      CAPTURE(step);
      const uint32_t count = step % 3 == 0 ? 10 : 2 + step % 5;
      for (uint32_t layer = 0; layer < 4; ++layer) REQUIRE(pooled.layer(layer, pooled.draw(count)).is_ok());
      REQUIRE(pooled.mismatches == 0);
    }
    const ExpertReport report = pooled.pool().report();
    REQUIRE(report.uses > 0);
    REQUIRE(report.hits + report.reads >= report.uses);
    if (slots >= 11) REQUIRE(report.hits > report.uses / 8);
    REQUIRE(pooled.residency->report().peak_bytes <= pooled.plan.host.planned_bytes);
  }
}

TEST_CASE("ExpertPool: with a slot for every expert each is read once") {
  Pooled pooled(3, 6, 2, 18, 1);
  for (int step = 0; step < 20; ++step) {
    for (uint32_t layer = 0; layer < 3; ++layer) REQUIRE(pooled.layer(layer, pooled.draw(6)).is_ok());
  }
  REQUIRE(pooled.mismatches == 0);
  REQUIRE(pooled.pool().report().reads == 18);
  uint64_t bytes = 0;
  for (const MatrixShape& matrix : pooled.scenario.shape.matrices) bytes += matrix.file_bytes;
  REQUIRE(pooled.residency->streamed_bytes() == bytes);
}

TEST_CASE("ExpertPool: what tokens find in slots says how texts come back to experts, whatever larger steps find") {
  Pooled pooled(2, 16, 2, 8, 4);  // a quarter of all
  const auto step = [&](const std::vector<uint32_t>& chosen) {
    for (uint32_t layer = 0; layer < 2; ++layer) REQUIRE(pooled.layer(layer, chosen).is_ok());
  };
  REQUIRE(pooled.pool().report().repetition == 1);
  step(pooled.draw(16));
  REQUIRE(pooled.pool().report().token_uses == 0);
  REQUIRE(pooled.pool().report().repetition == 1);
  const uint64_t hits_before = pooled.pool().report().hits;
  for (int token = 0; token < 100; ++token) step({3, static_cast<uint32_t>(4 + token / 20)});
  const ExpertReport report = pooled.pool().report();
  REQUIRE(report.token_uses == 400);
  REQUIRE(report.token_hits == report.hits - hits_before);
  REQUIRE(report.token_hits >= 400 - 2 * 6);  // each expert was read once at most
  const double missed = (400.5 - static_cast<double>(report.token_hits)) / 401;
  REQUIRE(std::pow(0.75, report.repetition) == Approx(missed));
  for (int token = 0; token < 3000; ++token) step(pooled.draw(2));
  REQUIRE(pooled.pool().report().repetition < 1.5);
  REQUIRE(pooled.pool().report().repetition >= 1);
}

TEST_CASE("ExpertPool: a right guess is counted as right, a wrong one as wrong, and neither changes a byte") {
  Pooled pooled(4, 16, 2, 32, 5);
  REQUIRE(pooled.pool().most_guesses() > 1);
  for (uint32_t step = 0; step < 40; ++step) {
    for (uint32_t layer = 0; layer < 4; ++layer) {
      const std::vector<uint32_t> next = pooled.draw(2);
      REQUIRE(pooled.guess(layer, layer != 3 ? next : pooled.draw(2)).is_ok());
      REQUIRE(pooled.layer(layer, next).is_ok());
    }
  }
  const ExpertReport report = pooled.pool().report();
  REQUIRE(pooled.mismatches == 0);
  REQUIRE(report.right_guesses > report.guesses / 3);
  REQUIRE(report.right_guesses < report.guesses);
}

TEST_CASE("ExpertPool: guesses that are mostly wrong are no longer read, but still counted") {
  Pooled pooled(2, 16, 1, 16, 6);
  uint64_t reads_before = 0;
  for (uint32_t step = 0; step < 1500; ++step) {
    if (step == 1000) reads_before = pooled.pool().report().reads;
    REQUIRE(pooled.guess(0, std::vector<uint32_t>{step % 15 + 1, (step + 1) % 15 + 1}).is_ok());
    REQUIRE(pooled.layer(0, {0}).is_ok());
    REQUIRE(pooled.layer(1, {0}).is_ok());
  }
  REQUIRE(pooled.pool().report().reads == reads_before);
  REQUIRE(pooled.pool().report().guesses > 150);
}

TEST_CASE("ExpertPool: what is certain is read whatever became of earlier guesses, and is not counted") {
  Pooled pooled(2, 16, 1, 16, 6);
  REQUIRE(pooled.pool().most_guesses() == 1);
  for (uint32_t step = 0; step < 600; ++step) {  // until guesses are no longer read
    REQUIRE(pooled.guess(0, std::vector<uint32_t>{step % 15 + 1, (step + 1) % 15 + 1}).is_ok());
    REQUIRE(pooled.layer(0, {0}).is_ok());
    REQUIRE(pooled.layer(1, {0}).is_ok());
  }
  const ExpertReport before = pooled.pool().report();
  std::vector<uint32_t> all(16);
  for (uint32_t expert = 0; expert < 16; ++expert) all[expert] = expert;
  REQUIRE(pooled.guess(0, all, true).is_ok());
  // Places may still be taken by reads of wrong guesses, which nobody waits for.
  for (int i = 0; i < 5000 && pooled.pool().report().reads == before.reads; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    REQUIRE(pooled.pool().request().is_ok());
  }
  REQUIRE(pooled.pool().report().reads > before.reads);
  REQUIRE(pooled.layer(0, all).is_ok());
  REQUIRE(pooled.pool().report().guesses == before.guesses);
  REQUIRE(pooled.mismatches == 0);
}

TEST_CASE("ExpertPool: guesses that are under way when the layer is routed are finished if they are wanted and given up if not") {
  for (int round = 0; round < 30; ++round) {
    CAPTURE(round);
    Pooled pooled(2, 16, 2, 32, static_cast<unsigned>(round));
    pooled.source->on_read = [] { std::this_thread::sleep_for(std::chrono::microseconds(200)); };
    REQUIRE(pooled.layer(0, {1, 2}).is_ok());
    REQUIRE(pooled.guess(1, {3, 4}).is_ok());
    std::this_thread::sleep_for(std::chrono::microseconds(round * 40));
    const uint64_t reads_before = pooled.pool().report().reads;
    REQUIRE(pooled.layer(1, {4, 5}).is_ok());
    REQUIRE(pooled.pool().report().reads == reads_before + 1);  // of 5 alone
    REQUIRE(pooled.layer(0, pooled.draw(16)).is_ok());
    REQUIRE(pooled.layer(1, pooled.draw(16)).is_ok());
    REQUIRE(pooled.mismatches == 0);
  }
}

TEST_CASE("ExpertPool: a guess that was right counts as a hit only if it had come") {
  Pooled pooled(2, 16, 2, 32, 3);
  REQUIRE(pooled.layer(0, {1, 2}).is_ok());
  REQUIRE(pooled.guess(1, {3, 4}).is_ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const uint64_t before = pooled.pool().report().hits;
  REQUIRE(pooled.layer(1, {3, 4}).is_ok());
  REQUIRE(pooled.pool().report().hits == before + 2);
  pooled.source->on_read = [] { std::this_thread::sleep_for(std::chrono::milliseconds(30)); };
  REQUIRE(pooled.guess(1, {6, 7}).is_ok());
  REQUIRE(pooled.layer(1, {6, 7}).is_ok());
  REQUIRE(pooled.pool().report().hits == before + 2);
  REQUIRE(pooled.mismatches == 0);
}

TEST_CASE("ExpertPool: whichever read fails, a call says so, and after invalidate() the next step is right") {
  Pooled pooled(3, 8, 2, 6, 2);
  for (uint64_t nth = 1; nth <= 40; ++nth) {
    CAPTURE(nth);
    pooled.source->failing_read = pooled.source->reads + nth;
    Status status;
    for (uint32_t layer = 0; layer < 3 && status.is_ok(); ++layer) status = pooled.layer(layer, pooled.draw(8));
    const bool has_failed = pooled.source->reads >= pooled.source->failing_read;
    pooled.source->failing_read = 0;
    REQUIRE(status.code() == (has_failed ? StatusCode::kIo : StatusCode::kOk));
    if (has_failed) pooled.residency->invalidate();
    for (uint32_t layer = 0; layer < 3; ++layer) REQUIRE(pooled.layer(layer, pooled.draw(3)).is_ok());
    REQUIRE(pooled.mismatches == 0);
  }
}

}  // namespace
}  // namespace outrigger
