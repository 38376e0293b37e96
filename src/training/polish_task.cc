// What both ways of training branches are given: what is wrong with it is said before anything is computed.
#include "src/training/polish_task.h"

#include <algorithm>
#include <cmath>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/forward/dense_layer.h"

namespace outrigger {
namespace {

Status invalid(std::string message) { return Status(StatusCode::kInvalidArgument, std::move(message)); }

bool are_finite(const LeasedVector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

Status check_text(const ModelLayout& layout, std::span<const Token> tokens, uint32_t chunk_tokens, const PolishOptions& options) {
  if (chunk_tokens == 0 || tokens.size() % chunk_tokens != 0)
    return invalid(formatted("{} tokens are not whole chunks of {}", tokens.size(), chunk_tokens));
  const size_t chunks = tokens.size() / chunk_tokens;
  if (chunks <= options.held_out_chunks) {
    return invalid(formatted("the text has {} chunks of {} tokens, need at least {}: {} are held out; give a longer text", chunks,
                             chunk_tokens, options.held_out_chunks + 1, options.held_out_chunks));
  }
  const auto is_known = [&](Token token) { return token >= 0 && static_cast<uint64_t>(token) < layout.vocabulary; };
  if (!std::all_of(tokens.begin(), tokens.end(), is_known))
    return invalid(formatted("the text has tokens that are not among the {} of the vocabulary", layout.vocabulary));
  return {};
}

}  // namespace

size_t piece_tokens(const ModelConfig& config, uint32_t chunk_tokens, const PolishOptions& options) {
  const size_t most = std::min<size_t>(options.tokens_a_step, chunk_tokens);
  return config.window_tokens > 0 ? std::min<size_t>(most, config.window_tokens) : most;
}

Status check_branches(const ModelLayout& layout, std::span<const TrainedBranch> branches) {
  std::vector<bool> can_have_one(layout.weights.size());
  for (const LayerLayout& layer : layout.layers) {
    for (const uint32_t matrix : matrices_of(layer)) can_have_one[matrix] = true;
  }
  for (const TrainedBranch& branch : branches) {
    if (branch.matrix >= can_have_one.size() || !can_have_one[branch.matrix]) {
      return invalid(formatted("a branch of matrix {}, which is none of a layer's or has one already", branch.matrix));
    }
    can_have_one[branch.matrix] = false;
    const WeightSource& weight = layout.weights[branch.matrix];
    const std::string& name = layout.shape.matrices[branch.matrix].name;
    if (branch.rank == 0 || branch.a.size() != branch.rank * weight.columns || branch.b.size() != branch.rank * weight.rows) {
      return invalid(formatted("factors of {} and {} numbers at rank {}, for a matrix of {} x {}", branch.a.size(), branch.b.size(),
                               branch.rank, weight.rows, weight.columns))
          .about(name);
    }
    if (!are_finite(branch.a) || !are_finite(branch.b)) return invalid("the branch's factors are not all finite").about(name);
  }
  return {};
}

Result<PolishTask> make_polish_task(const ModelLayout& layout, std::span<const Token> tokens, uint32_t chunk_tokens,
                                    const PolishOptions& options) {
  OTR_TRY(options.validate());
  OTR_TRY(check_text(layout, tokens, chunk_tokens, options));
  PolishTask task;
  task.piece_tokens = piece_tokens(layout.config, chunk_tokens, options);
  task.held_out = options.held_out_chunks;
  const PolishPieces places = choose_pieces(tokens.size() / chunk_tokens, chunk_tokens, task.piece_tokens, task.held_out, options.steps);
  // A place that serves several steps is one piece.
  std::vector<size_t> distinct = places.steps;
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  for (const size_t place : places.held_out) task.pieces.push_back(tokens.subspan(place, task.piece_tokens));
  for (const size_t place : distinct) task.pieces.push_back(tokens.subspan(place, task.piece_tokens));
  for (const size_t place : places.steps) {
    const auto piece = std::lower_bound(distinct.begin(), distinct.end(), place) - distinct.begin();
    task.steps.push_back(task.held_out + static_cast<size_t>(piece));
  }
  return task;
}

}  // namespace outrigger
