// Drawings of what compressing measured, chose and made.
#ifndef OUTRIGGER_SRC_COMPRESS_COMPRESS_DRAWINGS_H_
#define OUTRIGGER_SRC_COMPRESS_COMPRESS_DRAWINGS_H_

#include <outrigger/compress.h>

#include <functional>
#include <string>

#include "src/page/canvas.h"

namespace outrigger {

/// Of drawings of this room, beside drawing_style().
std::string heat_style();

/// How much nearer the model comes with a kind of matrix, or a layer, as it was. Precondition: there was a survey.
Drawing draw_distances(const CompressReport& report);

/// A number of each matrix, a column for each layer, a row for each kind: the larger, the darker.
struct HeatMap {
  std::string title, legend;                                   ///< what the numbers are
  const char* style = "host";                                  ///< a class of drawing_style() with the darkest colour
  std::function<double(const CompressedMatrixReport&)> value;  ///< 0 and more
  std::function<std::string(double)> text;                     ///< of a value, at most some characters
  double most = 0;                                             ///< of the darkest; 0: the greatest there is
};
Drawing draw_heat(const CompressReport& report, const HeatMap& map);

/// What bytes bring back, with a mark where the model is. `what`: of the bytes. Precondition: the curve has points.
Drawing draw_curve(const CompressReport& report, const std::string& what);

/// The distance on each step's piece, and before and after on the pieces that no step used. Precondition: there were steps.
Drawing draw_training(const CompressReport& report);

/// What each layer's outputs lack, before and after it was trained. Precondition: layers were trained.
Drawing draw_layer_training(const CompressReport& report);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_COMPRESS_DRAWINGS_H_
