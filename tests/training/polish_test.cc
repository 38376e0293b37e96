// polish_branches: that held-out text becomes better, that bits do not depend on threads, and that it says what is wrong.
#include "src/training/polish.h"

#include <cmath>
#include <limits>

#include "tests/support/heap_watch.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/training/branches.h"
#include "tests/training/two_bit_model.h"

namespace outrigger::testing {
namespace {

Result<PolishReport> polish(const TwoBitModel& compressed, const std::vector<Token>& tokens, const PolishOptions& options, size_t threads,
                            std::vector<TrainedBranch>* trained, const PolishWatch& watch = kNoWatch) {
  const auto team = must(ThreadTeam::create(threads));
  return polish_branches(*compressed.model.impl(), compressed.student(), tokens, kChunk, options, *team, watch, trained);
}

TEST_CASE("polish_branches: text that no step used comes nearer to the model, and what comes back is what was measured") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(64);
  std::vector<TrainedBranch> trained = compressed.branches;
  PolishOptions options = few_steps(60);
  options.learning_rate = 1e-3f;
  const PolishReport report = must(polish(compressed, tokens, options, 2, &trained));
  CAPTURE(report.held_out_before, report.held_out_after);
  CHECK(report.is_kept);
  CHECK(report.losses.size() == 60);
  CHECK(report.held_out_before > 0.01);
  CHECK(report.held_out_after < 0.7 * report.held_out_before);
  // Once more with the new branches: it begins where the first ended, up to the rounding of their scales.
  const PolishReport again = must(polish(compressed, tokens, few_steps(1), 2, &trained));
  CHECK(std::abs(again.held_out_before / report.held_out_after - 1) < 1e-4);
}

TEST_CASE(
    "polish_branches: trained as they will be rounded, factors lose nothing when they are, and less than when that comes afterwards") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(64);
  std::vector<TrainedBranch> aware = compressed.branches, unaware = compressed.branches;
  PolishOptions options = few_steps(60);
  options.learning_rate = 1e-3f;
  must(polish(compressed, tokens, options, 2, &unaware).status());
  options.round = round_hard;
  const PolishReport report = must(polish(compressed, tokens, options, 2, &aware));
  REQUIRE(report.is_kept);
  const auto held_out = [&](std::vector<TrainedBranch>& branches) {
    for (TrainedBranch& branch : branches) must(round_hard(&branch));
    return must(polish(compressed, tokens, few_steps(1), 2, &branches)).held_out_before;
  };
  const double of_aware = held_out(aware), of_unaware = held_out(unaware);
  CHECK(std::abs(of_aware / report.held_out_after - 1) < 1e-3);
  CHECK(of_aware < 0.9 * of_unaware);
  options.round = [](TrainedBranch*) { return Status(StatusCode::kInternal, "no"); };
  std::vector<TrainedBranch> same = compressed.branches;
  CHECK(polish(compressed, tokens, options, 2, &same).status().code() == StatusCode::kInternal);
  CHECK(are_equal(same, compressed.branches));
}

TEST_CASE("polish_branches: the bits do not depend on the number of threads") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(5);
  std::vector<TrainedBranch> by_one = compressed.branches, by_three = compressed.branches;
  const PolishReport one = must(polish(compressed, tokens, few_steps(), 1, &by_one)),
                     three = must(polish(compressed, tokens, few_steps(), 3, &by_three));
  CHECK(one.is_kept);
  CHECK(one.losses == three.losses);
  CHECK(one.held_out_after == three.held_out_after);
  CHECK(are_equal(by_one, by_three));
  CHECK_FALSE(are_equal(by_one, compressed.branches));
}

TEST_CASE("polish_branches: branches stay as they are when the held-out text becomes worse") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  std::vector<TrainedBranch> trained = compressed.branches;
  PolishOptions options = few_steps(8);
  options.learning_rate = 1;
  const PolishReport report = must(polish(compressed, random_text(5), options, 2, &trained));
  CHECK_FALSE(report.is_kept);
  CHECK(report.held_out_after > report.held_out_before);
  CHECK(are_equal(trained, compressed.branches));
}

