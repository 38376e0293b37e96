// Drawings of a compressing: bars, heat maps and curves.
#include "src/compress/compress_drawings.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/page/chart.h"

namespace outrigger {
namespace {

constexpr int kShades = 12;
constexpr double kTitleBottom = 26;

// Kinds of matrices, in the order of the first layer's.
std::vector<std::string> kinds_of(const CompressReport& report) {
  std::vector<std::string> kinds;
  for (const CompressedMatrixReport& matrix : report.matrices) {
    if (matrix.layer == report.matrices.front().layer) kinds.push_back(matrix.kind);
  }
  return kinds;
}

// Room for the names of kinds at the left: "shared_down" is longer than "output".
double left_of(const std::vector<std::string>& kinds) { return kinds.size() > 7 ? 104 : 62; }

uint32_t layers_of(const CompressReport& report) { return report.matrices.empty() ? 0 : report.matrices.back().layer + 1; }

// Layers whose numbers are written: all, or as many as have room.
uint32_t layer_step(uint32_t layers, double column) {
  for (const uint32_t step : {1u, 2u, 5u, 10u, 20u, 50u}) {
    if (column * step >= 18) return step;
  }
  return std::max(1u, layers / 10);
}

std::string three_digits(double value) { return formatted("{:.3g}", value); }

void draw_by_kind(Canvas* canvas, const std::vector<std::string>& names, const std::vector<double>& kinds, double width) {
  constexpr double kRow = 26, kNumber = 58;
  const double left = left_of(names);
  const double most = *std::max_element(kinds.begin(), kinds.end());
  canvas->text(0, kTitleBottom - 8, "title", "By kind of matrix");
  for (size_t kind = 0; kind < kinds.size(); ++kind) {
    const double y = kTitleBottom + 18 + kRow * static_cast<double>(kind), room = width - left - kNumber;
    canvas->text(0, y + 14, "strong", names[kind]);
    canvas->rect(left, y, room, kRow - 7, "track", {}, 2);
    canvas->rect(left, y, most > 0 ? std::max(0.5, room * kinds[kind] / most) : 0.5, kRow - 7, "host",
                 formatted("{} of all layers as they were: {:.4g} nats nearer", names[kind], kinds[kind]), 2);
    canvas->text(left + room + 8, y + 14, "soft small", three_digits(kinds[kind]));
  }
}

void draw_by_layer(Canvas* canvas, const std::vector<double>& layers, double left) {
  const Frame frame{left + 44, kTitleBottom + 18, Canvas::kWidth - left - 44, 152,
                    round_above(*std::max_element(layers.begin(), layers.end()))};
  canvas->text(left, kTitleBottom - 8, "title", "By layer");
  frame.rules(canvas, three_digits);
  const double column = frame.width / static_cast<double>(layers.size());
  const uint32_t step = layer_step(static_cast<uint32_t>(layers.size()), column);
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    const double x = frame.left + column * static_cast<double>(layer), y = frame.y(layers[layer]);
    canvas->rect(x + column * 0.12, y, column * 0.76, std::max(0.5, frame.top + frame.height - y), "host",
                 formatted("layer {} as it was: {:.4g} nats nearer", layer, layers[layer]), 1);
    if (layer % step == 0) canvas->text(x + column / 2, frame.top + frame.height + 16, "soft small middle", std::to_string(layer));
  }
}

}  // namespace

std::string heat_style() {
  std::string style;
  for (int shade = 0; shade <= kShades; ++shade)
    style += formatted("svg.plan .heat{}{{fill-opacity:{:.3f}}}", shade, 0.07 + 0.93 * shade / kShades);
  return style +
         "\nsvg.plan .curve{fill:none;stroke:var(--host);stroke-width:2.2}svg.plan .area{fill:var(--host);fill-opacity:.12}svg.plan "
         ".steps{fill:none;stroke:var(--other);stroke-width:1.4}\n";
}

Drawing draw_distances(const CompressReport& report) {
  constexpr double kKindsWidth = 380, kGap = 48;
  Canvas canvas;
  const std::vector<std::string> kinds = kinds_of(report);
  draw_by_kind(&canvas, kinds, report.survey.kl_by_kind, kKindsWidth);
  draw_by_layer(&canvas, report.survey.kl_by_layer, kKindsWidth + kGap);
  return {"How much nearer the model comes with some matrices as they were", 50 + 26 * static_cast<double>(kinds.size()),
          canvas.elements()};
}

