// Frame: the rules and numbers behind a chart's bars or curves.
#ifndef OUTRIGGER_SRC_PAGE_CHART_H_
#define OUTRIGGER_SRC_PAGE_CHART_H_

#include <functional>
#include <string>

#include "src/page/canvas.h"

namespace outrigger {

/// A round number at or above `most`, of which a fourth or a fifth is round too; 1 for what is not above 0.
double round_above(double most);

/// A rectangle of the drawing in which `most` is at the top and 0 at the bottom.
struct Frame {
  double left, top, width, height, most;

  double bottom() const { return top + height; }
  /// What is beyond the frame is at its edge.
  double y(double value) const;
  /// Horizontal rules at fourths, with their numbers at the left.
  void rules(Canvas* canvas, const std::function<std::string(double)>& text) const;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PAGE_CHART_H_
