// The scale and the minimum of a block of weights, for many rows at once.
#ifndef OUTRIGGER_SRC_TENSOR_SCALE_SEARCH_H_
#define OUTRIGGER_SRC_TENSOR_SCALE_SEARCH_H_

#include <cstddef>
#include <span>

#include "src/tensor/own_form.h"

namespace outrigger {

/// Rows that are worked on together: whole vectors of every instruction level, and few enough that a strip of 4096 columns stays in the
/// second-level cache.
inline constexpr size_t kScaleLanes = 32;

/// Of each row; both are values of float16. Scales are positive, or below zero where that turns a codebook round.
struct BlockScales {
  float scale[kScaleLanes];
  float minimum[kScaleLanes];
};

/// Those with which the levels leave least of sum over columns of column_weight * error^2. `weights` is [columns][kScaleLanes].
/// Without `searches` the ends of the range are the smallest and the largest weight.
BlockScales search_scales(std::span<const float> weights, std::span<const float> column_weights, const OwnLevels& levels, bool searches);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_SCALE_SEARCH_H_
