// ThresholdTable: between and beyond its steps.
#include "src/kernels/threshold_table.h"

#include <algorithm>
#include <cmath>

namespace outrigger {

float ThresholdTable::threshold(double share) const {
  if (share <= 0) return at.front();
  if (!(share < 1)) return at.back();
  const double steps = share * kSteps;
  if (steps < 1) return static_cast<float>(at[1] - (double{at[1]} - at[2]) * std::log2(steps));
  const auto step = static_cast<size_t>(steps);
  // The last step is below every worth; what lies before it ends at the least worth there can be.
  const double low = std::max(0.0f, at[step + 1]);
  return static_cast<float>(at[step] + (low - at[step]) * (steps - static_cast<double>(step)));
}

}  // namespace outrigger
