// BranchTrainer: its losses and gradients against torch, and against differences of its own losses.
#include "src/training/branch_trainer.h"

#include <outrigger/pack.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "src/forward/float_matrix.h"
#include "tests/support/engines.h"
#include "tests/support/scratch_folder.h"
#include "tests/training/branches.h"
#include "tests/training/gradient_check.h"

namespace outrigger::testing {
namespace {

std::string tests_path(const std::string& name) { return std::string(OTR_SOURCE_DIR) + "/tests/golden/" + name; }

/// As tests/golden/make_branch_gradients.py writes it.
struct GoldenGradients {
  std::vector<Token> tokens;
  double loss = 0;
  std::vector<std::vector<float>> factors;  ///< A and B of each matrix in turn

  GoldenGradients(const std::string& name, const ModelLayout& layout) {
    std::ifstream in(tests_path("gradients/" + name + ".gradients"), std::ios::binary);
    int32_t count = 0;
    in.read(reinterpret_cast<char*>(&count), sizeof count);
    REQUIRE(count > 0);
    tokens.resize(static_cast<size_t>(count));
    in.read(reinterpret_cast<char*>(tokens.data()), count * 4);
    in.read(reinterpret_cast<char*>(&loss), sizeof loss);
    for (const uint32_t matrix : matrices_of_layers(layout)) {
      for (const uint64_t length : {layout.weights[matrix].columns, layout.weights[matrix].rows}) {
        std::vector<float>& values = factors.emplace_back(2 * length);
        in.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * 4));
      }
    }
    REQUIRE(in.good());
    REQUIRE(in.peek() == std::ifstream::traits_type::eof());
  }
};

/// A student whose matrices are the model's in eighths, with branches of small regular numbers.
struct Pair {
  Model model;
  const ModelLayout& layout;
  std::unique_ptr<ThreadTeam> team;
  std::vector<Token> tokens;
  std::vector<TrainedBranch> branches;
  std::unique_ptr<BranchTrainer> trainer;

  Pair(const std::string& path, const std::vector<Token>& piece, uint32_t rank)
      : model(must(Model::open(path))), layout(*model.impl()->layout), team(must(ThreadTeam::create(2))), tokens(piece) {
    const MatrixReader student = [this](uint32_t matrix) -> Result<LeasedVector<float>> { return in_eighths(*model.impl(), matrix); };
    trainer = must(BranchTrainer::create(*model.impl(), student, {Piece(tokens)}, tokens.size(), *team, [] { return Status(); }));
    for (const uint32_t matrix : matrices_of_layers(layout)) {
      branches.push_back(regular_branch(layout, matrix, rank, branches.size()));
      trainer->matrix(matrix).set_branch(branches.back(), *team);
    }
  }
};

double greatest(std::span<const float> values) {
  double most = 0;
  for (const float value : values) most = std::max(most, std::abs(static_cast<double>(value)));
  return most;
}

// Both sides are float32 sums of some hundred products, through two layers and back. They were 7e-6 of the largest gradient apart at most;
// a wrong term in any of the formulas is a thousand times that.
TEST_CASE("BranchTrainer: losses and gradients of every factor are those of torch, with biases, norms of heads and both styles of RoPE") {
  for (const char* name : {"hf/llama-biases", "hf/qwen2", "hf/qwen3", "hf/qwen3-yarn", "logits/tinyllama.gguf"}) {
    CAPTURE(name);
    const std::string stem = std::filesystem::path(name).stem().string();
    const Model model = must(Model::open(tests_path(name)));
    const GoldenGradients golden(stem, *model.impl()->layout);
    Pair pair(tests_path(name), golden.tokens, 2);
    CHECK(std::abs(must(pair.trainer->loss(0)) / golden.loss - 1) < 1e-4);
    CHECK(std::abs(must(pair.trainer->loss_and_gradients(0)) / golden.loss - 1) < 1e-4);
    for (size_t i = 0; i < pair.branches.size(); ++i) {
      CAPTURE(pair.layout.shape.matrices[pair.branches[i].matrix].name);
      BranchedMatrix& matrix = pair.trainer->matrix(pair.branches[i].matrix);
      const TrainedFactors& factors = matrix.factors();
      LeasedVector<float> b_gradient(factors.b_gradient.size());
      transpose({factors.b_gradient.data(), matrix.rows()}, 2, matrix.rows(), b_gradient.data());
      for (const auto& [ours, theirs] :
           {std::pair(&factors.a_gradient, &golden.factors[2 * i]), std::pair(&std::as_const(b_gradient), &golden.factors[2 * i + 1])}) {
        REQUIRE(ours->size() == theirs->size());
        double most = 0;
        for (size_t k = 0; k < ours->size(); ++k) most = std::max(most, std::abs(static_cast<double>((*ours)[k]) - (*theirs)[k]));
        CHECK(most < 3e-5 * greatest(*theirs));
      }
    }
  }
}

double at(Pair& pair, size_t i, bool is_b, const std::vector<float>& direction, double step) {
  BranchedMatrix& matrix = pair.trainer->matrix(pair.branches[i].matrix);
  LeasedVector<float>& values = is_b ? matrix.factors().b : matrix.factors().a;
  const LeasedVector<float> before = values;
  for (size_t k = 0; k < values.size(); ++k) values[k] += static_cast<float>(step) * direction[k];
  matrix.repack(*pair.team);
  const double loss = must(pair.trainer->loss(0));
  values = before;
  matrix.repack(*pair.team);
  return loss;
}

