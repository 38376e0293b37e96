// BackbonePupils: what is trained of a backbone, its scales, minima and norms together.
#ifndef OUTRIGGER_SRC_TRAINING_BACKBONE_PUPILS_H_
#define OUTRIGGER_SRC_TRAINING_BACKBONE_PUPILS_H_

#include <outrigger/status.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "src/base/thread_team.h"
#include "src/training/norm_pupils.h"
#include "src/training/polish_options.h"
#include "src/training/scale_pupils.h"

namespace outrigger {

struct TrainedBackbone {
  std::vector<MatrixCodes> codes;  ///< of matrices whose scales and minima are trained, as the student has them
  std::vector<TrainedNorm> norms;  ///< what the model's norms became; empty before
};

/// Of the whole model, or of one layer. Threads: one call at a time. Calls may throw std::bad_alloc.
class BackbonePupils {
 public:
  /// `matrix` finds the student's matrices; `fixed` and `norm_gradients` are as the trainer has them. What they show must outlive the
  /// object.
  BackbonePupils(const ModelLayout& layout, std::optional<uint32_t> layer, std::vector<MatrixCodes> codes,
                 const std::function<BranchedMatrix&(uint32_t matrix)>& matrix, std::span<float> fixed,
                 std::span<const float> norm_gradients, ThreadTeam& team)
      : scales_(team), norms_(layout, layer, fixed, team), norm_gradients_(norm_gradients) {
    for (MatrixCodes& one : codes) {
      BranchedMatrix& shown = matrix(one.matrix);
      scales_.add(std::move(one), &shown);
    }
  }

  Status step(const PolishOptions& options, uint32_t step) {
    norms_.step(norm_gradients_, scales_.finest() * options.rate_of(step, options.norm_rate));
    return scales_.step(options.rate_of(step, options.scale_rate));
  }
  /// Leaves so much of the way that steps went.
  Status retreat(float part) {
    norms_.retreat(part);
    return scales_.retreat(part);
  }
  /// As it was in the beginning.
  Status reset() {
    norms_.reset();
    return scales_.reset();
  }
  /// As it is now. Nothing may be asked of the object afterwards.
  TrainedBackbone give_back() {
    TrainedBackbone backbone;
    for (size_t i = 0; i < scales_.count(); ++i) backbone.codes.push_back(std::move(scales_.codes(i)));
    backbone.norms = norms_.norms();
    return backbone;
  }

 private:
  ScalePupils scales_;
  NormPupils norms_;
  const std::span<const float> norm_gradients_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_BACKBONE_PUPILS_H_
