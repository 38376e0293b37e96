// Canvas: the shapes and texts of a drawing in SVG, and text that is safe inside markup.
#ifndef OUTRIGGER_SRC_PAGE_CANVAS_H_
#define OUTRIGGER_SRC_PAGE_CANVAS_H_

#include <string>
#include <string_view>

namespace outrigger {

/// Text for XML and HTML, between tags or in a quoted attribute. Names come from files: what is not UTF-8, or a control character, which
/// XML cannot hold, becomes U+FFFD.
std::string markup_text(std::string_view text);

/// At most `most` characters (not bytes) of it, the last one "…" if something was cut.
std::string shortened(std::string_view text, size_t most);

/// A part of 1 with two digits where it is small: "0 %", "1.2 %", "57 %".
std::string percent_text(double part);

/// Collects elements. Coordinates are in the drawing's own units; everything is to lie in [0, kWidth] x [0, height]. `style` is one or more
/// classes of drawing_style(). Texts and tooltips are escaped here.
class Canvas {
 public:
  static constexpr double kWidth = 1080;
  /// The width of a character of small text, on average, in the widest face that is likely: a bound for what fits where.
  static constexpr double kSmallCharacter = 6.7;
  static double small_width(std::string_view text) { return static_cast<double>(text.size()) * kSmallCharacter; }

  void rect(double x, double y, double width, double height, std::string_view style, std::string_view tooltip = {}, double radius = 0);
  void line(double x1, double y1, double x2, double y2, std::string_view style);
  /// `path` is SVG path data.
  void path(std::string_view path, std::string_view style);
  void text(double x, double y, std::string_view style, std::string_view text);
  const std::string& elements() const { return elements_; }

 private:
  std::string elements_;
};

struct Drawing {
  std::string title;      ///< for those who cannot see it
  double height = 0;
  std::string elements;
};

/// The style sheet of every drawing: classes, and colours as variables for light and dark.
std::string_view drawing_style();
/// The colours alone, to be defined on the root of an SVG or of a page.
std::string_view light_colours();
std::string_view dark_colours();

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PAGE_CANVAS_H_
