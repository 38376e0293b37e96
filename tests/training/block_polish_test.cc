// polish_blocks: that layers' outputs become better on held-out text, that bits do not depend on threads, that it stays within its memory,
// and that it says what is wrong.
#include "src/training/block_polish.h"

#include <cmath>
#include <limits>

#include "src/compress/polish_memory.h"
#include "src/forward/dense_layer.h"
#include "src/training/polish.h"
#include "src/training/polish_task.h"
#include "tests/support/heap_watch.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/training/branches.h"
#include "tests/training/two_bit_model.h"

namespace outrigger::testing {
namespace {

/// What is kept takes the place of what was given, once all is done.
Result<PolishReport> polish(const TwoBitModel& compressed, const std::vector<Token>& tokens, const PolishOptions& options, size_t threads,
                            std::vector<TrainedBranch>* branches, const PolishWatch& watch = kNoWatch) {
  const auto team = must(ThreadTeam::create(threads));
  std::vector<TrainedBranch> kept;
  const auto read = [&](uint32_t layer) -> Result<std::vector<TrainedBranch>> {
    std::vector<TrainedBranch> all;
    for (const uint32_t matrix : matrices_of(compressed.layout().layers[layer])) {
      for (const TrainedBranch& branch : *branches) {
        if (branch.matrix == matrix) all.push_back(branch);
      }
    }
    return all;
  };
  const auto keep = [&](const std::vector<TrainedBranch>& trained) {
    kept.insert(kept.end(), trained.begin(), trained.end());
    return Status();
  };
  auto report = polish_blocks(*compressed.model.impl(), compressed.student(), tokens, kChunk, options, *team, watch, {read, keep});
  if (!report.is_ok() || !report->is_kept) return report;
  for (TrainedBranch& branch : *branches) {
    for (const TrainedBranch& trained : kept) {
      if (trained.matrix == branch.matrix) branch = trained;
    }
  }
  return report;
}

PolishOptions many_steps() {
  PolishOptions options = few_steps(40);
  options.learning_rate = 1e-3f;
  return options;
}

TEST_CASE("polish_blocks: what held-out text becomes in each layer comes nearer, the model too, and what comes back is what was measured") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(40);
  std::vector<TrainedBranch> trained = compressed.branches;
  const PolishReport report = must(polish(compressed, tokens, many_steps(), 2, &trained));
  CAPTURE(report.held_out_before, report.held_out_after);
  CHECK(report.is_kept);
  CHECK(report.held_out_after < 0.9 * report.held_out_before);
  REQUIRE(report.layers.size() == compressed.layout().config.layers);
  for (const PolishedLayer& layer : report.layers) {
    CAPTURE(layer.layer, layer.error_before, layer.error_after);
    CHECK(layer.layer == static_cast<uint32_t>(&layer - report.layers.data()));
    CHECK(layer.is_kept);
    CHECK(layer.error_after < 0.97 * layer.error_before);
  }
  CHECK(report.losses.empty());
  // Once more with the new branches, which are read back in the scales they were given in.
  const PolishReport again = must(polish(compressed, tokens, few_steps(1), 2, &trained));
  CHECK(std::abs(again.held_out_before / report.held_out_after - 1) < 1e-4);
  CHECK(std::abs(again.layers[0].error_before / report.layers[0].error_after - 1) < 1e-4);
}

TEST_CASE("polish_blocks: the distance before is that of training end to end, with the same branches and text") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(9);
  std::vector<TrainedBranch> by_blocks = compressed.branches, whole = compressed.branches;
  const auto team = must(ThreadTeam::create(2));
  const double before = must(polish(compressed, tokens, few_steps(), 2, &by_blocks)).held_out_before;
  const double expected =
      must(polish_branches(*compressed.model.impl(), compressed.student(), tokens, kChunk, few_steps(), *team, kNoWatch, &whole))
          .held_out_before;
  CHECK(std::abs(before / expected - 1) < 1e-4);
}

TEST_CASE("polish_blocks: trained as they will be rounded, factors lose nothing when they are") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(40);
  std::vector<TrainedBranch> aware = compressed.branches;
  for (TrainedBranch& branch : aware) must(round_hard(&branch));  // a layer that is not kept has what it was given
  PolishOptions options = many_steps();
  options.round = round_hard;
  const PolishReport report = must(polish(compressed, tokens, options, 2, &aware));
  REQUIRE(report.is_kept);
  for (TrainedBranch& branch : aware) must(round_hard(&branch));
  CHECK(std::abs(must(polish(compressed, tokens, few_steps(1), 2, &aware)).held_out_before / report.held_out_after - 1) < 1e-3);
  options.round = [](TrainedBranch*) { return Status(StatusCode::kInternal, "no"); };
  CHECK(polish(compressed, tokens, options, 2, &aware).status().code() == StatusCode::kInternal);
}

TEST_CASE("polish_blocks: the bits do not depend on the number of threads") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(5);
  std::vector<TrainedBranch> by_one = compressed.branches;
  const PolishReport one = must(polish(compressed, tokens, few_steps(), 1, &by_one));
  CHECK(one.is_kept);
  CHECK_FALSE(are_equal(by_one, compressed.branches));
  for (const size_t threads : {2, 3}) {
    std::vector<TrainedBranch> by_more = compressed.branches;
    const PolishReport more = must(polish(compressed, tokens, few_steps(), threads, &by_more));
    CHECK(one.held_out_after == more.held_out_after);
    CHECK(are_equal(by_one, by_more));
  }
}