TEST_CASE("polish_branches: of steps that went too far half is kept, or a quarter, where that is of use") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(64);
  bool was_halved = false, was_whole = false;
  for (float rate = 2e-3f; rate < 0.2f; rate *= 1.3f) {
    std::vector<TrainedBranch> trained = compressed.branches;
    PolishOptions options = few_steps(12);
    options.learning_rate = rate;
    const PolishReport report = must(polish(compressed, tokens, options, 2, &trained));
    CAPTURE(rate, report.part, report.held_out_before, report.held_out_after);
    CHECK(report.is_kept == (report.held_out_after < report.held_out_before));
    if (!report.is_kept) {
      CHECK(report.part == 0.25);
      CHECK(are_equal(trained, compressed.branches));
      continue;
    }
    (report.part < 1 ? was_halved : was_whole) = true;
    // What comes back is what was measured.
    const PolishReport again = must(polish(compressed, tokens, few_steps(1), 2, &trained));
    CHECK(std::abs(again.held_out_before / report.held_out_after - 1) < 1e-4);
  }
  CHECK(was_halved);
  CHECK(was_whole);
}

TEST_CASE("polish_branches: matrices without a branch are frozen, and branches of several ranks go together") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const LayerLayout& first = compressed.layout().layers[0];
  std::vector<TrainedBranch> trained{regular_branch(compressed.layout(), first.ffn.down, 7, 0),
                                     regular_branch(compressed.layout(), first.k, 2, 1)};
  const PolishReport report = must(polish(compressed, random_text(8), few_steps(12), 2, &trained));
  CHECK(report.is_kept);
}

TEST_CASE("polish_branches: the watch sees even progress to the end, and its error stops everything") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(5);
  std::vector<TrainedBranch> trained = compressed.branches;
  std::vector<uint32_t> seen;
  const PolishWatch sees = [&](uint32_t done, uint32_t all) {
    CHECK(all == compressed.layout().config.layers + 4);
    seen.push_back(done);
    return Status();
  };
  must(polish(compressed, tokens, few_steps(), 2, &trained, sees).status());
  std::vector<uint32_t> expected(compressed.layout().config.layers + 5);
  for (uint32_t i = 0; i < expected.size(); ++i) expected[i] = i;
  CHECK(seen == expected);
  for (const uint32_t last : expected) {
    trained = compressed.branches;
    const PolishWatch stops = [&](uint32_t done, uint32_t) { return done == last ? Status(StatusCode::kCancelled, "stopped") : Status(); };
    CHECK(polish(compressed, tokens, few_steps(), 2, &trained, stops).status().code() == StatusCode::kCancelled);
    CHECK(are_equal(trained, compressed.branches));
  }
}

void check_refused(const Result<PolishReport>& result, const std::string& part, const std::string& tensor = {}) {
  CAPTURE(part, result.status().to_string());
  CHECK(result.status().code() == StatusCode::kInvalidArgument);
  CHECK(result.status().to_string().find(part) != std::string::npos);
  CHECK(result.status().to_string().find(tensor) != std::string::npos);
}

std::vector<std::byte> spoilt_model(const std::string& tensor) {
  return random_dense([&](const std::string& name, std::vector<float>& values) {
    if (name == tensor) values[7] = std::numeric_limits<float>::quiet_NaN();
  });
}

TEST_CASE("polish_branches: weights that are no numbers are named, the model's and the backbone's") {
  for (const std::string spoilt : {"blk.1.attn_k.weight", "blk.2.ffn_down.weight", "token_embd.weight"}) {
    const ScratchFolder scratch;
    const Model model = write_and_open(scratch, spoilt_model(spoilt));
    const MatrixReader student = [&](uint32_t matrix) -> Result<LeasedVector<float>> {
      const WeightSource& weight = model.impl()->layout->weights[matrix];
      return LeasedVector<float>(weight.rows * weight.columns);
    };
    const auto team = must(ThreadTeam::create(2));
    std::vector<TrainedBranch> branches{regular_branch(*model.impl()->layout, model.impl()->layout->layers[0].q, 2, 0)};
    check_refused(polish_branches(*model.impl(), student, random_text(5), kChunk, few_steps(), *team, kNoWatch, &branches),
                  "not all finite", spoilt);
  }
  TwoBitModel compressed(tiny_model_path("dense-f16"));
  const uint32_t up = compressed.layout().layers[1].ffn.up;
  compressed.backbone[up][3] = std::numeric_limits<float>::infinity();
  check_refused(polish(compressed, random_text(5), few_steps(), 2, &compressed.branches), "not all finite",
                compressed.layout().shape.matrices[up].name);
}

