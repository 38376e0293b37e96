// Branch choice: limits are kept, what is worth most comes first, and nothing that fits is much better.
#include "src/compress/branch_choice.h"

#include <cmath>
#include <random>

#include "src/compress/hcinfer_allocation.h"
#include "src/forward/dense_layer.h"
#include "src/model/model_impl.h"
#include "tests/support/catch.h"
#include "tests/support/engines.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/support/random_mixture.h"
#include "tests/support/scratch_folder.h"

namespace outrigger::testing {
namespace {

/// Losses of every matrix of the random model: `kl` and a falling spectrum by the matrix's number.
std::vector<MatrixLoss> made_up_losses(const ModelLayout& layout) {
  std::vector<MatrixLoss> losses;
  for (const uint32_t matrix : matrices_of_layers(layout)) {
    MatrixLoss loss{matrix, 0.001 * (1 + matrix * 7 % 13), {}, 1};
    const uint64_t most = std::min(layout.weights[matrix].rows, layout.weights[matrix].columns) / 32 * 32;
    for (uint64_t j = 0; j < most; ++j) loss.spectrum.push_back(0.9 / static_cast<double>(most) * (j < 32 ? 1.3 : 0.7));
    losses.push_back(loss);
  }
  return losses;
}

TEST_CASE(
    "choose_branches: of low-rank branches the budget is kept, a larger one buys more, and nothing that was left out would have been the "
    "better buy") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const ModelLayout& layout = *model.impl()->layout;
  const std::vector<MatrixLoss> losses = made_up_losses(layout);
  uint64_t before = 0;
  for (const uint64_t budget : {uint64_t{1000}, uint64_t{9000}, uint64_t{30000}, uint64_t{1} << 30}) {
    CAPTURE(budget);
    std::vector<MatrixPlan> plans(layout.weights.size());
    choose_branches(layout, losses, {.residual = false}, {.stored_bytes = static_cast<double>(budget)}, 4, &plans);
    uint64_t bytes = 0;
    struct Piece {
      double worth;
      uint64_t bytes;
    };
    std::vector<Piece> bought, unbought;
    for (const MatrixLoss& loss : losses) {
      const WeightSource& weight = layout.weights[loss.matrix];
      const uint32_t rank = plans[loss.matrix].rank;
      REQUIRE(rank % 32 == 0);
      bytes += branch_bytes(weight.rows, weight.columns, rank, 4);
      const auto piece = [&](uint32_t from) {
        double part = 0;
        for (uint32_t j = from; j < from + 32; ++j) part += loss.spectrum[j];
        const uint64_t cost = branch_bytes(weight.rows, weight.columns, 32, 4);
        return Piece{loss.kl * part / static_cast<double>(cost), cost};
      };
      if (rank > 0) bought.push_back(piece(rank - 32));
      if (rank + 32 <= loss.spectrum.size()) unbought.push_back(piece(rank));
    }
    CHECK(bytes <= budget);
    CHECK(bytes >= before);
    before = bytes;
    for (const Piece& is : bought) {
      for (const Piece& might : unbought) CHECK((might.worth <= is.worth * 1.000001 || might.bytes > is.bytes + budget - bytes));
    }
    for (const Piece& might : unbought) CHECK(might.bytes > budget - bytes);
  }
  CHECK(before == [&] {
    uint64_t all = 0;
    for (const MatrixLoss& loss : losses) {
      all += branch_bytes(layout.weights[loss.matrix].rows, layout.weights[loss.matrix].columns,
                          static_cast<uint32_t>(loss.spectrum.size()), 4);
    }
    return all;
  }());
}

TEST_CASE("choose_branches: a stack of experts has no rank; its residual is stored for all of them, and read of those that a token takes") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_mixture());
  const ModelLayout& layout = *model.impl()->layout;
  std::vector<MatrixLoss> losses = made_up_losses(layout);
  const uint32_t stack = layout.layers[1].ffn.up, attention = layout.layers[1].q;
  for (MatrixLoss& loss : losses) {
    if (loss.matrix == stack) loss.kl = 1;
    for (size_t k = 0; k <= 64; ++k) loss.curve.restored[k] = static_cast<double>(k) / 64;
  }
  const auto one = static_cast<double>(residual_bytes(128, 64));
  const auto chosen = [&](const BranchForms& forms, const BranchLimits& limits) {
    std::vector<MatrixPlan> plans(layout.weights.size());
    choose_branches(layout, losses, forms, limits, 4, &plans);
    for (const MatrixLoss& loss : losses) CHECK((plans[loss.matrix].rank == 0 || !is_stack(layout, loss.matrix)));
    return plans;
  };
  CHECK(chosen({}, {.stored_bytes = 4.99 * one})[stack].share == 0);
  CHECK(chosen({}, {.stored_bytes = 5 * one})[stack].share == 1);
  CHECK(chosen({}, {.read_bytes = 2 * one})[stack].share == 1);
  CHECK(chosen({}, {.read_bytes = one})[stack].share == 0.5);
  CHECK(chosen({}, {.read_bytes = one, .scattered_cost = 2})[stack].share == 0.25);
  const std::vector<MatrixPlan> low_rank = chosen({.residual = false}, {});
  CHECK((low_rank[stack].share == 0 && low_rank[attention].rank > 0));
  std::vector<MatrixPlan> alike(layout.weights.size());
  uint64_t reached = 0;
  for (const MatrixLoss& loss : losses) reached += reached_residual_bytes(layout, loss.matrix);
  CHECK(reached == 2 * (residual_bytes(64, 64) * 2 + residual_bytes(32, 64) * 2 + 2 * 3 * residual_bytes(128, 64)));
  plan_uniform_shares(layout, reached / 4, &alike);
  for (const MatrixLoss& loss : losses) CHECK(alike[loss.matrix].share == 0.25);
}

