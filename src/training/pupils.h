// Pupils: the factors of some branches while steps move them.
#ifndef OUTRIGGER_SRC_TRAINING_PUPILS_H_
#define OUTRIGGER_SRC_TRAINING_PUPILS_H_

#include <span>
#include <vector>

#include "src/memory/leased_vector.h"
#include "src/training/adam.h"
#include "src/training/branched_matrix.h"
#include "src/training/polish_options.h"

namespace outrigger {

/// Factors are trained balanced: so that the numbers of A and of B are about as large, component by component, since steps are as long in
/// both. Where they are rounded, their matrices have them so, and those that steps move stand behind. Threads: one call at a time. Calls
/// may throw std::bad_alloc.
class Pupils {
 public:
  /// `round` and `team` must outlive the object.
  Pupils(const FactorRounding& round, ThreadTeam& team) : round_(round), team_(team) {}

  /// Gives `matrix`, which must outlive the object, the branch, unrounded as it is. Precondition: its sizes are the matrix's.
  void add(const TrainedBranch& branch, BranchedMatrix* matrix);

  /// Moves all factors against their matrices' gradients, by about `rate` each. Errors: those of the rounding.
  Status step(float rate);

  /// Leaves so much of the way that they went from `first`, the branches in the order in which they were added. Errors: those of the
  /// rounding.
  Status retreat(std::span<const TrainedBranch> first, float part);

  /// The i-th that was added, as it is now, unrounded, in the scale it was given in. Leaves `branch->matrix` alone.
  void give_back(size_t i, TrainedBranch* branch) const;
  size_t count() const { return pupils_.size(); }

 private:
  struct Pupil {
    BranchedMatrix* matrix;
    Adam adam_a, adam_b;
    LeasedVector<float> a, b;    ///< balanced, b transposed
    LeasedVector<float> scales;  ///< of each component, what its A was divided and its B multiplied by
    TrainedBranch rounded;
  };
  Status show(Pupil* pupil);
  static void restore(const Pupil& pupil, TrainedBranch* branch);

  const FactorRounding& round_;
  ThreadTeam& team_;
  std::vector<Pupil> pupils_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_PUPILS_H_
