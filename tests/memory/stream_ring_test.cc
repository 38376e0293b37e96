// StreamRing: what TensorResidency's tests of streaming leave out: many pieces at once, times, sources that read in place.
#include "src/memory/stream_ring.h"

#include <cstring>

#include "tests/memory/scenario.h"
#include "tests/support/aligned_buffer.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

struct Ring {
  Scenario scenario;
  std::shared_ptr<FakeSource> source;
  std::optional<SlotRing> slots;
  std::optional<AlignedBuffer> memory;
  std::unique_ptr<StreamRing> ring;

  Status start(uint32_t slot_count, uint64_t spare_pages, bool in_place = false) {
    const Plan plan = scenario.plan(scenario.all(true), slot_count, spare_pages);
    source = scenario.source();
    source->reads_in_place = in_place;
    slots.emplace(scenario.shape, layout_stream(scenario.shape, plan), plan.slot_bytes);
    memory.emplace(plan.stream_slots * plan.slot_bytes);
    slots->set_memory(memory->span().data());
    auto made = StreamRing::create(source, scenario.weights, *slots, memory->span());
    if (!made.is_ok()) return made.status();
    ring = std::move(made).value();
    return {};
  }

  bool holds(uint32_t unit) const {
    for (const StreamPiece& piece : slots->layout().units[unit].pieces) {
      const WeightSource& weight = scenario.weights[piece.matrix];
      for (uint32_t block = 0; block < piece.blocks; ++block) {
        const uint64_t number = piece.first_block + block;
        const std::byte* const expected = scenario.file.data() + weight.offset_of(number);
        if (std::memcmp(ring->rows({piece.matrix, piece.first_block + block, 1}), expected, weight.file_bytes(number, 1)) != 0)
          return false;
      }
    }
    return true;
  }
};

TEST_CASE("StreamRing: goes round for as long as one likes, and every unit is the file's when it has arrived") {
  Ring r;
  for (int i = 0; i < 5; ++i) r.scenario.add(DType::kQ4_1, 100 + 16 * i, 96);
  REQUIRE(r.start(3, 1).is_ok());
  const auto units = static_cast<uint32_t>(r.slots->layout().units.size());
  REQUIRE(units > 6);
  REQUIRE(r.ring->prime().is_ok());
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < 5 * units; ++i) {
    CAPTURE(i);
    REQUIRE(r.ring->arrive(i % units).is_ok());
    REQUIRE(r.ring->arrive(i % units).is_ok());  // once more is once too often, and harmless
    REQUIRE(r.holds(i % units));
    bytes += r.slots->layout().units[i % units].file_bytes;
    const UnitTimes& times = r.ring->times(i % units);
    REQUIRE(times.requested_ns > 0);
    REQUIRE(times.arrived_ns >= times.requested_ns);
    REQUIRE(r.ring->bytes_read() >= bytes);
    REQUIRE(r.ring->request((i + 3) % units).is_ok());
  }
}

TEST_CASE("StreamRing: units of more pieces than a queue takes at once come as a whole") {
  Ring r;
  for (int i = 0; i < 400; ++i) r.scenario.add(DType::kQ8_0, 16, 32);
  REQUIRE(r.start(2, 600).is_ok());  // 300 pieces of two pages in a slot
  REQUIRE(r.slots->layout().units[0].pieces.size() > ReadQueueOptions::kMostReads);
  for (int round = 0; round < 3; ++round) {
    REQUIRE(r.ring->prime().is_ok());
    for (uint32_t unit = 0; unit < r.slots->layout().ring_slots; ++unit) {
      REQUIRE(r.ring->arrive(unit).is_ok());
      REQUIRE(r.holds(unit));
    }
    r.ring->reset();
  }
}

TEST_CASE("StreamRing: what reads in place is not copied, wherever it begins") {
  Ring r;
  for (int i = 0; i < 3; ++i) r.scenario.add(DType::kQ4_0, 40, 32);
  REQUIRE(r.start(2, 0, true).is_ok());
  std::memset(r.memory->span().data(), 0x5a, r.memory->span().size());
  REQUIRE(r.ring->prime().is_ok());
  REQUIRE(r.ring->arrive(0).is_ok());
  REQUIRE(r.holds(0));
  for (const std::byte b : r.memory->span()) REQUIRE(b == std::byte{0x5a});
}

TEST_CASE("StreamRing: after a failed read, and after a request of a file that changed, a reset makes it new") {
  Ring r;
  for (int i = 0; i < 6; ++i) r.scenario.add(DType::kQ4_1, 64, 64);
  REQUIRE(r.start(2, 0).is_ok());
  for (uint64_t nth = 1; nth <= 2; ++nth) {
    r.source->failing_read = r.source->reads + nth;
    Status status = r.ring->prime();
    for (uint32_t unit = 0; unit < 2 && status.is_ok(); ++unit) status = r.ring->arrive(unit);
    REQUIRE(status.code() == StatusCode::kIo);
    r.source->failing_read = 0;
    r.ring->reset();
  }
  r.source->has_changed = true;
  REQUIRE(r.ring->prime().code() == StatusCode::kIo);
  r.source->has_changed = false;
  r.ring->reset();
  REQUIRE(r.ring->prime().is_ok());
  REQUIRE(r.ring->arrive(1).is_ok());
  REQUIRE(r.holds(1));
}

}  // namespace
}  // namespace outrigger