Drawing draw_heat(const CompressReport& report, const HeatMap& map) {
  constexpr double kRight = 96, kRow = 24, kTop = kTitleBottom + 16;
  const std::vector<std::string> kinds = kinds_of(report);
  const double left = left_of(kinds);
  const uint32_t layers = layers_of(report);
  const double column = (Canvas::kWidth - left - kRight) / layers, bottom = kTop + kRow * static_cast<double>(kinds.size());
  double most = map.most;
  for (const CompressedMatrixReport& matrix : report.matrices) most = map.most > 0 ? most : std::max(most, map.value(matrix));
  Canvas canvas;
  canvas.text(0, kTitleBottom - 8, "title", map.title);
  canvas.text(Canvas::kWidth, kTitleBottom - 8, "soft small right", map.legend);
  for (size_t kind = 0; kind < kinds.size(); ++kind) canvas.text(0, kTop + kRow * static_cast<double>(kind) + 16, "strong", kinds[kind]);
  for (size_t i = 0; i < report.matrices.size(); ++i) {
    const CompressedMatrixReport& matrix = report.matrices[i];
    const double value = map.value(matrix), x = left + column * matrix.layer, y = kTop + kRow * static_cast<double>(i % kinds.size());
    const auto shade = most > 0 ? std::clamp(static_cast<int>(std::lround(kShades * value / most)), 0, kShades) : 0;
    const std::string text = map.text(value);
    canvas.rect(x + 0.75, y + 0.75, column - 1.5, kRow - 1.5, formatted("{} heat{}", map.style, shade),
                formatted("{}\n{}", matrix.name, text), 2);
    if (value > 0 && Canvas::small_width(text) <= column)
      canvas.text(x + column / 2, y + 16, shade > kShades * 2 / 3 ? "inside middle" : "small middle", text);
  }
  const uint32_t step = layer_step(layers, column);
  for (uint32_t layer = 0; layer < layers; layer += step)
    canvas.text(left + column * (layer + 0.5), bottom + 16, "soft small middle", std::to_string(layer));
  canvas.text(0, bottom + 16, "soft small", "layer");
  const double x = Canvas::kWidth - kRight + 20, piece = (bottom - kTop) / (kShades + 1);
  for (int shade = 0; shade <= kShades; ++shade)
    canvas.rect(x, bottom - piece * (shade + 1), 14, piece + 0.3, formatted("{} heat{}", map.style, shade));
  canvas.text(x + 21, kTop + 10, "soft small", map.text(most));
  canvas.text(x + 21, bottom - 2, "soft small", "0");
  return {map.title, bottom + 26, canvas.elements()};
}

