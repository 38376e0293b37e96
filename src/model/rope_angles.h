// RopeAngles: the angles by which a model's queries and keys turn at each position.
#ifndef OUTRIGGER_SRC_MODEL_ROPE_ANGLES_H_
#define OUTRIGGER_SRC_MODEL_ROPE_ANGLES_H_

#include <cstddef>
#include <vector>

#include "src/model/layout.h"

namespace outrigger {

class RopeAngles {
 public:
  /// `fixed`: the layout's fixed tensors.
  RopeAngles(const ModelLayout& layout, const float* fixed);

  /// dst[2 i] and dst[2 i + 1], rope_dim floats: cosine and sine of pair i's angle at a position, times the scaling's magnitude. Any
  /// thread.
  void fill(size_t position, float* dst) const;

 private:
  std::vector<double> frequencies_;  ///< [rope_dim / 2] radians per position
  const double magnitude_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_ROPE_ANGLES_H_
