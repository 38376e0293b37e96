// The drawings of a run: what lanes did, what passes took, and what was accepted of drafts.
#ifndef OUTRIGGER_SRC_DECODE_RUN_DRAWINGS_H_
#define OUTRIGGER_SRC_DECODE_RUN_DRAWINGS_H_

#include <outrigger/engine.h>
#include <outrigger/speculation.h>

#include "src/page/canvas.h"

namespace outrigger {

/// A bar for each lane that worked: its share of the steps' time. Precondition: busy.steps > 0.
Drawing draw_lanes(const LaneBusy& busy);
/// Drafting and verifying, of a pass on average. Precondition: report.passes > 0.
Drawing draw_passes(const SpeculationReport& report);
/// How many drafts reached each depth, and how many were accepted so deep. Precondition: report.drafted > 0.
Drawing draw_acceptance(const SpeculationReport& report);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_RUN_DRAWINGS_H_
