// Allocation: what each matrix' loss is worth, and how many bits that earns it.
#ifndef OUTRIGGER_SRC_COMPRESS_ALLOCATION_H_
#define OUTRIGGER_SRC_COMPRESS_ALLOCATION_H_

#include <outrigger/compress.h>
#include <outrigger/status.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "src/compress/matrix_plan.h"
#include "src/compress/selective_residual.h"
#include "src/forward/kl_meter.h"

namespace outrigger {

class SavedWork;

/// What is known of a matrix that lost something.
struct MatrixLoss {
  uint32_t matrix = 0;           ///< of the layout
  double kl = 0;                 ///< how much nearer the model comes when this matrix is put right
  std::vector<double> spectrum;  ///< falling: what each component of its best branch restores of the mean square of what the outputs lost
  double all = 0;                ///< the sum over all components, those beyond `spectrum` too
  ShareCurve curve;              ///< what shares of its residual's columns restore
};

/// Sets `kl` of every loss, and gives what it measured, without a curve; what `saved` has of it is not measured again: each kind of matrix
/// (q, k, ...) of all layers is put right at once, then each layer's matrices; a matrix's share is the product of its kind's and its
/// layer's, which is exact when layers differ by a factor alone. `lossy` reads the quantised matrices, `watch` hears of every measurement.
/// Costs 7 passes over the meter's text, and half of one for each layer. Errors: those of the readers and the watch.
Result<CompressSurvey> measure_losses(const ModelLayout& layout, KlMeter& meter, const MatrixReader& lossy, const MatrixReader& exact,
                                      const std::function<Status(uint32_t done, uint32_t all)>& watch, std::vector<MatrixLoss>* losses,
                                      SavedWork* saved = nullptr);

/// Gives each matrix 2, 3 or 4 bits, `mean_bits` a weight on average at most, from where `losses` were measured (all of one width): a bit
/// more leaves a quarter of a matrix's loss, a bit less makes four of it. Sets the plans' bits.
void allocate_bits(const ModelLayout& layout, std::span<const MatrixLoss> losses, double mean_bits, std::vector<MatrixPlan>* plans);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_ALLOCATION_H_
