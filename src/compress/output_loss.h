// What a compressed matrix' outputs lose.
#ifndef OUTRIGGER_SRC_COMPRESS_OUTPUT_LOSS_H_
#define OUTRIGGER_SRC_COMPRESS_OUTPUT_LOSS_H_

#include <span>

#include "src/base/thread_team.h"
#include "src/compress/matrix_maker.h"
#include "src/compress/selective_residual.h"

namespace outrigger {

/// Sets `made`'s loss and loss_left, on some of the inputs in `sample`. `wanted`: the matrix; `replaced`: what the backbone with its branch
/// makes of it. Throws std::bad_alloc.
void measure_loss(std::span<const float> wanted, std::span<const float> replaced, const InputSample& sample, ThreadTeam& team,
                  CompressedMatrix* made);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_OUTPUT_LOSS_H_
