// polish_branches: checks, then steps, then the question whether they were of use.
#include "src/compress/polish.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <numbers>

#include "src/base/macros.h"
#include "src/compress/adam.h"
#include "src/compress/polish_pieces.h"

namespace outrigger {
namespace {

// Adam's first steps go the full length in every number, whatever little is known of its gradient by then.
constexpr uint32_t kRisingSteps = 5;

Status invalid(std::string message) { return Status(StatusCode::kInvalidArgument, std::move(message)); }

bool are_finite(const LeasedVector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

Status check_branches(const ModelLayout& layout, const std::vector<TrainedBranch>& branches) {
  std::vector<bool> can_have_one(layout.weights.size());
  for (const LayerLayout& layer : layout.layers) {
    for (const uint32_t matrix : matrices_of(layer)) can_have_one[matrix] = true;
  }
  for (const TrainedBranch& branch : branches) {
    if (branch.matrix >= can_have_one.size() || !can_have_one[branch.matrix]) {
      return invalid(fmt::format("a branch of matrix {}, which is none of a layer's or has one already", branch.matrix));
    }
    can_have_one[branch.matrix] = false;
    const WeightSource& weight = layout.weights[branch.matrix];
    const std::string& name = layout.shape.matrices[branch.matrix].name;
    if (branch.rank == 0 || branch.a.size() != branch.rank * weight.columns || branch.b.size() != branch.rank * weight.rows) {
      return invalid(fmt::format("factors of {} and {} numbers at rank {}, for a matrix of {} x {}", branch.a.size(), branch.b.size(), branch.rank,
                                 weight.rows, weight.columns))
          .about(name);
    }
    if (!are_finite(branch.a) || !are_finite(branch.b)) return invalid("the branch's factors are not all finite").about(name);
  }
  return {};
}

size_t piece_tokens(const ModelConfig& config, uint32_t chunk_tokens, const PolishOptions& options) {
  const size_t most = std::min<size_t>(options.tokens_a_step, chunk_tokens);
  return config.window_tokens > 0 ? std::min<size_t>(most, config.window_tokens) : most;
}

Status check_text(const ModelLayout& layout, std::span<const Token> tokens, uint32_t chunk_tokens, const PolishOptions& options) {
  if (chunk_tokens == 0 || tokens.size() % chunk_tokens != 0)
    return invalid(fmt::format("{} tokens are not whole chunks of {}", tokens.size(), chunk_tokens));
  const size_t chunks = tokens.size() / chunk_tokens;
  if (chunks <= options.held_out_chunks) {
    return invalid(fmt::format("the text has {} chunks of {} tokens, need at least {}: {} are held out; give a longer text", chunks, chunk_tokens,
                               options.held_out_chunks + 1, options.held_out_chunks));
  }
  const auto is_known = [&](Token token) { return token >= 0 && static_cast<uint64_t>(token) < layout.vocabulary; };
  if (!std::all_of(tokens.begin(), tokens.end(), is_known))
    return invalid(fmt::format("the text has tokens that are not among the {} of the vocabulary", layout.vocabulary));
  return {};
}

// Of each component, what its A is divided and its B multiplied by, so that the numbers in both are about as large: steps are as long in both.
LeasedVector<float> balance(const TrainedBranch& branch) {
  const size_t columns = branch.a.size() / branch.rank, rows = branch.b.size() / branch.rank;
  LeasedVector<float> scales(branch.rank, 1);
  for (size_t j = 0; j < branch.rank; ++j) {
    double of_a = 0, of_b = 0;
    for (size_t c = 0; c < columns; ++c) of_a += static_cast<double>(branch.a[j * columns + c]) * branch.a[j * columns + c];
    for (size_t r = 0; r < rows; ++r) of_b += static_cast<double>(branch.b[r * branch.rank + j]) * branch.b[r * branch.rank + j];
    if (of_a > 0 && of_b > 0)
      scales[j] = static_cast<float>(std::sqrt(std::sqrt(of_a / static_cast<double>(columns)) / std::sqrt(of_b / static_cast<double>(rows))));
  }
  return scales;
}

void rescale(TrainedBranch* branch, const LeasedVector<float>& scales, bool is_back) {
  const size_t columns = branch->a.size() / branch->rank;
  for (size_t i = 0; i < branch->a.size(); ++i) branch->a[i] *= is_back ? scales[i / columns] : 1 / scales[i / columns];
  for (size_t i = 0; i < branch->b.size(); ++i) branch->b[i] *= is_back ? 1 / scales[i % branch->rank] : scales[i % branch->rank];
}

/// A branch's factors, as they are trained: balanced, b transposed. Where they are rounded, the matrix has them so, and these are those behind.
struct Pupil {
  BranchedMatrix* matrix;
  Adam adam_a, adam_b;
  LeasedVector<float> a, b;
};

class Polisher {
 public:
  Polisher(BranchTrainer* trainer, const PolishOptions& options, const std::vector<TrainedBranch>& branches, ThreadTeam* team)
      : trainer_(*trainer), options_(options), team_(*team), rounded_(branches) {
    for (const TrainedBranch& branch : branches) {
      scales_.push_back(balance(branch));
      TrainedBranch balanced = branch;
      rescale(&balanced, scales_.back(), false);
      trainer_.set_branch(balanced);
      BranchedMatrix& matrix = trainer_.matrix(branch.matrix);
      pupils_.push_back({&matrix, Adam(branch.a.size()), Adam(branch.b.size()), matrix.factors().a, matrix.factors().b});
    }
  }

  Result<double> mean_loss(size_t first_piece, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; ++i) {
      OTR_ASSIGN(const double loss, trainer_.loss(first_piece + i));
      sum += loss;
    }
    return sum / static_cast<double>(count);
  }

  /// The loss before the step, which is not taken if that is no number.
  Result<double> step(size_t piece, float rate) {
    OTR_ASSIGN(const double loss, trainer_.loss_and_gradients(piece));
    if (!std::isfinite(loss)) return loss;
    for (size_t i = 0; i < pupils_.size(); ++i) {
      Pupil& pupil = pupils_[i];
      const TrainedFactors& factors = pupil.matrix->factors();
      pupil.adam_a.step(pupil.a, factors.a_gradient, rate, team_);
      pupil.adam_b.step(pupil.b, factors.b_gradient, rate, team_);
      OTR_TRY(show(i));
    }
    return loss;
  }

  void give_back(std::vector<TrainedBranch>* branches) const {
    for (size_t i = 0; i < pupils_.size(); ++i) as_given(i, &(*branches)[i]);
  }

 private:
  // A pupil's factors in the caller's scale and order.
  void as_given(size_t i, TrainedBranch* branch) const {
    const size_t rows = pupils_[i].matrix->rows();
    branch->a = pupils_[i].a;
    transpose({pupils_[i].b.data(), rows}, branch->rank, rows, branch->b.data());
    rescale(branch, scales_[i], true);
  }

  // To the student: as they are, or as storing would make them.
  Status show(size_t i) {
    TrainedFactors& factors = pupils_[i].matrix->factors();
    if (!options_.round) {
      factors.a = pupils_[i].a;
      factors.b = pupils_[i].b;
    } else {
      TrainedBranch& rounded = rounded_[i];
      as_given(i, &rounded);
      OTR_TRY(options_.round(&rounded));
      rescale(&rounded, scales_[i], false);
      factors.a = rounded.a;
      transpose({rounded.b.data(), rounded.rank}, pupils_[i].matrix->rows(), rounded.rank, factors.b.data());
    }
    pupils_[i].matrix->repack(team_);
    return {};
  }

  BranchTrainer& trainer_;
  const PolishOptions& options_;
  ThreadTeam& team_;
  std::vector<Pupil> pupils_;
  std::vector<LeasedVector<float>> scales_;
  std::vector<TrainedBranch> rounded_;
};

float rate_of(const PolishOptions& options, uint32_t step) {
  const double rise = std::min(1.0, (step + 1.0) / kRisingSteps), fall = 0.5 + 0.5 * std::cos(std::numbers::pi * step / options.steps);
  return static_cast<float>(options.learning_rate * rise * fall);
}

}  // namespace

Status PolishOptions::validate() const {
  const auto wrong = [](std::string message) { return invalid("polishing: " + std::move(message)); };
  if (steps == 0 || steps > 100000) return wrong(fmt::format("steps is {}, need 1 to 100000", steps));
  if (tokens_a_step < 16 || tokens_a_step > 65536) return wrong(fmt::format("tokens_a_step is {}, need 16 to 65536", tokens_a_step));
  if (!(learning_rate > 0) || learning_rate > 1) return wrong(fmt::format("learning_rate is {}, need more than 0 and at most 1", learning_rate));
  if (held_out_chunks == 0 || held_out_chunks > 65536) return wrong(fmt::format("held_out_chunks is {}, need 1 to 65536", held_out_chunks));
  return {};
}

Result<PolishReport> polish_branches(const Model::Impl& model, const MatrixReader& student, std::span<const Token> tokens, uint32_t chunk_tokens,
                                     const PolishOptions& options, ThreadTeam& team, const PolishWatch& watch,
                                     std::vector<TrainedBranch>* branches) try {
  const ModelLayout& layout = *model.layout;
  OTR_TRY(options.validate());
  OTR_TRY(check_branches(layout, *branches));
  OTR_TRY(check_text(layout, tokens, chunk_tokens, options));
  const size_t length = piece_tokens(layout.config, chunk_tokens, options), held_out = options.held_out_chunks;
  const PolishPieces places = choose_pieces(tokens.size() / chunk_tokens, chunk_tokens, length, held_out, options.steps);
  // A place that serves several steps is one piece.
  std::vector<size_t> distinct = places.steps;
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  std::vector<Piece> pieces;
  for (const size_t place : places.held_out) pieces.push_back(tokens.subspan(place, length));
  for (const size_t place : distinct) pieces.push_back(tokens.subspan(place, length));

  uint32_t done = 0;
  const uint32_t all = layout.config.layers + options.steps;
  OTR_TRY(watch(done, all));
  OTR_ASSIGN(const std::unique_ptr<BranchTrainer> trainer,
             BranchTrainer::create(model, student, std::move(pieces), length, team, [&] { return watch(++done, all); }));
  Polisher polisher(trainer.get(), options, *branches, &team);
  PolishReport report;
  OTR_ASSIGN(report.held_out_before, polisher.mean_loss(0, held_out));
  if (!std::isfinite(report.held_out_before)) return invalid("the model's outputs are not all finite").in_file(model.info.file);
  for (uint32_t step = 0; step < options.steps; ++step) {
    const auto piece = std::lower_bound(distinct.begin(), distinct.end(), places.steps[step]) - distinct.begin();
    OTR_ASSIGN(const double loss, polisher.step(held_out + static_cast<size_t>(piece), rate_of(options, step)));
    report.losses.push_back(loss);
    OTR_TRY(watch(++done, all));
    if (!std::isfinite(loss)) break;
  }
  OTR_ASSIGN(report.held_out_after, polisher.mean_loss(0, held_out));
  report.is_kept = report.held_out_after < report.held_out_before;
  if (report.is_kept) polisher.give_back(branches);
  return report;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