TEST_CASE(
    "BranchTrainer: gradients of every kind of matrix are what differences of losses say, at a rank and a length that fill no block") {
  for (const char* name : {"dense-f16", "llama3", "mistral", "odd-f32"}) {
    CAPTURE(name);
    std::vector<Token> tokens;
    for (int i = 0; i < 21; ++i) tokens.push_back((i * i * 31 + i * 7) % 200);
    Pair pair(tiny_model_path(name), tokens, 5);
    const double loss = must(pair.trainer->loss_and_gradients(0));
    for (size_t i = 0; i < pair.branches.size(); ++i) {
      CAPTURE(pair.layout.shape.matrices[pair.branches[i].matrix].name);
      for (const bool is_b : {false, true}) {
        const TrainedFactors& factors = pair.trainer->matrix(pair.branches[i].matrix).factors();
        const LeasedVector<float> gradient = is_b ? factors.b_gradient : factors.a_gradient;
        check_gradient(gradient, loss,
                       [&](const std::vector<float>& direction, double step) { return at(pair, i, is_b, direction, step); });
      }
    }
  }
}

TEST_CASE("BranchTrainer: who watches a matrix's weights is told their gradients once, and they are what differences of losses say") {
  for (const char* name : {"dense-f16", "odd-f32"}) {
    CAPTURE(name);
    std::vector<Token> tokens;
    for (int i = 0; i < 21; ++i) tokens.push_back((i * i * 31 + i * 7) % 200);
    Pair pair(tiny_model_path(name), tokens, 5);
    for (const uint32_t index : matrices_of_layers(pair.layout)) {
      CAPTURE(pair.layout.shape.matrices[index].name);
      BranchedMatrix& matrix = pair.trainer->matrix(index);
      const size_t rows = matrix.rows(), columns = matrix.columns();
      std::vector<float> gradient(rows * columns);
      size_t told = 0;
      matrix.watch_weights([&](size_t first_row, std::span<const float> some) {
        std::copy(some.begin(), some.end(), gradient.begin() + static_cast<ptrdiff_t>(first_row * columns));
        told += some.size();
      });
      const double loss = must(pair.trainer->loss_and_gradients(0));
      matrix.watch_weights({});
      CHECK(told == gradient.size());
      const LeasedVector<float> values = must(in_eighths(*pair.model.impl(), index));
      check_gradient(gradient, loss, [&](const std::vector<float>& direction, double step) {
        LeasedVector<float> moved = values;
        for (size_t k = 0; k < moved.size(); ++k) moved[k] += static_cast<float>(step) * direction[k];
        matrix.set(moved, rows, columns, true, *pair.team);
        const double there = must(pair.trainer->loss(0));
        matrix.set(values, rows, columns, true, *pair.team);
        return there;
      });
    }
  }
}

TEST_CASE("BranchTrainer: without anything lost there is no divergence and no gradient") {
  const Model model = must(Model::open(tiny_model_path("dense-f16")));
  const std::vector<Token> tokens{5, 9, 200, 31, 31, 7};
  const auto team = must(ThreadTeam::create(2));
  const MatrixReader same = [&](uint32_t matrix) {
    return read_matrix(model.impl()->file.source(), model.impl()->layout->weights[matrix]);
  };
  const auto trainer = must(BranchTrainer::create(*model.impl(), same, {Piece(tokens)}, tokens.size(), *team, [] { return Status(); }));
  TrainedBranch branch = regular_branch(*model.impl()->layout, model.impl()->layout->layers[0].q, 3, 0);
  std::fill(branch.b.begin(), branch.b.end(), 0.0f);
  trainer->matrix(branch.matrix).set_branch(branch, *team);
  CHECK(std::abs(must(trainer->loss_and_gradients(0))) < 1e-6);
  CHECK(greatest(trainer->matrix(branch.matrix).factors().b_gradient) < 1e-6);
}

TEST_CASE("BranchTrainer: a packed file has the losses of the file that it was packed from, bit for bit") {
  const ScratchFolder scratch;
  std::vector<Token> tokens;
  for (int i = 0; i < 30; ++i) tokens.push_back((i * i * 31 + i * 7) % 200);
  Pair plain(tiny_model_path("dense-f16"), tokens, 3);
  must(pack_model(plain.model, scratch / "packed.gguf"));
  Pair packed(scratch / "packed.gguf", tokens, 3);
  REQUIRE(packed.layout.weights[packed.layout.embedding].is_packed);
  CHECK(must(packed.trainer->loss(0)) == must(plain.trainer->loss(0)));
}

TEST_CASE("BranchTrainer: what the reader or the callback says stops it") {
  const Model model = must(Model::open(tiny_model_path("dense-f16")));
  const ModelLayout& layout = *model.impl()->layout;
  const std::vector<Token> tokens{5, 9, 200};
  const auto team = must(ThreadTeam::create(2));
  const auto created = [&](const MatrixReader& student, const std::function<Status()>& layer_done) {
    return BranchTrainer::create(*model.impl(), student, {Piece(tokens)}, tokens.size(), *team, layer_done).status().code();
  };
  const auto goes_on = [] { return Status(); };
  const MatrixReader same = [&](uint32_t matrix) { return read_matrix(model.impl()->file.source(), layout.weights[matrix]); };
  CHECK(created(same, goes_on) == StatusCode::kOk);
  CHECK(created(same, [] { return Status(StatusCode::kCancelled, "enough"); }) == StatusCode::kCancelled);
  const MatrixReader lacking = [&](uint32_t matrix) -> Result<LeasedVector<float>> {
    if (matrix == layout.layers[1].v) return Status(StatusCode::kIo, "gone");
    return same(matrix);
  };
  CHECK(created(lacking, goes_on) == StatusCode::kIo);
  CHECK(created([](uint32_t) -> Result<LeasedVector<float>> { return LeasedVector<float>(7); }, goes_on) == StatusCode::kInternal);
}

}  // namespace
}  // namespace outrigger::testing