TEST_CASE(
    "choose_branches: of residuals no more is read than was asked for, and of matrices of one size that which loses more reads the larger "
    "share") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const ModelLayout& layout = *model.impl()->layout;
  std::vector<MatrixLoss> losses = made_up_losses(layout);
  for (MatrixLoss& loss : losses) {
    for (size_t k = 0; k <= 64; ++k) loss.curve.restored[k] = 1 - std::pow(1 - static_cast<double>(k) / 64, 3);
  }
  double all = 0;
  const auto bytes_of = [&](const MatrixLoss& loss) {
    return static_cast<double>(residual_bytes(layout.weights[loss.matrix].rows, layout.weights[loss.matrix].columns));
  };
  for (const MatrixLoss& loss : losses) all += bytes_of(loss);
  for (const double part : {0.05, 0.3, 1.0}) {
    CAPTURE(part);
    std::vector<MatrixPlan> plans(layout.weights.size());
    choose_branches(layout, losses, {.low_rank = false}, {.read_bytes = part * all}, 4, &plans);
    double reads = 0;
    for (const MatrixLoss& loss : losses) {
      reads += plans[loss.matrix].share * bytes_of(loss);
      for (const MatrixLoss& other : losses) {
        if (bytes_of(loss) == bytes_of(other) && loss.kl < other.kl)
          CHECK(plans[loss.matrix].share <= plans[other.matrix].share + 1.0 / 64);
      }
    }
    CHECK(reads <= part * all * (1 + 1e-12));
    CHECK(reads >= part * all - 100);
  }
}

/// What a matrix was given takes, and restores of the model's KL.
struct Taken {
  double stored = 0, read = 0, kl = 0;
};

