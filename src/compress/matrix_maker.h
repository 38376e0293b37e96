// MatrixMaker: one matrix in few bits, with what corrects it and what a survey wants to know of it.
#ifndef OUTRIGGER_SRC_COMPRESS_MATRIX_MAKER_H_
#define OUTRIGGER_SRC_COMPRESS_MATRIX_MAKER_H_

#include <outrigger/compress.h>

#include <cstdint>
#include <span>

#include "src/base/thread_team.h"
#include "src/compress/low_rank.h"
#include "src/compress/matrix_plan.h"
#include "src/compress/quantiser.h"
#include "src/compress/selective_residual.h"
#include "src/memory/leased_vector.h"

namespace outrigger {

struct CompressedMatrix {
  LowBitMatrix backbone;
  LowRankBranch branch;            ///< of rank 0 where none was planned
  SelectiveResidual residual;      ///< of share 0 where none was planned
  ShareCurve curve;                ///< of what the backbone alone lost, where shares are surveyed
  double loss = 0, loss_left = 0;  ///< as CompressedMatrixReport has them
  LossSpectrum lost;               ///< of what the backbone alone lost, where components are surveyed
  uint64_t tokens = 0;             ///< of the calibration that took this expert; a stack has the sum over its experts, other matrices 0
};

/// What is known of a window's inputs. `root` is null where no matrix of the window has a branch or is asked for components.
struct WindowInputs {
  InputStatistics statistics;
  const InputRoot* root;
  const InputSample& sample;
};

/// What a survey wants to know besides: the first components of what a matrix lost, up to so many, a multiple of 32; and what shares of its
/// columns restore.
struct SurveyWishes {
  uint32_t components = 0;
  bool columns = false;
};

/// Threads: one call at a time.
class MatrixMaker {
 public:
  /// `options` and `team` must outlive the object.
  MatrixMaker(const CompressOptions& options, const SurveyWishes& wishes, ThreadTeam& team)
      : options_(options), wishes_(wishes), team_(team) {}

  /// `values` [rows, columns] become what replaces them, without a residual. The losses are not measured. Errors: kInvalidArgument for
  /// weights or inputs that are no numbers; kOutOfMemory. Throws std::bad_alloc.
  Result<CompressedMatrix> make(const MatrixPlan& plan, const WindowInputs& inputs, uint64_t rows, uint64_t columns,
                                LeasedVector<float>* values) const;

 private:
  Result<CompressedMatrix> make_plain(const MatrixPlan& plan, const WindowInputs& inputs, uint64_t rows, uint64_t columns,
                                      LeasedVector<float>* values) const;
  Result<CompressedMatrix> make_branched(const MatrixPlan& plan, const WindowInputs& inputs, uint64_t rows, uint64_t columns,
                                         LeasedVector<float>* values) const;

  const CompressOptions& options_;
  const SurveyWishes wishes_;
  ThreadTeam& team_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_MATRIX_MAKER_H_
