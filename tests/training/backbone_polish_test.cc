// Training a backbone's scales, minima and norms, end to end and block by block.
#include <cmath>

#include "src/training/block_polish.h"
#include "src/training/branch_trainer.h"
#include "src/training/polish.h"
#include "src/training/polish_task.h"
#include "tests/support/few_cases.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/training/two_bit_model.h"

namespace outrigger::testing {
namespace {

constexpr uint64_t kFirstFailure = kIsSanitized ? 200 : 1;

enum class Way { kEndToEnd, kBlocks };

struct Outcome {
  PolishReport report;
  std::vector<TrainedBranch> branches;
  TrainedBackbone backbone;
};

PolishOptions some_steps(uint32_t steps, float rate) {
  PolishOptions options = few_steps(steps);
  options.scale_rate = options.norm_rate = rate;
  options.moves_branches = false;
  return options;
}

Outcome train(const TwoBitModel& compressed, const std::vector<Token>& tokens, const PolishOptions& options, Way way, size_t threads,
              bool has_branches) {
  const auto team = must(ThreadTeam::create(threads));
  Outcome outcome;
  if (has_branches) outcome.branches = compressed.branches;
  if (way == Way::kEndToEnd) {
    outcome.backbone.codes = compressed.codes;
    outcome.report = must(polish_branches(*compressed.model.impl(), compressed.student(), tokens, kChunk, options, *team, kNoWatch,
                                          &outcome.branches, &outcome.backbone));
    return outcome;
  }
  const auto of_layer = [&](uint32_t layer, const auto& all) {
    std::decay_t<decltype(all)> some;
    for (const uint32_t matrix : matrices_of(compressed.layout().layers[layer])) {
      for (const auto& one : all) {
        if (one.matrix == matrix) some.push_back(one);
      }
    }
    return some;
  };
  std::vector<TrainedBranch> kept;
  const BlockParts parts{[&](uint32_t layer) -> Result<std::vector<TrainedBranch>> { return of_layer(layer, outcome.branches); },
                         [&](const std::vector<TrainedBranch>& trained) {
                           kept.insert(kept.end(), trained.begin(), trained.end());
                           return Status();
                         },
                         [&](uint32_t layer) -> Result<std::vector<MatrixCodes>> { return of_layer(layer, compressed.codes); },
                         [&](TrainedBackbone trained) {
                           auto& [codes, norms] = outcome.backbone;
                           codes.insert(codes.end(), trained.codes.begin(), trained.codes.end());
                           norms.insert(norms.end(), trained.norms.begin(), trained.norms.end());
                           return Status();
                         }};
  outcome.report = must(polish_blocks(*compressed.model.impl(), compressed.student(), tokens, kChunk, options, *team, kNoWatch, parts));
  if (!kept.empty()) outcome.branches = kept;
  return outcome;
}

/// Of the student that training made.
double held_out_of(const TwoBitModel& compressed, const Outcome& outcome, const std::vector<Token>& tokens) {
  const ModelLayout& layout = compressed.layout();
  TwoBitModel trained = TwoBitModel(compressed.model.info().file);
  for (const MatrixCodes& codes : outcome.backbone.codes) {
    LeasedVector<float>& values = trained.backbone[codes.matrix];
    must(dequantize(codes.type, codes.bytes.data(), values.data(), values.size()));
  }
  const auto team = must(ThreadTeam::create(2));
  const PolishOptions options = few_steps(1);
  PolishTask task = must(make_polish_task(layout, tokens, kChunk, options));
  const size_t held_out = task.held_out;
  const auto trainer = must(BranchTrainer::create(*compressed.model.impl(), trained.student(), std::move(task.pieces), task.piece_tokens,
                                                  *team, [] { return Status(); }));
  for (const TrainedBranch& branch : outcome.branches) trainer->matrix(branch.matrix).set_branch(branch, *team);
  for (const TrainedNorm& norm : outcome.backbone.norms) {
    for (const FixedTensor& tensor : layout.fixed) {
      if (tensor.file_offset != norm.file_offset) continue;
      REQUIRE(tensor.elements == norm.weights.size());
      std::copy(norm.weights.begin(), norm.weights.end(), trainer->fixed().begin() + static_cast<ptrdiff_t>(tensor.offset));
    }
  }
  double sum = 0;
  for (size_t i = 0; i < held_out; ++i) sum += must(trainer->loss(i));
  return sum / static_cast<double>(held_out);
}

TEST_CASE("training a backbone: held-out text comes nearer, and what comes back is what was measured, with branches beside it or none") {
  const ScratchFolder scratch;
  for (const DenseKind kind : {DenseKind::kLlama, DenseKind::kQwen3}) {
    if (kIsSanitized && kind != DenseKind::kLlama) continue;
    if (kFirstFailure > 1 && kind != DenseKind::kQwen3) continue;
    write_and_open(scratch, random_dense(kind));
    const TwoBitModel compressed(scratch / "model.gguf");
    const std::vector<Token> tokens = random_text(24);
    for (const Way way : {Way::kEndToEnd, Way::kBlocks}) {
      for (const bool has_branches : {false, true}) {
        const Outcome outcome = train(compressed, tokens, some_steps(30, way == Way::kBlocks ? 8e-3f : 2e-3f), way, 2, has_branches);
        CAPTURE(static_cast<int>(kind), static_cast<int>(way), has_branches, outcome.report.held_out_before, outcome.report.held_out_after);
        REQUIRE(outcome.report.is_kept);
        CHECK(outcome.report.held_out_after < 0.95 * outcome.report.held_out_before);
        CHECK_FALSE(outcome.backbone.norms.empty());
        CHECK(outcome.backbone.codes.size() == compressed.codes.size());
        if (has_branches) CHECK(are_equal(outcome.branches, compressed.branches));
        CHECK(std::abs(held_out_of(compressed, outcome, tokens) / outcome.report.held_out_after - 1) < 1e-4);
      }
    }
  }
}

TEST_CASE("training a backbone: with the branches together it comes nearer than either alone") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(40);
  PolishOptions options = some_steps(40, 2e-3f);
  options.learning_rate = 1e-3f;
  const double of_backbone = train(compressed, tokens, options, Way::kEndToEnd, 2, true).report.held_out_after;
  options.moves_branches = true;
  const double of_both = train(compressed, tokens, options, Way::kEndToEnd, 2, true).report.held_out_after;
  const auto team = must(ThreadTeam::create(2));
  std::vector<TrainedBranch> branches = compressed.branches;
  const double of_branches =
      must(polish_branches(*compressed.model.impl(), compressed.student(), tokens, kChunk, options, *team, kNoWatch, &branches))
          .held_out_after;
  CAPTURE(of_backbone, of_branches, of_both);
  CHECK(of_both < 0.98 * std::min(of_backbone, of_branches));
}

TEST_CASE("training a backbone: the bits do not depend on the number of threads") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(5);
  for (const Way way : {Way::kEndToEnd, Way::kBlocks}) {
    const Outcome one = train(compressed, tokens, some_steps(4, 2e-3f), way, 1, true);
    REQUIRE(one.report.is_kept);
    for (const size_t threads : {2, 3}) {
      if (kIsSanitized && threads == 3) continue;
      const Outcome more = train(compressed, tokens, some_steps(4, 2e-3f), way, threads, true);
      CHECK(one.report.held_out_after == more.report.held_out_after);
      REQUIRE(one.backbone.codes.size() == more.backbone.codes.size());
      for (size_t i = 0; i < one.backbone.codes.size(); ++i) CHECK((one.backbone.codes[i].bytes == more.backbone.codes[i].bytes));
      REQUIRE(one.backbone.norms.size() == more.backbone.norms.size());
      for (size_t i = 0; i < one.backbone.norms.size(); ++i) CHECK((one.backbone.norms[i].weights == more.backbone.norms[i].weights));
    }
  }
}