TEST_CASE("polish_blocks: a layer that becomes worse keeps what it had, and without any better one nothing is kept") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  std::vector<TrainedBranch> trained = compressed.branches;
  PolishOptions options = few_steps(8);
  options.learning_rate = 1;
  const PolishReport report = must(polish(compressed, random_text(5), options, 2, &trained));
  for (const PolishedLayer& layer : report.layers) {
    CHECK_FALSE(layer.is_kept);
    CHECK(layer.error_after > layer.error_before);
  }
  CHECK_FALSE(report.is_kept);
  CHECK(report.held_out_after == report.held_out_before);
  CHECK(are_equal(trained, compressed.branches));
}

TEST_CASE("polish_blocks: layers without branches are passed by, and matrices without one are frozen") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const LayerLayout& last = compressed.layout().layers[2];
  std::vector<TrainedBranch> trained{regular_branch(compressed.layout(), last.ffn.down, 7, 0),
                                     regular_branch(compressed.layout(), last.k, 2, 1)};
  const PolishReport report = must(polish(compressed, random_text(8), few_steps(12), 2, &trained));
  REQUIRE(report.layers.size() == 1);
  CHECK(report.layers[0].layer == 2);
  CHECK(report.layers[0].is_kept);
}

TEST_CASE("polish_blocks: the watch sees even progress to the end, and its error stops everything") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(5);
  std::vector<TrainedBranch> trained = compressed.branches;
  const uint32_t parts = compressed.layout().config.layers * 5;
  std::vector<uint32_t> seen;
  const PolishWatch sees = [&](uint32_t done, uint32_t all) {
    CHECK(all == parts);
    seen.push_back(done);
    return Status();
  };
  must(polish(compressed, tokens, few_steps(), 2, &trained, sees).status());
  REQUIRE(seen.size() == parts + 1);
  for (uint32_t i = 0; i <= parts; ++i) CHECK(seen[i] == i);
  for (uint32_t last = 0; last <= parts; ++last) {
    const PolishWatch stops = [&](uint32_t done, uint32_t) { return done == last ? Status(StatusCode::kCancelled, "stopped") : Status(); };
    CHECK(polish(compressed, tokens, few_steps(), 2, &trained, stops).status().code() == StatusCode::kCancelled);
  }
}

std::vector<std::byte> spoilt_model(const std::string& tensor) {
  return random_dense([&](const std::string& name, std::vector<float>& values) {
    if (name == tensor) values[7] = std::numeric_limits<float>::quiet_NaN();
  });
}

TEST_CASE("polish_blocks: weights that are no numbers are named, and norms that are none show in the outputs") {
  for (const std::string spoilt : {"blk.1.attn_k.weight", "blk.2.ffn_down.weight", "blk.1.ffn_norm.weight", "output_norm.weight"}) {
    const ScratchFolder scratch;
    const Model model = write_and_open(scratch, spoilt_model(spoilt));
    const MatrixReader student = [&](uint32_t matrix) -> Result<LeasedVector<float>> {
      const WeightSource& weight = model.impl()->layout->weights[matrix];
      return LeasedVector<float>(weight.rows * weight.columns);
    };
    const auto team = must(ThreadTeam::create(2));
    const auto read = [&](uint32_t layer) -> Result<std::vector<TrainedBranch>> {
      return std::vector{regular_branch(*model.impl()->layout, model.impl()->layout->layers[layer].q, 2, 0)};
    };
    const auto keep = [](const std::vector<TrainedBranch>&) { return Status(); };
    const auto report = polish_blocks(*model.impl(), student, random_text(5), kChunk, few_steps(), *team, kNoWatch, {read, keep});
    CAPTURE(spoilt, report.status().to_string());
    CHECK(report.status().code() == StatusCode::kInvalidArgument);
    const std::string part = spoilt.find("norm") != std::string::npos ? "outputs are not all finite" : "weights are not all finite";
    CHECK(report.status().to_string().find(part) != std::string::npos);
  }
}

TEST_CASE("polish_blocks: options, texts and branches that do not fit are refused, and so is what comes from outside") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(5);
  std::vector<TrainedBranch> trained = compressed.branches;
  PolishOptions options = few_steps();
  options.held_out_chunks = 5;
  CHECK(polish(compressed, tokens, options, 1, &trained).status().to_string().find("need at least 6") != std::string::npos);
  trained[3].a.pop_back();
  const auto refused = polish(compressed, tokens, few_steps(), 1, &trained);
  CHECK(refused.status().code() == StatusCode::kInvalidArgument);
  CHECK(refused.status().to_string().find("factors of") != std::string::npos);
  const auto team = must(ThreadTeam::create(1));
  const auto read = [&](uint32_t) -> Result<std::vector<TrainedBranch>> { return Status(StatusCode::kIo, "gone"); };
  const auto keep = [](const std::vector<TrainedBranch>&) { return Status(); };
  CHECK(polish_blocks(*compressed.model.impl(), compressed.student(), tokens, kChunk, few_steps(), *team, kNoWatch, {read, keep})
            .status()
            .code() == StatusCode::kIo);
}

TEST_CASE("polish_blocks: memory that runs out anywhere is said") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(3);
  const auto train = [&](std::vector<TrainedBranch>* trained) { return polish(compressed, tokens, few_steps(2), 2, trained); };
  CHECK(fail_allocations(compressed, 300, train) > 15);
}

}  // namespace
}  // namespace outrigger::testing
