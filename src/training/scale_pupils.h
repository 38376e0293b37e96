// ScalePupils: scales and minima of matrices in few bits while steps move them, the codes staying as they are.
#ifndef OUTRIGGER_SRC_TRAINING_SCALE_PUPILS_H_
#define OUTRIGGER_SRC_TRAINING_SCALE_PUPILS_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "src/base/thread_team.h"
#include "src/memory/leased_vector.h"
#include "src/tensor/dtype.h"
#include "src/training/adam.h"
#include "src/training/branched_matrix.h"

namespace outrigger {

/// A block of ours begins with its scale and its minimum as float16: what training changes of it.
inline constexpr size_t kBlockHeadBytes = 4;

/// The layout's matrix with that index, as a file has it.
struct MatrixCodes {
  uint32_t matrix = 0;
  DType type = DType::kO2;        ///< one of ours
  LeasedVector<std::byte> bytes;  ///< whole blocks, row by row
};

/// A block's scale is trained as a multiple of what it was, its minimum by its distance from what it was, in steps between neighbouring
/// codes: so a rate is as long for every block, however small its weights. What they are shown as is rounded to float16, as it will be
/// stored; what steps move stands behind. Threads: one call at a time. Calls may throw std::bad_alloc.
class ScalePupils {
 public:
  /// `team` must outlive the object.
  explicit ScalePupils(ThreadTeam& team) : team_(team) {}

  /// `matrix`, which must outlive the object and have been set to what the codes say, tells its weights' gradients to it from now on, until
  /// the object goes. Preconditions: as many codes as the matrix has weights.
  void add(MatrixCodes codes, BranchedMatrix* matrix);
  ~ScalePupils();

  /// Moves all scales and minima against their gradients: the lowest and the highest weight of a block by about `rate` and three times that
  /// of a step each, whatever the bits.
  Status step(float rate);

  /// Leaves so much of the way that they went.
  Status retreat(float part);
  /// Back to how they were added.
  Status reset();

  /// How long a step between codes of the matrix with most bits is beside one of two bits: 3 / 7 with three, 1 / 5 with four; 1 without
  /// any.
  float finest() const;

  size_t count() const { return pupils_.size(); }
  /// The i-th that was added, as it is now.
  MatrixCodes& codes(size_t i) { return pupils_[i]->codes; }

 private:
  struct Pupil {
    MatrixCodes codes;
    BranchedMatrix* matrix;
    float step_scales;                               ///< between neighbouring codes, on average
    float rate_of_multiples;                         ///< in rates
    LeasedVector<float> first_scales, first_minima;  ///< of each block
    LeasedVector<float> multiples, distances;        ///< what is trained
    LeasedVector<float> multiple_gradients, distance_gradients;
    Adam adam_multiples, adam_distances;
  };
  void take_gradients(Pupil& pupil, size_t first_row, std::span<const float> gradients);
  Status show(Pupil& pupil);

  ThreadTeam& team_;
  std::vector<std::unique_ptr<Pupil>> pupils_;
  LeasedVector<float> values_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_SCALE_PUPILS_H_
