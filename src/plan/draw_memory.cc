// Memory by purpose against the budget, a bar for each tier that holds something.
#include <algorithm>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/plan/plan_drawings.h"
#include "src/plan/plan_words.h"

namespace outrigger {
namespace {

constexpr double kLeft = 74, kRight = 134, kBar = Canvas::kWidth - kLeft - kRight, kHeight = 38, kLineHeight = 18;

struct Part {
  const char* style;
  const char* name;
  uint64_t bytes;
};

// In the order of the bar; what is none is left out of the legend too.
std::vector<Part> parts_of(const TierBreakdown& breakdown) {
  std::vector<Part> parts = {{"host", "resident weights", breakdown.weights_resident},
                             {"disk", "ring and buffers", breakdown.stream_slots},
                             {"attention", "KV cache", breakdown.kv_cache},
                             {"activations", "activations", breakdown.activations},
                             {"head", "draft", breakdown.draft},
                             {"rows", "branches", breakdown.branches},
                             {"disk2", "experts", breakdown.experts},
                             {"other", "other", breakdown.other}};
  std::erase_if(parts, [](const Part& part) { return part.bytes == 0; });
  return parts;
}

double add_tier(Canvas& canvas, double y, const char* name, const TierPlan& tier, uint64_t minimum_bytes) {
  const uint64_t whole = std::max<uint64_t>(1, std::max(tier.budget_bytes, tier.planned_bytes));
  const auto units = [&](uint64_t bytes) { return static_cast<double>(bytes) / static_cast<double>(whole) * kBar; };
  canvas.text(0, y + 24, "strong", name);
  canvas.rect(kLeft, y, kBar, kHeight, "track", {}, 3);
  double x = kLeft, legend = kLeft, legend_y = y + kHeight + 14;
  for (const Part& part : parts_of(tier.breakdown)) {
    const double width = units(part.bytes);
    const std::string text = formatted("{} {}", part.name, format_bytes(part.bytes));
    canvas.rect(x, y, std::max(0.4, width - (width > 3 ? 0.6 : 0)), kHeight, part.style,
                formatted("{}\n{:.1f} % of the bar", text, 100 * width / kBar));
    if (width - 8 >= Canvas::small_width(text)) canvas.text(x + 4, y + kHeight / 2 + 4, "inside", text);
    x += width;
    const double legend_width = 17 + Canvas::small_width(text);
    if (legend + legend_width > Canvas::kWidth) legend = kLeft, legend_y += kLineHeight;
    canvas.rect(legend, legend_y, 11, 11, part.style, {}, 2);
    canvas.text(legend + 17, legend_y + 9, "soft small", text);
    legend += legend_width + 16;
  }
  if (tier.budget_bytes > 0) canvas.line(kLeft + kBar, y - 4, kLeft + kBar, y + kHeight + 4, "limit");
  if (minimum_bytes > 0 && minimum_bytes < whole) {
    const double at = kLeft + units(minimum_bytes);
    canvas.line(at, y - 7, at, y, "limit");
    canvas.line(at, y + kHeight, at, y + kHeight + 7, "limit");
  }
  const double right = kLeft + kBar + 14;
  canvas.text(right, y + 17, "strong", format_bytes(tier.planned_bytes));
  canvas.text(right, y + 32, "soft small", tier.budget_bytes > 0 ? formatted("of {}", format_bytes(tier.budget_bytes)) : "no limit");
  return legend_y + 36;
}

// What stays there, and what of it a token needs.
// What the disk holds and is read for, a line for weights and one for keys and values.
std::vector<std::string> disk_lines(const Plan& plan) {
  const std::string per =
      plan.decode.tokens == 1 ? "for each decoded token" : formatted("for {} decoded together", tokens_text(plan.decode.tokens));
  uint64_t streamed = 0;
  for (const TensorPlacement& tensor : plan.tensors)
    streamed += TensorGroup::place_of(tensor) == TensorGroup::kDisk ? tensor.file_bytes : 0;
  std::vector<std::string> lines;
  if (streamed > 0) {
    lines.push_back(formatted("{} of weights stay there; {} are read {}", format_bytes(streamed),
                              format_bytes(plan.decode.streamed_bytes + plan.decode.expert_bytes), per));
  }
  if (plan.kv_spilled_layers > 0) {
    lines.push_back(formatted("{} for keys and values of {} of {} layers; {} of them {}", format_bytes(plan.kv_spill_bytes),
                              plan.kv_spilled_layers, plan.kv_layers, format_bytes(plan.decode.kv_disk_bytes), per));
  }
  if (lines.empty()) lines.push_back("nothing is read from the disk once the model is loaded");
  return lines;
}

}  // namespace

Drawing draw_memory(const Plan& plan) {
  Canvas canvas;
  canvas.text(0, 16, "title", "Memory");
  canvas.text(Canvas::kWidth, 16, "right soft small",
              formatted("the least that would do, marked: {}", format_bytes(plan.minimum_host_bytes)));
  double y = add_tier(canvas, 36, "host", plan.host, plan.minimum_host_bytes);
  if (plan.device.planned_bytes > 0) y = add_tier(canvas, y, "device", plan.device, plan.minimum_device_bytes);
  canvas.text(0, y + 2, "strong", "disk");
  for (const std::string& line : disk_lines(plan)) {
    canvas.text(kLeft, y + 2, "soft", line);
    y += kLineHeight;
  }
  y -= kLineHeight;
  const std::string there = uses_device(plan) ? formatted(", {} of {} on the device", format_bytes(plan.device.planned_bytes),
                                                          format_bytes(plan.device.budget_bytes))
                                              : "";
  return {formatted("Memory: {} of {} are planned on the host{}", format_bytes(plan.host.planned_bytes),
                    plan.host.budget_bytes > 0 ? format_bytes(plan.host.budget_bytes) : "no limit", there),
          y + 10, canvas.elements()};
}

}  // namespace outrigger