Taken taken(const ModelLayout& layout, const MatrixLoss& loss, uint32_t rank, size_t steps) {
  const WeightSource& weight = layout.weights[loss.matrix];
  if (steps > 0) {
    const auto bytes = static_cast<double>(residual_bytes(weight.rows, weight.columns));
    return {bytes, bytes * static_cast<double>(steps) / 64, loss.kl * loss.curve.restored[steps]};
  }
  double part = 0;
  for (uint32_t j = 0; j < rank; ++j) part += loss.spectrum[j] / loss.all;
  const auto bytes = static_cast<double>(branch_bytes(weight.rows, weight.columns, rank, 4));
  return {bytes, bytes, loss.kl * part};
}

TEST_CASE("choose_branches: of both forms, within two limits, what is chosen restores nearly what the best of all combinations does") {
  ModelLayout layout;
  for (const uint64_t rows : {576, 192, 1536, 576}) {
    layout.weights.emplace_back();
    layout.weights.back().rows = rows;
    layout.weights.back().columns = rows == 1536 ? 576 : 1536;
    layout.shape.matrices.emplace_back();
  }
  std::mt19937 random(7);
  const auto uniform = [&random](double low, double high) { return low + (high - low) * static_cast<double>(random()) / 4294967296.0; };
  int both_forms = 0, near = 0, rounds = 0;
  for (int round = 0; round < 40; ++round) {
    CAPTURE(round);
    std::vector<MatrixLoss> losses;
    double stored_all = 0;
    for (uint32_t matrix = 0; matrix < 4; ++matrix) {
      MatrixLoss loss{matrix, uniform(0.001, 0.02), {}, 1, {}};
      const double steep = uniform(1, 6), first = uniform(0.1, 0.4);
      for (size_t k = 0; k <= 64; ++k) loss.curve.restored[k] = 1 - std::pow(1 - static_cast<double>(k) / 64, steep);
      for (size_t j = 0; j < 128; ++j) loss.spectrum.push_back(first / 32 * std::pow(0.5, static_cast<double>(j / 32)));
      stored_all += taken(layout, loss, 0, 64).stored;
      losses.push_back(std::move(loss));
    }
    const BranchLimits limits{uniform(0.1, 1.1) * stored_all, uniform(0.02, 0.5) * stored_all};
    std::vector<MatrixPlan> plans(layout.weights.size());
    const auto curve = choose_branches(layout, losses, {}, limits, 4, &plans);
    Taken chosen;
    bool has_rank = false, has_share = false;
    for (const MatrixLoss& loss : losses) {
      const MatrixPlan& plan = plans[loss.matrix];
      REQUIRE((plan.rank == 0 || plan.share == 0));
      const Taken one = taken(layout, loss, plan.rank, static_cast<size_t>(std::lround(plan.share * 64)));
      CHECK(plan.restored * loss.kl == Approx(one.kl));
      chosen.stored += one.stored, chosen.read += one.read, chosen.kl += one.kl;
      has_rank |= plan.rank > 0, has_share |= plan.share > 0;
    }
    both_forms += has_rank && has_share;
    CHECK(chosen.stored <= limits.stored_bytes);
    CHECK(chosen.read <= limits.read_bytes);

    double best = 0;
    const auto visit = [&](auto&& self, size_t i, Taken so_far) -> void {
      if (so_far.stored > limits.stored_bytes || so_far.read > limits.read_bytes) return;
      if (i == losses.size()) {
        best = std::max(best, so_far.kl);
        return;
      }
      const auto with = [&](uint32_t rank, size_t steps) {
        const Taken one = taken(layout, losses[i], rank, steps);
        self(self, i + 1, {so_far.stored + one.stored, so_far.read + one.read, so_far.kl + one.kl});
      };
      for (uint32_t rank = 0; rank <= losses[i].spectrum.size(); rank += 32) with(rank, 0);
      for (size_t steps = 1; steps <= 64; steps += 2) with(0, steps);
    };
    visit(visit, 0, {});
    ++rounds;
    near += chosen.kl >= 0.97 * best;
    CHECK(chosen.kl >= 0.8 * best);
    for (size_t i = 1; i < curve.size(); ++i) CHECK(curve[i].restored >= curve[i - 1].restored * 0.9);
  }
  CHECK(both_forms > 5);
  CHECK(near > rounds * 3 / 4);
}

