// Residuals of experts: what corrects an expert that was made, and how those of a layer become a stack's.
#ifndef OUTRIGGER_SRC_COMPRESS_EXPERT_RESIDUAL_H_
#define OUTRIGGER_SRC_COMPRESS_EXPERT_RESIDUAL_H_

#include <cstdint>
#include <span>

#include "src/base/thread_team.h"
#include "src/compress/matrix_maker.h"
#include "src/compress/selective_residual.h"
#include "src/forward/expert_forward.h"

namespace outrigger {

/// Of gate, up and down, or of gate and up alone, as a step does it. Both must outlive it. What it gives throws std::bad_alloc.
ExpertCorrections corrections_of(std::span<const CompressedMatrix> made, ThreadTeam& team);

/// Adds the residual of the next of `experts` to the end of a stack's. Precondition: both have one, or neither. Throws std::bad_alloc.
void append_residual(const SelectiveResidual& one, uint32_t experts, SelectiveResidual* stack);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_EXPERT_RESIDUAL_H_
