// WeightReader: pieces of any size arrive packed, in whatever order the disk delivers.
#include "src/memory/weight_reader.h"

#include <cstring>

#include "tests/memory/scenario.h"
#include "tests/support/aligned_buffer.h"
#include "tests/support/catch.h"
#include "tests/support/heap_watch.h"

namespace outrigger {
namespace {

struct Reading {
  Scenario scenario;
  std::shared_ptr<FakeSource> source;
  AlignedBuffer staging;
  std::unique_ptr<WeightReader> reader;
  std::vector<std::vector<std::byte>> target;  ///< per matrix

  Reading(uint32_t depth, uint64_t buffer_bytes, uint32_t matrices, unsigned seed) : staging(depth * buffer_bytes) {
    scenario.random.seed(seed);
    for (uint32_t i = 0; i < matrices; ++i) scenario.add(i % 2 == 0 ? DType::kQ4_1 : DType::kF16, 100 + scenario.random() % 300, 64);
    source = scenario.source();
    auto made = WeightReader::create(source, scenario.weights, staging.span(), {depth, matrices, matrices * 8});
    REQUIRE(made.is_ok());
    reader = std::move(made).value();
    for (uint32_t i = 0; i < matrices; ++i) target.emplace_back(scenario.shape.matrices[i].packed_bytes);
  }

