// Correction cost: what corrections take beside their bytes, as plans count it.
#ifndef OUTRIGGER_SRC_PLAN_CORRECTION_COST_H_
#define OUTRIGGER_SRC_PLAN_CORRECTION_COST_H_

namespace outrigger {

// Columns that are read here and there come at a third to a quarter of the rate of reading in order: a core waits for so many lines of
// memory at once and no more.
inline constexpr double kScatteredReadCost = 3.5;

// A branch is two nodes more for its window, with a barrier behind each: SmolLM2-135M on two cores, 120 windows with branches, takes 0.18
// ms longer than their bytes do.
inline constexpr double kBranchWindowS = 1.5e-6;

// Where copies hand over, four lanes take a corrected window over from one another, each some 10 us after it could.
inline constexpr double kHandoffS = 40e-6;

// Then too, however long the device multiplies meanwhile, its lane waits for the results to be taken over: 51 to 72 us a window on two
// cores, of 32, 60 and 120 windows of 0.2 to 2 MB, less what adding them is predicted to take.
inline constexpr double kTakeOverS = 45e-6;

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_CORRECTION_COST_H_
