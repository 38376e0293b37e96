// How branches are trained, and what came of it.
#ifndef OUTRIGGER_SRC_TRAINING_POLISH_OPTIONS_H_
#define OUTRIGGER_SRC_TRAINING_POLISH_OPTIONS_H_

#include <outrigger/compress.h>
#include <outrigger/status.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "src/training/branched_matrix.h"

namespace outrigger {

/// What storing makes of factors, in place. Must give the same for the same. Empty: factors stay float32.
using FactorRounding = std::function<Status(TrainedBranch* branch)>;

struct PolishOptions {
  bool moves_branches = true;    ///< false: they take part as they are
  uint32_t steps = 50;           ///< in all; block by block for each layer
  uint32_t tokens_a_step = 320;  ///< a piece of a chunk; all of it where it is shorter
  /// The greatest: it rises over the first steps and falls to 0 as a cosine does. Of a model of 135 million weights at two bits, 0.77 nats
  /// from itself with branches of rank 32, 50 steps end to end at 3e-4, 6e-4 and 1e-3 left 0.518, 0.494 and 0.490.
  float learning_rate = 6e-4f;
  /// The same for a backbone's scales and minima (ScalePupils::step()), and its norms: by which part of a weight a step moves them at most,
  /// of two bits, and less where steps between codes are shorter. Of the same model, 0.961 without branches, 1e-3, 2e-3 and 6e-3 left
  /// 0.626, 0.623 and 0.732.
  float scale_rate = 2e-3f, norm_rate = 2e-3f;
  /// The model is then always asked with rounded factors, and steps move those behind them, which do not forget: four bits would otherwise
  /// lose most of what was learned.
  FactorRounding round;
  uint32_t held_out_chunks = 4;  ///< that no step uses, spread evenly over the text; a piece of each says whether it became better

  /// Errors: kInvalidArgument.
  Status validate() const;
  /// Of step `step`, from 0, where `greatest` is one of the rates.
  float rate_of(uint32_t step, float greatest) const;
};

struct PolishReport {
  double held_out_before = 0, held_out_after = 0;  ///< KL(model || backbone and branches), nats a token
  std::vector<double> losses;                      ///< end to end: of each step's piece, before the step
  std::vector<PolishedLayer> layers;               ///< block by block: of the layers that have branches
  bool is_kept = false;                            ///< held_out_after is the smaller one: the branches are the new ones
  double part = 1;                                 ///< end to end: of the way that steps went, what held_out_after is of: 1, 1/2 or 1/4
};

/// What is done, of how much, in about equal parts; an error stops.
using PolishWatch = std::function<Status(uint32_t done, uint32_t all)>;

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_POLISH_OPTIONS_H_