  // A matrix as its own job, in up to 8 pieces.
  Status add(uint32_t matrix) {
    const uint64_t blocks = scenario.weights[matrix].blocks(), bytes = scenario.shape.matrices[matrix].row_block_bytes;
    const uint64_t at_once = std::max<uint64_t>(1, (blocks + 7) / 8 + scenario.random() % blocks);
    for (uint64_t first = 0; first < blocks; first += at_once) {
      const Status status = reader->add(matrix, {matrix, first, std::min(at_once, blocks - first), target[matrix].data() + first * bytes});
      if (!status.is_ok()) return status;
    }
    return {};
  }
  bool is_right(uint32_t matrix) const { return target[matrix] == scenario.packed(matrix); }
};

TEST_CASE("WeightReader: every job has the file's bytes when it is finished, in any order of finishing, depth and buffer size") {
  for (unsigned round = 0; round < 40; ++round) {
    CAPTURE(round);
    Reading reading(1 + round % 5, 4096 * (3 + round % 4), 6, round);
    for (uint32_t matrix = 0; matrix < 6; ++matrix) REQUIRE(reading.add(matrix).is_ok());
    std::vector<uint32_t> order{0, 1, 2, 3, 4, 5};
    std::shuffle(order.begin(), order.end(), reading.scenario.random);
    uint64_t bytes = 0;
    for (const uint32_t matrix : order) {
      REQUIRE(reading.reader->finish(matrix).is_ok());
      REQUIRE(reading.reader->is_done(matrix));
      REQUIRE(reading.is_right(matrix));
      bytes += reading.scenario.shape.matrices[matrix].file_bytes;
    }
    REQUIRE(reading.reader->is_idle());
    REQUIRE(reading.reader->bytes_read() == bytes);
  }
}

TEST_CASE("WeightReader: a stack's experts are read from wherever each of them is") {
  Scenario scenario;
  for (int i = 0; i < 3; ++i) scenario.add(DType::kQ8_0, 40, 64);
  WeightSource stack = scenario.weights[0];
  stack.experts = 3;
  stack.expert_offsets = {scenario.weights[2].file_offset, scenario.weights[0].file_offset, scenario.weights[1].file_offset};
  const std::vector<WeightSource> weights{stack};
  const AlignedBuffer staging(2 * 12288);
  auto reader = WeightReader::create(scenario.source(), weights, staging.span(), {2, 1, 3});
  REQUIRE(reader.is_ok());
  const uint64_t blocks = stack.blocks_per_expert(), bytes = scenario.shape.matrices[0].packed_bytes;
  std::vector<std::byte> target(3 * bytes);
  for (uint32_t expert = 0; expert < 3; ++expert) REQUIRE(reader.value()->add(0, {0, expert * blocks, blocks, target.data() + expert * bytes}).is_ok());
  REQUIRE(reader.value()->finish(0).is_ok());
  for (uint32_t expert = 0; expert < 3; ++expert) {
    const std::vector<std::byte> expected = scenario.packed((expert + 2) % 3);
    REQUIRE(std::memcmp(target.data() + expert * bytes, expected.data(), bytes) == 0);
  }
}

TEST_CASE("WeightReader: whichever read fails, a call says so, and after reset() everything can be read") {
  for (uint64_t nth = 1; nth < 20; ++nth) {
    CAPTURE(nth);
    Reading reading(3, 12288, 4, 7);
    reading.source->failing_read = nth;
    Status status;
    for (uint32_t matrix = 0; matrix < 4 && status.is_ok(); ++matrix) status = reading.add(matrix);
    for (uint32_t matrix = 0; matrix < 4 && status.is_ok(); ++matrix) status = reading.reader->finish(matrix);
    const bool has_failed = reading.source->reads >= nth;
    REQUIRE(status.code() == (has_failed ? StatusCode::kIo : StatusCode::kOk));
    reading.reader->reset();
    REQUIRE(reading.reader->is_idle());
    reading.source->failing_read = 0;
    for (uint32_t matrix = 0; matrix < 4; ++matrix) REQUIRE(reading.add(matrix).is_ok());
    for (uint32_t matrix = 0; matrix < 4; ++matrix) {
      REQUIRE(reading.reader->finish(matrix).is_ok());
      REQUIRE(reading.is_right(matrix));
    }
  }
}

TEST_CASE("WeightReader: an abandoned job is done, and the others are as if it had never been") {
  Reading reading(2, 12288, 4, 9);
  for (uint32_t matrix = 0; matrix < 4; ++matrix) REQUIRE(reading.add(matrix).is_ok());
  REQUIRE(reading.reader->abandon(1).is_ok());
  REQUIRE(reading.reader->is_done(1));
  for (const uint32_t matrix : {3u, 0u, 2u}) {
    REQUIRE(reading.reader->finish(matrix).is_ok());
    REQUIRE(reading.is_right(matrix));
  }
  REQUIRE(reading.reader->is_idle());
  REQUIRE(reading.add(1).is_ok());
  REQUIRE(reading.reader->finish(1).is_ok());
  REQUIRE(reading.is_right(1));
}

TEST_CASE("WeightReader: a file that has changed is noticed when the next piece is added") {
  Reading reading(2, 12288, 2, 1);
  REQUIRE(reading.add(0).is_ok());
  reading.source->has_changed = true;
  REQUIRE(reading.add(1).code() == StatusCode::kIo);
}

TEST_CASE("WeightReader: more pieces than were prepared for are refused, not overwritten") {
  Reading reading(1, 12288, 1, 1);
  Status status;
  uint32_t added = 0;
  for (; added < 100 && status.is_ok(); ++added) status = reading.reader->add(0, {0, 0, 1, reading.target[0].data()});
  REQUIRE(status.code() == StatusCode::kInternal);
  REQUIRE(added >= 8);
}

TEST_CASE("WeightReader: reading allocates nothing") {
  Reading reading(3, 12288, 4, 3);
  const auto read_all = [&] {
    bool is_ok = true;
    for (uint32_t matrix = 0; matrix < 4; ++matrix) {
      const uint64_t blocks = reading.scenario.weights[matrix].blocks();
      is_ok = is_ok && reading.reader->add(matrix, {matrix, 0, blocks, reading.target[matrix].data()}).is_ok();
    }
    for (uint32_t matrix = 0; matrix < 4; ++matrix) is_ok = is_ok && reading.reader->finish(matrix).is_ok();
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