TEST_CASE("polish_branches: a norm that is no number shows in the outputs") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, spoilt_model("blk.1.ffn_norm.weight"));
  const MatrixReader student = [&](uint32_t matrix) {
    return read_matrix(model.impl()->file.source(), model.impl()->layout->weights[matrix]);
  };
  const auto team = must(ThreadTeam::create(2));
  std::vector<TrainedBranch> branches;
  check_refused(polish_branches(*model.impl(), student, random_text(5), kChunk, few_steps(), *team, kNoWatch, &branches),
                "outputs are not all finite");
}

TEST_CASE("polish_branches: options, texts and branches that do not fit are refused") {
  TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(5);
  std::vector<TrainedBranch> trained = compressed.branches;
  const auto refused = [&](const std::string& part, auto change) {
    PolishOptions options = few_steps();
    change(options);
    check_refused(polish(compressed, tokens, options, 1, &trained), part);
  };
  refused("steps is 0", [](PolishOptions& options) { options.steps = 0; });
  refused("tokens_a_step is 15", [](PolishOptions& options) { options.tokens_a_step = 15; });
  refused("learning_rate is 0", [](PolishOptions& options) { options.learning_rate = 0; });
  refused("learning_rate is nan", [](PolishOptions& options) { options.learning_rate = std::nanf(""); });
  refused("held_out_chunks is 0", [](PolishOptions& options) { options.held_out_chunks = 0; });
  refused("has 5 chunks of 48 tokens, need at least 6", [](PolishOptions& options) { options.held_out_chunks = 5; });

  check_refused(polish(compressed, {}, few_steps(), 1, &trained), "has 0 chunks");
  check_refused(polish(compressed, std::vector<Token>(5 * kChunk + 1), few_steps(), 1, &trained), "are not whole chunks");
  for (const Token unknown : {Token{-1}, static_cast<Token>(compressed.layout().vocabulary)}) {
    std::vector<Token> wrong = tokens;
    wrong[7] = unknown;
    check_refused(polish(compressed, wrong, few_steps(), 1, &trained), "not among the");
  }

  const std::string name = compressed.layout().shape.matrices[trained[3].matrix].name;
  const auto refused_branch = [&](const std::string& part, const std::string& tensor, auto change) {
    std::vector<TrainedBranch> changed = trained;
    change(changed);
    check_refused(polish(compressed, tokens, few_steps(), 1, &changed), part, tensor);
  };
  refused_branch("factors of", name, [](auto& branches) { branches[3].a.pop_back(); });
  refused_branch("factors of", name, [](auto& branches) { branches[3].rank = 31; });
  refused_branch("factors of 0 and 0", name, [](auto& branches) { branches[3] = {branches[3].matrix, 0, {}, {}}; });
  refused_branch("not all finite", name, [](auto& branches) { branches[3].b[5] = std::numeric_limits<float>::infinity(); });
  refused_branch("has one already", "", [](auto& branches) { branches[3].matrix = branches[2].matrix; });
  refused_branch("none of a layer's", "", [](auto& branches) { branches[3].matrix = 100000; });
  refused_branch("none of a layer's", "", [&](auto& branches) { branches[3].matrix = compressed.layout().head; });
}

TEST_CASE("polish_branches: memory that runs out anywhere is said, and the branches are as they were") {
  const TwoBitModel compressed(tiny_model_path("dense-f16"));
  const std::vector<Token> tokens = random_text(3);
  const MatrixReader student = compressed.student();
  const auto team = must(ThreadTeam::create(2));
  PolishOptions options = few_steps(2);
  const auto train = [&](std::vector<TrainedBranch>* trained) {
    return polish_branches(*compressed.model.impl(), student, tokens, kChunk, options, *team, kNoWatch, trained);
  };
  CHECK(fail_allocations(compressed, 1, train) > 50);
}

}  // namespace
}  // namespace outrigger::testing
