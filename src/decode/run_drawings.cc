// Drawings of a run: bars.
#include "src/decode/run_drawings.h"

#include <algorithm>

#include "src/base/formatted.h"
#include "src/page/chart.h"
#include "src/plan/plan_words.h"

namespace outrigger {
namespace {

constexpr double kLeft = 74, kRight = 150, kBar = Canvas::kWidth - kLeft - kRight, kHeight = 26, kRow = 36, kFirst = 34;

// A legend's entry; where the next one begins.
double add_key(Canvas* canvas, double x, double y, const char* style, const std::string& text) {
  canvas->rect(x, y, 11, 11, style, {}, 2);
  canvas->text(x + 17, y + 9, "soft small", text);
  return x + 17 + Canvas::small_width(text) + 16;
}

}  // namespace

Drawing draw_lanes(const LaneBusy& busy) {
  const struct {
    const char *name, *style;
    double ms;
  } lanes[] = {{"disk", "disk", busy.disk_ms},
               {"host", "host", busy.host_ms},
               {"to device", "link", busy.h2d_ms},
               {"device", "device", busy.device_ms},
               {"to host", "link", busy.d2h_ms}};
  const double whole = std::max(busy.wall_ms, 1e-9);
  Canvas canvas;
  canvas.text(0, 16, "title", "What each lane did");
  canvas.text(Canvas::kWidth, 16, "soft small right",
              formatted("{} steps, {}; waits, and what lies between steps, do not count", busy.steps, time_text(busy.wall_ms)));
  double y = kFirst;
  for (const auto& lane : lanes) {
    if (!(lane.ms > 0)) continue;
    const double share = std::min(1.0, lane.ms / whole);
    canvas.text(0, y + 18, "strong", lane.name);
    canvas.rect(kLeft, y, kBar, kHeight, "track", {}, 3);
    canvas.rect(kLeft, y, std::max(0.5, kBar * share), kHeight, lane.style,
                formatted("{}: {} of {}", lane.name, time_text(lane.ms), time_text(busy.wall_ms)), 3);
    canvas.text(kLeft + kBar + 14, y + 18, "strong", percent_text(share));
    canvas.text(Canvas::kWidth, y + 18, "soft small right", time_text(lane.ms));
    y += kRow;
  }
  return {"What each lane did", y + 4, canvas.elements()};
}

Drawing draw_passes(const SpeculationReport& report) {
  const double passes = static_cast<double>(report.passes), whole = std::max(report.draft_ms + report.verify_ms, 1e-9);
  const double tokens = std::max(report.tokens_per_pass * passes, 1.0), draft = kBar * report.draft_ms / whole;
  Canvas canvas;
  canvas.text(0, 16, "title", "What a pass took");
  canvas.text(Canvas::kWidth, 16, "soft small right",
              formatted("{} passes, {:.2f} tokens each: {} a token", report.passes, report.tokens_per_pass, time_text(whole / tokens)));
  canvas.text(0, kFirst + 18, "strong", "a pass");
  canvas.rect(kLeft, kFirst, kBar, kHeight, "host", formatted("verifying: {} a pass", time_text(report.verify_ms / passes)), 3);
  if (report.draft_ms > 0)
    canvas.rect(kLeft, kFirst, std::max(0.5, draft), kHeight, "head", formatted("drafting: {} a pass", time_text(report.draft_ms / passes)),
                3);
  canvas.text(kLeft + kBar + 14, kFirst + 18, "strong", time_text(whole / passes));
  const double next = add_key(&canvas, kLeft, kFirst + kRow + 2, "head", formatted("drafting {}", time_text(report.draft_ms / passes)));
  add_key(&canvas, next, kFirst + kRow + 2, "host", formatted("verifying {}", time_text(report.verify_ms / passes)));
  return {"What a pass took", kFirst + kRow + 24, canvas.elements()};
}

Drawing draw_acceptance(const SpeculationReport& report) {
  size_t depths = report.drafted_at.size();
  while (depths > 1 && report.drafted_at[depths - 1] == 0) --depths;
  const auto most = static_cast<double>(*std::max_element(report.drafted_at.begin(), report.drafted_at.end()));
  const Frame frame{kLeft, 50, Canvas::kWidth - kLeft, 190, round_above(most)};
  Canvas canvas;
  canvas.text(0, 16, "title", "What was accepted");
  canvas.text(Canvas::kWidth, 16, "soft small right",
              formatted("{} of {} tokens of {}; by the depth in a draft", report.accepted, report.drafted,
                        report.draft_name == "none" ? "drafts" : shortened(report.draft_name, 60)));
  frame.rules(&canvas, [](double value) { return formatted("{:.3g}", value); });
  const double column = std::min(120.0, frame.width / static_cast<double>(depths));
  for (size_t depth = 0; depth < depths; ++depth) {
    const auto drafted = static_cast<double>(report.drafted_at[depth]), accepted = static_cast<double>(report.accepted_at[depth]);
    const double x = frame.left + column * static_cast<double>(depth), share = drafted > 0 ? accepted / drafted : 0;
    const std::string text = formatted("depth {}: {} drafted, {} accepted, {}", depth + 1, report.drafted_at[depth],
                                       report.accepted_at[depth], percent_text(share));
    canvas.rect(x + column * 0.12, frame.y(drafted), column * 0.76, std::max(0.5, frame.bottom() - frame.y(drafted)), "other", text, 2);
    canvas.rect(x + column * 0.12, frame.y(accepted), column * 0.76, std::max(0.5, frame.bottom() - frame.y(accepted)), "head", text, 2);
    canvas.text(x + column / 2, frame.y(drafted) - 6, "strong middle", percent_text(share));
    canvas.text(x + column / 2, frame.bottom() + 16, "soft small middle", std::to_string(depth + 1));
  }
  const double next = add_key(&canvas, kLeft, frame.bottom() + 28, "other", "drafted");
  add_key(&canvas, next, frame.bottom() + 28, "head", "accepted");
  return {"What was accepted", frame.bottom() + 50, canvas.elements()};
}

}  // namespace outrigger