TEST_CASE("training a backbone: memory that runs out anywhere is said") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(3);
  const MatrixReader student = compressed.student();
  const auto team = must(ThreadTeam::create(2));
  PolishOptions options = some_steps(2, 2e-3f);
  const auto train = [&](std::vector<TrainedBranch>* trained) -> Result<PolishReport> {
    try {
      TrainedBackbone backbone{compressed.codes, {}};
      return polish_branches(*compressed.model.impl(), student, tokens, kChunk, options, *team, kNoWatch, trained, &backbone);
    } catch (const std::bad_alloc&) {
      return Status(StatusCode::kOutOfMemory, "the test's own copies");
    }
  };
  CHECK(fail_allocations(compressed, kFirstFailure, train) > 20);
}

TEST_CASE("training a backbone: what becomes worse is not kept, of a layer or of the whole") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(5);
  CHECK_FALSE(train(compressed, tokens, some_steps(8, 1), Way::kEndToEnd, 2, true).report.is_kept);
  const Outcome blocks = train(compressed, tokens, some_steps(8, 1), Way::kBlocks, 2, true);
  for (const PolishedLayer& layer : blocks.report.layers) CHECK_FALSE(layer.is_kept);
  CHECK(blocks.backbone.codes.empty());
  // So the layers behind one that was put back see the inputs that they would have seen.
  CHECK(blocks.report.held_out_after == blocks.report.held_out_before);
}

}  // namespace
}  // namespace outrigger::testing
