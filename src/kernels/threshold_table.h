// ThresholdTable: which worth a column must have for a given share of the columns to be read.
#ifndef OUTRIGGER_SRC_KERNELS_THRESHOLD_TABLE_H_
#define OUTRIGGER_SRC_KERNELS_THRESHOLD_TABLE_H_

#include <array>
#include <cstddef>
#include <limits>

namespace outrigger {

/// Thresholds for choose_columns(), of one matrix: plain data, as a file may hold it.
struct ThresholdTable {
  static constexpr size_t kSteps = 32;

  /// [k]: above it is a share of k / kSteps. Never rising; the first is +infinity, the last below zero.
  std::array<float, kSteps + 1> at{};

  /// The threshold for any share; 0 and less: +infinity; 1 and more, or a NaN: below zero. Never rises with the share.
  /// Linear between the steps, where thresholds differ by little. Below the first step the threshold rises by as much, each time the share
  /// is halved, as from the second step to the first: normal inputs' largest worths thin out about so. Inputs with outliers have more of
  /// them: a share below 1 / kSteps is then exceeded.
  float threshold(double share) const;
};

/// The threshold for an input whose product goes on with this weight, so that reading a column is worth weight * |x| * norm: what |x| *
/// norm must be above. Below zero it stays: all is read then. Weights of nothing, less, or that are no numbers: +infinity.
inline float gated_threshold(float threshold, float weight) {
  if (threshold < 0) return threshold;
  return weight > 0 ? threshold / weight : std::numeric_limits<float>::infinity();
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_THRESHOLD_TABLE_H_