TEST_CASE("choose_branches: where scattered reads cost more, more matrices have branches that are read in order") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const ModelLayout& layout = *model.impl()->layout;
  std::vector<MatrixLoss> losses = made_up_losses(layout);
  for (MatrixLoss& loss : losses) {
    for (size_t k = 0; k <= 64; ++k) loss.curve.restored[k] = 1 - std::pow(1 - static_cast<double>(k) / 64, 4);
  }
  const auto branches_at = [&](double cost) {
    std::vector<MatrixPlan> plans(layout.weights.size());
    choose_branches(layout, losses, {}, {.read_bytes = 20000, .scattered_cost = cost}, 4, &plans);
    return std::count_if(plans.begin(), plans.end(), [](const MatrixPlan& plan) { return plan.rank > 0; });
  };
  CHECK(branches_at(1) < branches_at(8));
  CHECK(branches_at(100) > branches_at(1));
}

TEST_CASE(
    "choose_branches: with room for all, matrices that seemed to lose nothing have branches too, and with little room they have none") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const ModelLayout& layout = *model.impl()->layout;
  std::vector<MatrixLoss> losses = made_up_losses(layout);
  losses[3].kl = 0;
  const auto rank_of_it = [&](double stored_bytes) {
    std::vector<MatrixPlan> plans(layout.weights.size());
    choose_branches(layout, losses, {.residual = false}, {.stored_bytes = stored_bytes}, 4, &plans);
    return plans[losses[3].matrix].rank;
  };
  CHECK(rank_of_it(1e9) == losses[3].spectrum.size());
  CHECK(rank_of_it(20000) == 0);
}

TEST_CASE("recoverability: how much the components before the sharpest bend stand out") {
  std::vector<double> values(64, 0.01);
  CHECK(recoverability(values) == 1);
  for (size_t j = 0; j < 8; ++j) values[j] = 1;
  CHECK(recoverability(values) == Approx(10));
  CHECK(recoverability(std::vector<double>(64, 0.0)) == 1);
  CHECK(recoverability(std::vector<double>(2, 1.0)) == 1);
}

TEST_CASE(
    "allocate_like_hcinfer: the budget is kept, ranks are 32 times a power of two, and the more sensitive layer has the larger ones") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const ModelLayout& layout = *model.impl()->layout;
  std::vector<MatrixLoss> losses = made_up_losses(layout);
  for (MatrixLoss& loss : losses) loss.kl = 0.01;
  const std::vector<double> kl_by_layer = {0.01, 0.3, 0.1};
  for (const uint64_t budget : {uint64_t{3000}, uint64_t{20000}, uint64_t{60000}, uint64_t{1} << 30}) {
    CAPTURE(budget);
    std::vector<MatrixPlan> plans(layout.weights.size());
    allocate_like_hcinfer(layout, losses, kl_by_layer, budget, 4, &plans);
    uint64_t bytes = 0;
    for (const MatrixLoss& loss : losses) {
      const uint32_t rank = plans[loss.matrix].rank;
      CHECK((rank == 0 || rank == 32 || rank == 64 || rank == 128));
      bytes += branch_bytes(layout.weights[loss.matrix].rows, layout.weights[loss.matrix].columns, rank, 4);
    }
    CHECK(bytes <= budget);
    CHECK((bytes > 0) == (budget > 3000));
    const auto least = matrices_of(layout.layers[0]), most = matrices_of(layout.layers[1]);
    for (size_t kind = 0; kind < least.size(); ++kind) CHECK(plans[least[kind]].rank <= plans[most[kind]].rank);
  }
}

}  // namespace
}  // namespace outrigger::testing
