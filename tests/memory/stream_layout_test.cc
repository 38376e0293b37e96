// StreamLayout: that units cover what streams, once and in order, and fit their slots.
#include "src/tensor/stream_layout.h"

#include "tests/memory/scenario.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

TEST_CASE("StreamLayout: in random models every streamed block is in one unit, in the order of the step, and fits") {
  for (unsigned round = 0; round < 400; ++round) {
    CAPTURE(round);
    Scenario scenario;
    scenario.random.seed(round);
    scenario.add_random_model(12);
    const Plan plan = scenario.plan(scenario.some(), 2 + scenario.random() % 3, scenario.random() % 3);
    REQUIRE(check_plan(plan, scenario.shape).is_ok());
    const StreamLayout layout = layout_stream(scenario.shape, plan);

    // Walks the blocks that should come, layers before head, and takes them off one piece after the other.
    std::vector<StreamPiece> expected;
    for (const MatrixUse use : {MatrixUse::kEveryToken, MatrixUse::kLogits}) {
      for (uint32_t i = 0; i < scenario.weights.size(); ++i) {
        const MatrixShape& matrix = scenario.shape.matrices[i];
        if (matrix.use != use || plan.tensors[i].mode == Residence::kResident) continue;
        for (uint32_t block = 0; block < (matrix.rows + 15) / 16; ++block) expected.push_back({i, block, 1, 0});
      }
    }
    size_t next = 0;
    for (uint32_t u = 0; u < layout.units.size(); ++u) {
      const StreamUnit& unit = layout.units[u];
      REQUIRE_FALSE(unit.pieces.empty());
      uint64_t offset = 0, file_bytes = 0, packed_bytes = 0;
      for (const StreamPiece& piece : unit.pieces) {
        const MatrixShape& matrix = scenario.shape.matrices[piece.matrix];
        REQUIRE(piece.blocks > 0);
        REQUIRE(piece.slot_offset == offset);
        REQUIRE(piece.slot_offset % 4096 == 0);
        REQUIRE((matrix.use == MatrixUse::kEveryToken) == (u < layout.layer_units));
        for (uint32_t block = 0; block < piece.blocks; ++block, ++next) {
          REQUIRE(next < expected.size());
          REQUIRE(expected[next].matrix == piece.matrix);
          REQUIRE(expected[next].first_block == piece.first_block + block);
          const uint64_t first_row = expected[next].first_block * 16;
          file_bytes += std::min<uint64_t>(16, matrix.rows - first_row) * scenario.weights[piece.matrix].row_bytes;
        }
        packed_bytes += piece.blocks * matrix.row_block_bytes;
        REQUIRE((piece.blocks == 1 || piece.blocks * matrix.row_block_file_bytes <= 1 << 20));
        // From anywhere in a page, in whole pages.
        offset += (piece.blocks * matrix.row_block_file_bytes + 4095 + 4095) / 4096 * 4096;
      }
      REQUIRE(unit.packed_bytes == packed_bytes);
      REQUIRE(offset <= plan.slot_bytes);
      REQUIRE(unit.file_bytes == file_bytes);
    }
    REQUIRE(next == expected.size());
    REQUIRE(layout.step_units(true) == layout.units.size());
    REQUIRE(layout.step_units(false) == layout.layer_units);
    const uint32_t least_cycle = layout.layer_units > 0 ? layout.layer_units : static_cast<uint32_t>(layout.units.size());
    REQUIRE(layout.ring_slots == std::min(plan.stream_slots, least_cycle));
  }
}

TEST_CASE("StreamLayout: slots are filled: a unit ends only where the next row block would not fit, and at the head") {
  Scenario scenario;
  for (int i = 0; i < 6; ++i) scenario.add(DType::kQ4_0, 160, 64);  // 10 blocks of 576 bytes
  scenario.add(DType::kQ4_0, 32, 64, MatrixUse::kLogits, true);
  // Slots of 8192 bytes: 7 blocks of one matrix, and no second piece, which would need another page for itself and one for where it begins.
  const Plan plan = scenario.plan(scenario.all(true));
  const StreamLayout layout = layout_stream(scenario.shape, plan);
  REQUIRE(layout.layer_units == 12);  // each matrix: 7 blocks and 3
  REQUIRE(layout.units.size() == 13);
  for (uint32_t u = 0; u < layout.layer_units; ++u) {
    REQUIRE(layout.units[u].packed_bytes == (u % 2 == 0 ? 7 : 3) * 576);
    REQUIRE(layout.units[u].pieces.size() == 1);
    REQUIRE(layout.units[u].pieces[0].first_block == (u % 2 == 0 ? 0u : 7u));
  }
  // 24576 bytes: two matrices of 5760, each with two pages and one for where it begins
  const Plan spacious = scenario.plan(scenario.all(true), 2, 4);
  const StreamLayout pairs = layout_stream(scenario.shape, spacious);
  REQUIRE(pairs.units[0].pieces.size() == 2);
  REQUIRE(pairs.units[0].pieces[1].matrix == 1);
}

TEST_CASE("StreamLayout: nothing streams, or only rows that are looked up: no units and no slots") {
  Scenario scenario;
  scenario.add(DType::kF32, 30, 10, MatrixUse::kRowLookup);
  scenario.add(DType::kF32, 30, 10);
  for (const bool embedding_streams : {false, true}) {
    const StreamLayout layout = layout_stream(scenario.shape, scenario.plan({embedding_streams, false}));
    REQUIRE(layout.units.empty());
    REQUIRE(layout.ring_slots == 0);
  }
}

}  // namespace
}  // namespace outrigger