Drawing draw_curve(const CompressReport& report, const std::string& what) {
  const std::vector<CompressSurvey::Point>& curve = report.survey.curve;
  const Frame frame{52, kTitleBottom + 20, Canvas::kWidth - 52 - 30, 230, std::max(0.05, round_above(curve.back().restored))};
  const double last = std::max(curve.back().bytes, 1.0);
  double bytes = 0, restored = 0, all = 0;
  for (const CompressedMatrixReport& matrix : report.matrices) {
    bytes += static_cast<double>(matrix.branch_read_bytes);
    restored += matrix.kl * matrix.restored;
    all += matrix.kl;
  }
  restored = all > 0 ? restored / all : 0;
  const auto x = [&](double at) { return frame.left + frame.width * std::min(1.0, at / last); };
  Canvas canvas;
  canvas.text(0, kTitleBottom - 8, "title", "What bytes bring back");
  canvas.text(Canvas::kWidth - 30, kTitleBottom - 8, "soft small right",
              formatted("part of the loss that is expected to be restored, by {}", what));
  frame.rules(&canvas, [](double value) { return formatted("{:.0f} %", 100 * value); });
  for (int i = 0; i <= 4; ++i)
    canvas.text(x(last * i / 4), frame.top + frame.height + 18, i == 0 ? "soft small" : "soft small middle",
                format_bytes(static_cast<uint64_t>(last * i / 4)));
  std::string path;
  for (const CompressSurvey::Point& point : curve)
    path += formatted("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x(point.bytes), frame.y(point.restored));
  canvas.path(formatted("{}L{:.1f} {:.1f}L{:.1f} {:.1f}Z", path, x(last), frame.top + frame.height, frame.left, frame.top + frame.height),
              "area");
  canvas.path(path, "curve");
  const std::string mark = formatted("this model: {}, {:.0f} %", format_bytes(static_cast<uint64_t>(bytes)), 100 * restored);
  canvas.line(x(bytes), frame.y(restored), x(bytes), frame.top + frame.height, "limit");
  canvas.rect(x(bytes) - 4, frame.y(restored) - 4, 8, 8, "disk", mark, 4);
  canvas.text(x(bytes) + 8, frame.y(restored / 2) + 4, "strong", mark);
  return {"What bytes bring back", frame.top + frame.height + 30, canvas.elements()};
}

Drawing draw_training(const CompressReport& report) {
  const std::vector<double>& losses = report.polish_losses;
  double most = std::max(report.polish_kl_before, report.polish_kl_after);
  for (const double loss : losses) most = std::isfinite(loss) ? std::max(most, loss) : most;
  constexpr double kBars = 190;
  const Frame frame{52, kTitleBottom + 20, Canvas::kWidth - 52 - kBars - 60, 200, round_above(most)};
  Canvas canvas;
  canvas.text(0, kTitleBottom - 8, "title", "Training the branches together");
  canvas.text(frame.left + frame.width, kTitleBottom - 8, "soft small right",
              "distance from the model on each step's own piece of text, nats a token");
  frame.rules(&canvas, three_digits);
  std::string path;
  for (size_t i = 0; i < losses.size() && std::isfinite(losses[i]); ++i) {
    path += formatted("{}{:.1f} {:.1f}", path.empty() ? "M" : "L",
                      frame.left + frame.width * (static_cast<double>(i) + 0.5) / static_cast<double>(losses.size()), frame.y(losses[i]));
  }
  canvas.path(path.empty() ? "M0 0" : path, "steps");
  canvas.text(frame.left, frame.top + frame.height + 18, "soft small", "step 1");
  canvas.text(frame.left + frame.width, frame.top + frame.height + 18, "soft small right", formatted("step {}", losses.size()));
  const double left = Canvas::kWidth - kBars, width = 70;
  canvas.text(left, kTitleBottom - 8, "soft small", "on pieces that no step used");
  canvas.line(left, frame.top + frame.height, Canvas::kWidth, frame.top + frame.height, "edge");
  const auto bar = [&](double x, double kl, const char* name, const char* style) {
    canvas.rect(x, frame.y(kl), width, frame.top + frame.height - frame.y(kl), style, formatted("{}: {:.4f} nats a token", name, kl), 2);
    canvas.text(x + width / 2, frame.y(kl) - 6, "strong middle", formatted("{:.3f}", kl));
    canvas.text(x + width / 2, frame.top + frame.height + 18, "soft small middle", name);
  };
  bar(left + 16, report.polish_kl_before, "before", "other");
  bar(left + 106, report.polish_kl_after, report.is_polish_kept ? "after" : "after, not kept", "host");
  return {"Training the branches together", frame.top + frame.height + 30, canvas.elements()};
}

Drawing draw_layer_training(const CompressReport& report) {
  const std::vector<PolishedLayer>& layers = report.polish_layers;
  double most = 0;
  for (const PolishedLayer& layer : layers)
    most = std::max(most, std::isfinite(layer.error_after) ? std::max(layer.error_before, layer.error_after) : layer.error_before);
  const Frame frame{52, kTitleBottom + 20, Canvas::kWidth - 52 - 16, 200, round_above(100 * most)};
  Canvas canvas;
  canvas.text(0, kTitleBottom - 8, "title", "Training the branches, layer by layer");
  canvas.text(frame.left + frame.width, kTitleBottom - 8, "soft small right",
              "what the outputs lack of the model's own, percent of their square: thin before, thick after, on pieces that no step used");
  frame.rules(&canvas, [](double value) { return formatted("{:.3g}", value); });
  const auto path = [&](const std::function<double(const PolishedLayer&)>& error) {
    std::string points;
    for (size_t i = 0; i < layers.size(); ++i) {
      points += formatted("{}{:.1f} {:.1f}", points.empty() ? "M" : "L",
                          frame.left + frame.width * (static_cast<double>(i) + 0.5) / static_cast<double>(layers.size()),
                          frame.y(100 * error(layers[i])));
    }
    return points;
  };
  canvas.path(path([](const PolishedLayer& layer) { return layer.error_before; }), "steps");
  canvas.path(path([](const PolishedLayer& layer) { return layer.is_kept ? layer.error_after : layer.error_before; }), "curve");
  canvas.text(frame.left, frame.top + frame.height + 18, "soft small", formatted("layer {}", layers.front().layer));
  canvas.text(frame.left + frame.width, frame.top + frame.height + 18, "soft small right", formatted("layer {}", layers.back().layer));
  return {"Training the branches, layer by layer", frame.top + frame.height + 30, canvas.elements()};
}

}  // namespace outrigger
