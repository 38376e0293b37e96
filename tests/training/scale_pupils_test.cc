// ScalePupils and NormPupils: gradients against differences of losses, and what steps leave as it was.
#include "src/training/scale_pupils.h"

#include <cmath>
#include <cstring>

#include "src/tensor/half.h"
#include "src/tensor/own_form.h"
#include "src/training/branch_trainer.h"
#include "src/training/norm_pupils.h"
#include "tests/support/few_cases.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/training/two_bit_model.h"

namespace outrigger::testing {
namespace {

/// A student in two bits beside its model.
struct Lesson {
  const TwoBitModel& compressed;
  std::unique_ptr<ThreadTeam> team;
  std::vector<Token> tokens;
  std::unique_ptr<BranchTrainer> trainer;

  explicit Lesson(const TwoBitModel& student, size_t threads = 2) : compressed(student), team(must(ThreadTeam::create(threads))) {
    for (int i = 0; i < 21; ++i) tokens.push_back((i * i * 31 + i * 7) % 200);
    trainer = must(
        BranchTrainer::create(*student.model.impl(), student.student(), {Piece(tokens)}, tokens.size(), *team, [] { return Status(); }));
  }
};

uint16_t half_at(const MatrixCodes& codes, size_t block, size_t index) {
  uint16_t half;
  std::memcpy(&half, codes.bytes.data() + block * traits(codes.type).block_bytes + 2 * index, sizeof half);
  return half;
}

/// The loss with one matrix's values as the codes say them.
double loss_with(Lesson& lesson, const MatrixCodes& codes) {
  BranchedMatrix& matrix = lesson.trainer->matrix(codes.matrix);
  LeasedVector<float> values(matrix.rows() * matrix.columns());
  must(dequantize(codes.type, codes.bytes.data(), values.data(), values.size()));
  matrix.set(values, matrix.rows(), matrix.columns(), true, *lesson.team);
  return must(lesson.trainer->loss(0));
}

// Adam's first step goes by the whole rate against each number's sign: so scales and minima of a block have moved by that much of the
// scale, or not at all, and the loss has fallen by what the sum of the gradients' sizes says.
TEST_CASE("ScalePupils: a first step moves every scale and minimum by the rate, against what differences of losses say") {
  for (const DenseKind kind : {DenseKind::kLlama, DenseKind::kQwen3}) {
    if (kIsSanitized && kind != DenseKind::kLlama) continue;
    const ScratchFolder scratch;
    write_and_open(scratch, random_dense(kind));
    const TwoBitModel compressed(scratch / "model.gguf");
    Lesson lesson(compressed);
    ScalePupils pupils(*lesson.team);
    for (const MatrixCodes& codes : compressed.codes) pupils.add(codes, &lesson.trainer->matrix(codes.matrix));
    must(lesson.trainer->loss_and_gradients(0));
    constexpr float kRate = 0.02f;
    must(pupils.step(kRate));
    for (size_t i = 0; i < pupils.count(); ++i) {
      const MatrixCodes &before = compressed.codes[i], &after = pupils.codes(i);
      const size_t blocks = before.bytes.size() / traits(before.type).block_bytes;
      CAPTURE(compressed.layout().shape.matrices[before.matrix].name);
      // Of a sample of blocks: turned back alone, each number's move is one that lowers the loss.
      for (size_t block = 0; block < blocks; block += std::max<size_t>(1, kIsSanitized ? blocks : blocks / 3)) {
        const float scale = f16_to_float(half_at(before, block, 0)), moved = f16_to_float(half_at(after, block, 0)) - scale;
        const float minimum = f16_to_float(half_at(after, block, 1)) - f16_to_float(half_at(before, block, 1));
        // float16's half steps, an 1/2048th of a minimum of up to three scales
        CHECK(std::abs(std::abs(moved) - kRate * std::abs(scale)) <= 1e-3f * std::abs(scale));
        CHECK(std::abs(std::abs(minimum) - kRate * std::abs(scale)) <= 4e-3f * std::abs(scale));
        for (const size_t which : {0u, 1u}) {
          MatrixCodes there = before;
          const uint16_t half = half_at(after, block, which);
          std::memcpy(there.bytes.data() + block * traits(before.type).block_bytes + 2 * which, &half, sizeof half);
          Lesson fresh(compressed);
          const double change = loss_with(fresh, there) - loss_with(fresh, before);
          CHECK(change < 1e-5);
        }
      }
    }
    const double before = must(Lesson(compressed).trainer->loss(0)), after = must(lesson.trainer->loss(0));
    CHECK(after < 0.95 * before);
  }
}

TEST_CASE("ScalePupils: codes stay, matrices are what the codes say, and nobody is told of gradients once it is gone") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  Lesson lesson(compressed);
  {
    ScalePupils pupils(*lesson.team);
    for (const MatrixCodes& codes : compressed.codes) pupils.add(codes, &lesson.trainer->matrix(codes.matrix));
    for (int step = 0; step < 3; ++step) {
      must(lesson.trainer->loss_and_gradients(0));
      must(pupils.step(5e-3f));
    }
    const double loss = must(lesson.trainer->loss(0));
    Lesson fresh(compressed);
    for (size_t i = 0; i < pupils.count(); ++i) {
      const MatrixCodes &before = compressed.codes[i], &after = pupils.codes(i);
      const size_t block_bytes = traits(before.type).block_bytes;
      REQUIRE(after.bytes.size() == before.bytes.size());
      for (size_t at = 0; at < before.bytes.size(); ++at) {
        if (at % block_bytes >= 4) REQUIRE(after.bytes[at] == before.bytes[at]);
      }
      CHECK(after.bytes != before.bytes);
      loss_with(fresh, after);
    }
    CHECK(must(fresh.trainer->loss(0)) == loss);
  }
  must(lesson.trainer->loss_and_gradients(0));
}

TEST_CASE(
    "ScalePupils: of any bits and levels the lowest weight moves by the rate, in steps between codes, and the highest by three times that "
    "more or less") {
  for (const int bits : {2, 3, 4}) {
    for (const bool has_codebook : {false, true}) {
      const TwoBitModel compressed(tiny_model_path("dense-f16"), bits, {has_codebook});
      Lesson lesson(compressed);
      ScalePupils pupils(*lesson.team);
      for (const MatrixCodes& codes : compressed.codes) pupils.add(codes, &lesson.trainer->matrix(codes.matrix));
      CHECK(pupils.finest() == 3.0f / static_cast<float>((1 << bits) - 1));
      const double before = must(lesson.trainer->loss_and_gradients(0));
      constexpr float kRate = 0.01f;
      must(pupils.step(kRate));
      CAPTURE(bits, has_codebook, before);
      CHECK(must(lesson.trainer->loss(0)) < before);
      const MatrixCodes &was = compressed.codes[0], &is = pupils.codes(0);
      const float top = OwnLevels(bits, has_codebook).top();
      for (size_t block = 0; block < was.bytes.size() / traits(was.type).block_bytes; block += 7) {
        const float scale = f16_to_float(half_at(was, block, 0)), lowest = f16_to_float(half_at(was, block, 1));
        const float step = std::abs(scale) * top / static_cast<float>((1 << bits) - 1);
        const float moved = f16_to_float(half_at(is, block, 1)) - lowest, higher = (f16_to_float(half_at(is, block, 0)) - scale) * top;
        // float16 of numbers some steps large
        const float rounding = 1e-3f * (std::abs(lowest) + std::abs(scale) * top);
        CHECK(std::abs(std::abs(moved) - kRate * step) <= rounding);
        CHECK(std::abs(std::abs(higher) - 3 * kRate * step) <= rounding);
      }
    }
  }
}

TEST_CASE("NormPupils: gradients of every kind of norm are what differences of losses say, and a step moves norms alone") {
  for (const DenseKind kind : {DenseKind::kLlama, DenseKind::kQwen3}) {
    const ScratchFolder scratch;
    write_and_open(scratch, random_dense(kind));
    const TwoBitModel compressed(scratch / "model.gguf");
    const ModelLayout& layout = compressed.layout();
    Lesson lesson(compressed);
    const std::span<const float> gradients = lesson.trainer->norm_gradients();
    must(lesson.trainer->loss_and_gradients(0));
    const LayerLayout& last = layout.layers.back();
    const std::span<float> fixed = lesson.trainer->fixed();
    for (const uint64_t norm :
         {layout.output_norm, layout.layers[0].attention_norm, layout.layers[0].ffn_norm, last.ffn_norm, last.query_norm, last.key_norm}) {
      if (norm == kNoTensor) continue;
      const size_t width = norm == last.query_norm || norm == last.key_norm ? layout.config.head_dim : layout.config.width;
      const auto at = [&](float step) {
        double along = 0;
        const LeasedVector<float> before(fixed.begin() + static_cast<ptrdiff_t>(norm),
                                         fixed.begin() + static_cast<ptrdiff_t>(norm + width));
        for (size_t i = 0; i < width; ++i) fixed[norm + i] += (i % 3 == 0 ? -1.5f : 1.0f) * step;
        along = must(lesson.trainer->loss(0));
        std::copy(before.begin(), before.end(), fixed.begin() + static_cast<ptrdiff_t>(norm));
        return along;
      };
      double expected = 0, size = 0;
      for (size_t i = 0; i < width; ++i) {
        expected += (i % 3 == 0 ? -1.5 : 1.0) * gradients[norm + i];
        size += std::abs(gradients[norm + i]);
      }
      CAPTURE(static_cast<int>(kind), norm, expected, size);
      REQUIRE(size > 1e-4);
      const double measured = (at(3e-3f) - at(-3e-3f)) / 6e-3;
      CHECK(std::abs(measured - expected) < 0.02 * size);
    }
    const LeasedVector<float> before(fixed.begin(), fixed.end());
    NormPupils pupils(layout, {}, fixed, *lesson.team);
    pupils.step(gradients, 0.01f);
    size_t in_norms = 0;
    for (const TrainedNorm& norm : pupils.norms()) in_norms += norm.weights.size();
    size_t moved = 0;
    for (size_t i = 0; i < fixed.size(); ++i) {
      moved += fixed[i] != before[i] ? 1u : 0u;
      CHECK(std::abs(fixed[i] - before[i]) <= 0.0101f * std::abs(before[i]));
    }
    CHECK(moved <= in_norms);
    CHECK(moved > in_norms / 2);
  }
}

}  // namespace
}  // namespace outrigger::testing
