// TensorResidency over a file that holds matrices packed: the same memory and the same rows as from one that does not.
#include <cstring>

#include "src/memory/residency.h"
#include "tests/memory/scenario.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

/// A model whose matrices are packed, or some of them, and how it was before.
struct PackedModel {
  explicit PackedModel(unsigned seed) {
    plain.random.seed(seed);
    plain.add_random_model(8);
    packed = plain.as_packed_file(seed % 3 == 0 ? plain.some() : plain.all(true));
  }
  Scenario plain, packed;
};

std::unique_ptr<TensorResidency> open_and_load(const Scenario& scenario, FakeBackend& backend, std::shared_ptr<const ByteSource> source,
                                               const Plan& plan) {
  auto residency = TensorResidency::create(backend, std::move(source), scenario.shape, scenario.weights, plan);
  INFO(residency.status().to_string());
  REQUIRE(residency.is_ok());
  auto team = ThreadTeam::create(2);
  REQUIRE(team.is_ok());
  REQUIRE(residency.value()->load(*team.value(), {}, {}).is_ok());
  return std::move(residency).value();
}

TEST_CASE("Packed files: resident matrices and every unit of the ring hold the bytes that packing at load would give") {
  uint64_t pieces = 0;
  for (unsigned round = 0; round < 60; ++round) {
    CAPTURE(round);
    PackedModel model(round);
    FakeBackend backend;
    const Plan plan = model.packed.plan(model.packed.some(), 2, round % 3);
    const auto source = model.packed.source();
    source->reads_in_place = round % 4 == 0;
    const auto residency = open_and_load(model.packed, backend, source, plan);
    for (uint32_t m = 0; m < model.plain.weights.size(); ++m) {
      if (!residency->is_resident(m)) continue;
      const std::vector<std::byte> expected = model.plain.packed(m);
      REQUIRE(std::memcmp(residency->operand({m, 0, 1}), expected.data(), expected.size()) == 0);
    }
    REQUIRE(residency->prime().is_ok());
    uint64_t expected_bytes = 0;
    const StreamLayout& stream = residency->stream();
    for (uint32_t unit = 0; unit < stream.units.size(); ++unit) {
      if (unit >= stream.ring_slots) REQUIRE(residency->request(unit).is_ok());
      REQUIRE(residency->arrive(unit).is_ok());
      expected_bytes += stream.units[unit].file_bytes;
      for (const StreamPiece& piece : stream.units[unit].pieces) {
        const std::vector<std::byte> all = model.plain.packed(piece.matrix);
        const uint64_t block = model.plain.shape.matrices[piece.matrix].row_block_bytes;
        const WeightSource& weight = model.packed.weights[piece.matrix];  // in the ring as in the file
        std::vector<std::byte> got(piece.blocks * block);
        weight.place(residency->operand({piece.matrix, piece.first_block, piece.blocks}),
                     weight.file_bytes(piece.first_block, piece.blocks), got.data());
        REQUIRE(std::memcmp(got.data(), all.data() + piece.first_block * block, got.size()) == 0);
        ++pieces;
      }
    }
    REQUIRE(residency->streamed_bytes() == expected_bytes);
  }
  REQUIRE(pieces > 100);
}

TEST_CASE("Packed files: a row that is looked up in the file is that of the row block, which is what it costs") {
  for (unsigned round = 0; round < 40; ++round) {
    CAPTURE(round);
    PackedModel model(round);
    FakeBackend backends[2];
    const auto plain = open_and_load(model.plain, backends[0], model.plain.source(), model.plain.plan(model.plain.all(true)));
    const auto packed = open_and_load(model.packed, backends[1], model.packed.source(), model.packed.plan(model.packed.all(true)));
    for (uint32_t m = 0; m < model.plain.weights.size(); ++m) {
      const MatrixShape& matrix = model.plain.shape.matrices[m];
      if (matrix.use != MatrixUse::kRowLookup && !matrix.also_rows) continue;
      std::vector<float> expected(matrix.columns), row(matrix.columns);
      for (uint64_t index = 0; index < matrix.rows; ++index) {
        const uint64_t before = packed->streamed_bytes();
        REQUIRE(plain->read_row(m, index, expected.data()).is_ok());
        REQUIRE(packed->read_row(m, index, row.data()).is_ok());
        REQUIRE(std::memcmp(row.data(), expected.data(), row.size() * sizeof(float)) == 0);
        REQUIRE(packed->streamed_bytes() - before ==
                (model.packed.weights[m].is_packed ? matrix.row_block_bytes : model.plain.weights[m].row_bytes));
      }
    }
  }
}

TEST_CASE("Packed files: weights that say they are packed where the shape does not, or of another size, are refused by name") {
  Scenario plain;
  plain.add(DType::kQ4_1, 50, 64);
  plain.add(DType::kQ8_0, 40, 96, MatrixUse::kLogits, true);
  const Scenario right = plain.as_packed_file(plain.all(true));
  const auto refusal = [&](const std::function<void(Scenario&)>& spoil) {
    Scenario wrong = right;
    spoil(wrong);
    FakeBackend backend;
    return TensorResidency::create(backend, wrong.source(), wrong.shape, wrong.weights, right.plan(right.all(true))).status();
  };
  REQUIRE(refusal([](Scenario&) {}).is_ok());
  REQUIRE(refusal([](Scenario& s) { s.weights[0].is_packed = false; }).subject() == "matrix0");
  REQUIRE(refusal([](Scenario& s) { s.shape.matrices[0].is_packed = false; }).subject() == "matrix0");
  REQUIRE(refusal([](Scenario& s) { s.weights[1].row_bytes -= 64; }).subject() == "matrix1");
  REQUIRE(refusal([&](Scenario& s) { s.weights[1].row_bytes = plain.weights[1].row_bytes; }).subject() == "matrix1");
  REQUIRE(refusal([](Scenario& s) { s.file.pop_back(); }).subject() == "matrix1");
}

TEST_CASE("Packed files: a read that fails or a file that was cut is the same error as ever") {
  PackedModel model(1);
  FakeBackend backend;
  const auto source = model.packed.source();
  auto residency =
      TensorResidency::create(backend, source, model.packed.shape, model.packed.weights, model.packed.plan(model.packed.all(true)));
  REQUIRE(residency.is_ok());
  REQUIRE_FALSE(residency.value()->stream().units.empty());
  const auto first_unit = [&] {
    const Status primed = residency.value()->prime();
    return primed.is_ok() ? residency.value()->arrive(0) : primed;
  };
  source->failing_read = 1;
  REQUIRE(first_unit().code() == StatusCode::kIo);
  residency.value()->invalidate();
  source->available_bytes = 5000;
  REQUIRE(first_unit().code() == StatusCode::kIo);
  residency.value()->invalidate();
  source->available_bytes = source->size_bytes();
  REQUIRE(first_unit().is_ok());
}

}  // namespace
}  // namespace outrigger
