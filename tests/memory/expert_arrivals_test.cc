// ExpertArrivals: experts of any size arrive as the file has them, in whatever order the disk delivers.
#include "src/memory/expert_arrivals.h"

#include <chrono>
#include <cstring>
#include <thread>

#include "tests/memory/scenario.h"
#include "tests/support/aligned_buffer.h"
#include "tests/support/catch.h"
#include "tests/support/heap_watch.h"

namespace outrigger {
namespace {

constexpr uint32_t kExperts = 6;

// Two layers of experts; those of the second have matrices of more than one read.
struct Arriving {
  Scenario scenario;
  std::shared_ptr<FakeSource> source;
  std::vector<ExpertLayer> layers;
  AlignedBuffer memory;
  std::unique_ptr<ExpertArrivals> arrivals;

  explicit Arriving(uint32_t places) : memory(0) {
    for (const auto& [layer, type, rows, columns] : {std::tuple{0u, DType::kQ4_1, 40u, 64u}, {0u, DType::kQ8_0, 33u, 64u},
                                                      {1u, DType::kF16, 1900u, 512u}, {1u, DType::kQ4_1, 48u, 96u}}) {
      add_stack(layer, type, rows, columns);
    }
    layers = expert_layers(scenario.shape);
    source = scenario.source();
    memory = AlignedBuffer(places * expert_arrival_bytes(layers));
    auto made = ExpertArrivals::create(source, scenario.weights, layers, memory.span(), places);
    REQUIRE(made.is_ok());
    arrivals = std::move(made).value();
  }

  void add_stack(uint32_t layer, DType type, uint64_t rows, uint64_t columns) {
    scenario.add(type, rows * kExperts, columns, MatrixUse::kRouted);
    WeightSource& weight = scenario.weights.back();
    MatrixShape& matrix = scenario.shape.matrices.back();
    weight.rows = matrix.rows = rows;
    weight.experts = matrix.experts = kExperts;
    matrix.layer = layer;
    matrix.packed_bytes = packed_bytes(weight.kind, rows, columns) * kExperts;
  }

  Status arrive(uint32_t place) {
    while (!arrivals->has_arrived(place)) {
      if (Status status = arrivals->wait(); !status.is_ok()) return status;
    }
    return {};
  }

