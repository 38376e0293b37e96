// Frame: scales, and rules at fourths.
#include "src/page/chart.h"

#include <algorithm>
#include <cmath>

namespace outrigger {

double round_above(double most) {
  if (!(most > 0)) return 1;
  const double ten = std::pow(10.0, std::floor(std::log10(most)));
  for (const double step : {1.0, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 8.0}) {
    if (step * ten >= most * 0.999) return step * ten;
  }
  return 10 * ten;
}

double Frame::y(double value) const { return bottom() - std::clamp(value / most, 0.0, 1.0) * height; }

void Frame::rules(Canvas* canvas, const std::function<std::string(double)>& text) const {
  for (int i = 0; i <= 4; ++i) {
    const double at = bottom() - height * i / 4;
    canvas->line(left, at, left + width, at, i == 0 ? "edge" : "rule");
    canvas->text(left - 8, at + 4, "soft small right", text(most * i / 4));
  }
}

}  // namespace outrigger