  // Every row of every part, in pieces as they came, begun at any row block.
  bool is_right(uint32_t place, uint32_t layer, uint32_t expert) const {
    for (uint32_t part = 0; part < layers[layer].parts.size(); ++part) {
      const ExpertPart& its = layers[layer].parts[part];
      const WeightSource& weight = scenario.weights[its.matrix];
      for (uint32_t block = 0, step = 0; block < its.blocks; block += step) {
        const ArrivedRows rows = arrivals->rows(place, part, block);
        if (rows.blocks == 0 || block + rows.blocks > its.blocks) return false;
        step = 1 + (rows.blocks - 1) / 2;
        const uint64_t first = expert * weight.blocks_per_expert() + block;
        if (std::memcmp(rows.data, scenario.file.data() + weight.offset_of(first), weight.file_bytes(first, rows.blocks)) != 0)
          return false;
      }
    }
    return true;
  }
};

TEST_CASE("ExpertArrivals: every expert has the file's bytes when it has arrived, in any order of waiting") {
  for (const uint32_t places : {1u, 2u, 3u, 5u}) {
    CAPTURE(places);
    Arriving arriving(places);
    REQUIRE(arriving.layers[1].parts[0].reads() > 1);
    for (unsigned round = 0; round < 30; ++round) {
      std::vector<std::pair<uint32_t, uint32_t>> asked;  // place and expert
      const uint32_t layer = arriving.scenario.random() % 2, first = arriving.scenario.random() % kExperts;
      for (uint32_t i = 0; i < std::min(places, kExperts); ++i) {
        REQUIRE(arriving.arrivals->has_room());
        const uint32_t expert = (first + i) % kExperts;
        auto place = arriving.arrivals->request(layer, expert);
        REQUIRE(place.is_ok());
        REQUIRE(arriving.arrivals->find(layer, expert) == place.value());
        asked.push_back({place.value(), expert});
      }
      REQUIRE_FALSE(arriving.arrivals->has_room());
      std::shuffle(asked.begin(), asked.end(), arriving.scenario.random);
      for (const auto& [place, expert] : asked) {
        REQUIRE(arriving.arrive(place).is_ok());
        REQUIRE(arriving.is_right(place, layer, expert));
        REQUIRE(arriving.arrivals->times(place).requested_ns <= arriving.arrivals->times(place).arrived_ns);
      }
      for (const auto& [place, expert] : asked) arriving.arrivals->release(place);
    }
  }
}

TEST_CASE("ExpertArrivals: what is no longer wanted is not found, keeps its place while it is read, and then makes room") {
  Arriving arriving(2);
  for (int round = 0; round < 20; ++round) {
    CAPTURE(round);
    const uint32_t unwanted = arriving.arrivals->request(1, 3).value(), wanted = arriving.arrivals->request(1, 4).value();
    arriving.arrivals->release_unless([](uint32_t, uint32_t expert) { return expert == 4; });
    REQUIRE(arriving.arrivals->find(1, 3) == ExpertArrivals::kNone);
    while (!arriving.arrivals->has_room()) REQUIRE(arriving.arrivals->wait().is_ok());
    const uint32_t again = arriving.arrivals->request(1, 3).value();
    REQUIRE(again == unwanted);
    for (const auto& [place, expert] : {std::pair{wanted, 4u}, {again, 3u}}) {
      REQUIRE(arriving.arrive(place).is_ok());
      REQUIRE(arriving.is_right(place, 1, expert));
      arriving.arrivals->release(place);
    }
  }
}

TEST_CASE("ExpertArrivals: reads of what was given up that had not begun are never made") {
  // 300 experts of several reads each: more than the queue takes at once.
  Arriving arriving(300);
  arriving.source->on_read = [] { std::this_thread::sleep_for(std::chrono::microseconds(50)); };
  const uint64_t reads_of_each = arriving.layers[1].reads(), in_queue = ReadQueueOptions::kMostReads;
  for (uint32_t i = 0; i < 300; ++i) REQUIRE(arriving.arrivals->request(1, i % kExperts).is_ok());
  arriving.arrivals->release_unless([](uint32_t, uint32_t) { return false; });
  while (arriving.source->reads < in_queue) REQUIRE(arriving.arrivals->wait().is_ok());
  REQUIRE(arriving.arrivals->poll().is_ok());
  REQUIRE(300 * reads_of_each > in_queue);
  REQUIRE(arriving.source->reads == in_queue);
  REQUIRE(arriving.arrivals->has_room());
  const uint32_t place = arriving.arrivals->request(0, 1).value();
  REQUIRE(arriving.arrive(place).is_ok());
  REQUIRE(arriving.is_right(place, 0, 1));
}

TEST_CASE("ExpertArrivals: experts are read from wherever each of them is") {
  Arriving arriving(1);
  std::vector<WeightSource> weights = arriving.scenario.weights;
  for (WeightSource& weight : weights) {
    for (uint32_t expert = 0; expert < kExperts; ++expert)
      weight.expert_offsets.push_back(weight.file_offset + (expert + 2) % kExperts * weight.expert_file_bytes());
  }
  auto made = ExpertArrivals::create(arriving.source, weights, arriving.layers, arriving.memory.span(), 1);
  REQUIRE(made.is_ok());
  arriving.arrivals = std::move(made).value();
  for (uint32_t expert = 0; expert < kExperts; ++expert) {
    const uint32_t place = arriving.arrivals->request(1, expert).value();
    REQUIRE(arriving.arrive(place).is_ok());
    REQUIRE(arriving.is_right(place, 1, (expert + 2) % kExperts));
    arriving.arrivals->release(place);
  }
}

TEST_CASE("ExpertArrivals: whichever read fails, a call says so, and after reset() everything can be read") {
  for (uint64_t nth = 1; nth < 14; ++nth) {
    CAPTURE(nth);
    Arriving arriving(3);
    arriving.source->failing_read = nth;
    Status status;
    for (uint32_t expert = 0; expert < 3 && status.is_ok(); ++expert) status = arriving.arrivals->request(1, expert).status();
    for (uint32_t place = 0; place < 3 && status.is_ok(); ++place) status = arriving.arrive(place);
    const bool has_failed = nth <= 3 * arriving.layers[1].reads();
    REQUIRE(status.code() == (has_failed ? StatusCode::kIo : StatusCode::kOk));
    arriving.arrivals->reset();
    arriving.source->failing_read = 0;
    for (uint32_t expert = 0; expert < 3; ++expert) {
      REQUIRE(arriving.arrivals->find(1, expert) == ExpertArrivals::kNone);
      const uint32_t place = arriving.arrivals->request(1, expert).value();
      REQUIRE(arriving.arrive(place).is_ok());
      REQUIRE(arriving.is_right(place, 1, expert));
    }
  }
}

TEST_CASE("ExpertArrivals: a file that has changed is noticed when the next expert is asked for") {
  Arriving arriving(2);
  REQUIRE(arriving.arrivals->request(0, 0).is_ok());
  arriving.source->has_changed = true;
  REQUIRE(arriving.arrivals->request(0, 1).status().code() == StatusCode::kIo);
}

TEST_CASE("ExpertArrivals: reading allocates nothing") {
  Arriving arriving(3);
  const auto read_all = [&] {
    bool is_ok = true;
    for (uint32_t expert = 0; expert < kExperts; expert += 3) {
      for (uint32_t i = 0; i < 3; ++i) is_ok = is_ok && arriving.arrivals->request(1, expert + i).is_ok();
      for (uint32_t place = 0; place < 3; ++place) is_ok = is_ok && arriving.arrive(place).is_ok();
      for (uint32_t place = 0; place < 3; ++place) arriving.arrivals->release(place);
    }
    return is_ok;
  };
  REQUIRE(read_all());
  const uint64_t before = heap_allocations();
  bool is_ok = true;
  for (int i = 0; i < 5; ++i) is_ok = is_ok && read_all();
  const uint64_t after = heap_allocations();
  REQUIRE(is_ok);
  REQUIRE(after == before);
}

}  // namespace
}  // namespace outrigger
