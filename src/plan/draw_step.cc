// A step's lanes over time, with the ring below them.
#include <algorithm>
#include <cmath>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/plan/plan_drawings.h"
#include "src/plan/plan_words.h"

namespace outrigger {
namespace {

constexpr double kLeft = 74, kRight = 134;  // beside the tracks: names, and how busy
constexpr double kTrack = Canvas::kWidth - kLeft - kRight;
constexpr double kLaneHeight = 38, kLaneGap = 10, kRingHeight = 20;
// Narrower than this, tasks of a kind are drawn as one: there may be 100,000 of them on a track of 872 units.
constexpr double kLeastWidth = 1;

struct Legend {
  const char* style;
  const char* name;
};

// Layers alternate in shade, so that one sees them pass.
const char* style_of(const ScheduledTask& task) {
  switch (task.kind) {
    case TaskKind::kFetchExperts:
    case TaskKind::kFetchKv:
    case TaskKind::kStoreKv:
    case TaskKind::kFetch: return task.layer % 2 == 0 ? "disk" : "disk2";
    case TaskKind::kBring:
    case TaskKind::kUpload:
    case TaskKind::kDownload:
    case TaskKind::kLogits:
    case TaskKind::kInput:
    case TaskKind::kResult:
      return "link";
    case TaskKind::kSubmit:
    case TaskKind::kExperts:
    case TaskKind::kCorrect:
    case TaskKind::kAdd:
    case TaskKind::kProduct:
      if (task.lane == ScheduleLane::kDevice) return task.layer % 2 == 0 ? "device" : "device2";
      return task.layer % 2 == 0 ? "host" : "host2";
    case TaskKind::kAttention: return "attention";
    case TaskKind::kHead: return "head";
    case TaskKind::kRowReads: return "rows";
  }
  return "other";
}

struct Bar {
  const ScheduledTask* first;
  double begin_s, end_s;
  uint64_t bytes;
  uint32_t tasks;
  double longest_s;
  const char* style;
};

// A lane's tasks as bars; those too narrow to be told apart join the bar before, which takes the colour of its longest.
std::vector<Bar> bars_of(const StepSchedule& schedule, ScheduleLane lane) {
  const double least_s = kLeastWidth * schedule.total_s / kTrack;
  std::vector<Bar> bars;
  for (const ScheduledTask& task : schedule.tasks) {
    if (task.lane != lane || task.end_s <= task.begin_s) continue;
    const double length = task.end_s - task.begin_s;
    if (!bars.empty()) {
      Bar& last = bars.back();
      const bool is_narrow = length < least_s || last.end_s - last.begin_s < least_s;
      if (is_narrow && task.end_s - last.begin_s < 4 * least_s && task.begin_s - last.end_s < least_s / 2) {
        last.end_s = task.end_s;
        last.bytes += task.bytes;
        ++last.tasks;
        if (length > last.longest_s) last.longest_s = length, last.style = style_of(task);
        continue;
      }
    }
    bars.push_back({&task, task.begin_s, task.end_s, task.bytes, 1, length, style_of(task)});
  }
  return bars;
}

const char* lane_name(ScheduleLane lane) {
  return lane == ScheduleLane::kToDevice ? "to device" : lane == ScheduleLane::kToHost ? "to host" : schedule_lane_name(lane);
}

// A step between 1, 2 and 5 times a power of ten, of which at most ten fit.
double tick_of(double total_s) {
  const double power = std::pow(10, std::floor(std::log10(total_s / 10)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power * 10 >= total_s) return factor * power;
  }
  return 10 * power;
}

// "blk.3 attn_q, attn_k", or without the layer, which the tooltip tells as well, or what of it fits.
std::string label_within(const std::string& label, size_t most) {
  const size_t begin = label.starts_with("blk.") && label.find(' ') != std::string::npos ? label.find(' ') + 1 : 0;
  return label.size() <= most ? label : shortened(label.substr(begin), most);
}

class StepDrawing {
 public:
  StepDrawing(const StepShape& shape, const Plan& plan, const StepSchedule& schedule) : shape_(shape), plan_(plan), schedule_(schedule) {}

  Drawing draw(const std::string& what, double predicted_ms) {
    const std::string total = duration_text(schedule_.total_s);
    canvas_.text(0, 16, "title", what);
    const std::string predicted = duration_text(predicted_ms * 1e-3);
    canvas_.text(Canvas::kWidth, 16, "right strong", predicted == total ? total : formatted("{} as drawn, {} predicted", total, predicted));
    double y = 32;
    for (size_t lane = 0; lane < (uses_device(plan_) ? kScheduleLanes : size_t{2}); ++lane) {
      add_lane(static_cast<ScheduleLane>(lane), y);
      y += kLaneHeight + kLaneGap;
    }
    if (schedule_.units > 0) {
      add_ring(y, "ring", "ring", &MemoryMoment::filled_slots, schedule_.ring_slots, plan_.stream_slots, plan_.slot_bytes);
      y += kRingHeight + kLaneGap;
    }
    if (schedule_.device_units > 0) {
      add_ring(y, "its ring", "linkring", &MemoryMoment::filled_device_slots, schedule_.device_ring_slots, plan_.device_slots,
               plan_.device_slot_bytes);
      y += kRingHeight + kLaneGap;
    }
    add_axis(y - kLaneGap + 4);
    y += 30;
    y = add_legend(y);
    const auto busy = [this](ScheduleLane lane) { return duration_text(schedule_.busy_s[static_cast<size_t>(lane)]); };
    const std::string with_device = uses_device(plan_) ? formatted(", the device {} and the link to it {}", busy(ScheduleLane::kDevice),
                                                                   busy(ScheduleLane::kToDevice))
                                                       : "";
    return {formatted("{}: {}, of which the disk is busy {} and the host {}{}", what, total, busy(ScheduleLane::kDisk),
                      busy(ScheduleLane::kHost), with_device),
            y + 8, canvas_.elements()};
  }

 private:
  double x_of(double time_s) const { return kLeft + std::min(1.0, time_s / total_s()) * kTrack; }
  double total_s() const { return std::max(schedule_.total_s, 1e-12); }

  void add_lane(ScheduleLane lane, double y) {
    const double busy = schedule_.busy_s[static_cast<size_t>(lane)];
    const bool binds = lane == schedule_.binding_lane();
    canvas_.text(0, y + (binds ? 17 : 24), "strong", lane_name(lane));
    if (binds) canvas_.text(0, y + 32, "bind small", "binds");
    canvas_.rect(kLeft, y, kTrack, kLaneHeight, "track", {}, 3);
    for (const Bar& bar : bars_of(schedule_, lane)) add_bar(bar, y);
    const double right = kLeft + kTrack + 14;
    if (busy <= 0) {
      canvas_.text(right, y + 24, "soft", "idle");
      return;
    }
    canvas_.text(right, y + 17, "strong", duration_text(busy));
    canvas_.text(right, y + 32, "soft small", formatted("busy {:.0f} %", 100 * busy / total_s()));
  }

  void add_bar(const Bar& bar, double y) {
    const double begin = x_of(bar.begin_s), end = x_of(bar.end_s);
    // A hair of the track between bars that are wide enough to spare it.
    const double width = std::max(0.4, end - begin - (end - begin > 3 ? 0.6 : 0));
    const std::string label = task_label(shape_, *bar.first);
    std::string tooltip = bar.tasks == 1 ? label : formatted("{} and {} more", label, bar.tasks - 1);
    tooltip += formatted("\n{} from {}", duration_text(bar.end_s - bar.begin_s), duration_text(bar.begin_s));
    if (bar.bytes > 0) tooltip += formatted("\n{}", format_bytes(bar.bytes));
    canvas_.rect(std::min(begin, kLeft + kTrack - width), y, width, kLaneHeight, bar.style, tooltip, width > 8 ? 1.5 : 0);
    const double fits = (width - 8) / Canvas::kSmallCharacter;
    if (fits >= 5) canvas_.text(begin + 4, y + kLaneHeight / 2 + 4, "inside", label_within(label, static_cast<size_t>(fits)));
  }

  // How many slots hold something, as an area; of moments that share a place, the emptiest and the fullest are drawn.
  void add_ring(double y, const char* name, const char* style, uint32_t MemoryMoment::*filled, uint32_t ring_slots, uint32_t plan_slots,
                uint64_t slot_bytes) {
    canvas_.text(0, y + 14, "soft small", name);
    canvas_.rect(kLeft, y, kTrack, kRingHeight, "track", {}, 3);
    const auto level = [&](uint32_t slots) { return y + kRingHeight * (1 - static_cast<double>(slots) / ring_slots); };
    std::string path = formatted("M{:.2f} {:.2f}", kLeft, y + kRingHeight);
    uint32_t slots = schedule_.memory.front().*filled, least = slots;
    double drawn = kLeft;
    for (const MemoryMoment& moment : schedule_.memory) {
      const double x = x_of(moment.time_s);
      if (x - drawn >= kLeastWidth) {
        append_formatted(&path, "V{:.2f}V{:.2f}H{:.2f}", level(least), level(slots), x);
        drawn = x;
        least = moment.*filled;
      }
      slots = moment.*filled;
      least = std::min(least, slots);
    }
    append_formatted(&path, "V{:.2f}H{:.2f}V{:.2f}Z", level(slots), kLeft + kTrack, y + kRingHeight);
    canvas_.path(path, style);
    canvas_.text(kLeft + kTrack + 14, y + 14, "soft small", formatted("{} x {}", plan_slots, format_bytes(slot_bytes)));
  }

  void add_axis(double y) {
    const double tick = tick_of(total_s());
    // The unit of the longest time, so that all labels have the same.
    const auto [unit, name] = total_s() >= 2 ? std::pair(1.0, "s") : total_s() >= 2e-3 ? std::pair(1e-3, "ms") : std::pair(1e-6, "us");
    canvas_.line(kLeft, y, kLeft + kTrack, y, "edge");
    for (int i = 0; i * tick <= total_s() * (1 + 1e-9); ++i) {
      const double x = x_of(i * tick);
      canvas_.line(x, y, x, y + 4, "edge");
      canvas_.text(x, y + 17, i == 0 ? "soft small" : "soft small middle", i == 0 ? "0" : formatted("{:.4g}", i * tick / unit));
    }
    canvas_.text(kLeft + kTrack + 14, y + 17, "soft small", name);
  }

  // In as many lines as it takes; where the last of them is.
  double add_legend(double y) {
    constexpr Legend kKinds[] = {
        {"disk", "read and unpack weights"}, {"host", "products, a shade a layer"}, {"attention", "attention"}, {"head", "output head"},
        {"rows", "rows of the embedding"},   {"device", "products on the device"},  {"link", "over the link"}};
    double x = kLeft;
    for (const Legend& kind : kKinds) {
      const bool is_there = std::any_of(schedule_.tasks.begin(), schedule_.tasks.end(), [&](const ScheduledTask& task) {
        return std::string_view(style_of(task)).substr(0, 4) == std::string_view(kind.style).substr(0, 4);
      });
      if (!is_there) continue;
      const double width = 17 + Canvas::small_width(kind.name) + 16;
      if (x + width > Canvas::kWidth) x = kLeft, y += 18;
      canvas_.rect(x, y - 9, 11, 11, kind.style, {}, 2);
      canvas_.text(x + 17, y, "soft small", kind.name);
      x += width;
    }
    return y;
  }

  const StepShape& shape_;
  const Plan& plan_;
  const StepSchedule& schedule_;
  Canvas canvas_;
};

}  // namespace

std::string duration_text(double seconds) { return seconds < 1e-3 ? formatted("{:.0f} us", seconds * 1e6) : time_text(seconds * 1e3); }

Drawing draw_step(const StepShape& shape, const Plan& plan, const StepSchedule& schedule, const std::string& what, double predicted_ms) {
  return StepDrawing(shape, plan, schedule).draw(what, predicted_ms);
}

Result<std::vector<Drawing>> draw_plan(const Plan& plan, const StepShape& shape, const MachineProfile& machine) {
  std::vector<Drawing> drawings;
  const auto add = [&](const StepPrediction& step, const std::string& what) -> Status {
    const Result<StepSchedule> schedule =
        schedule_step(shape, plan, machine, {step.tokens, step.position, step.logit_rows, step.sequences});
    if (schedule.is_ok()) drawings.push_back(draw_step(shape, plan, schedule.value(), what, step.predicted_ms));
    return schedule.status();
  };
  const std::string of = plan.decode.sequences == 1 ? std::string() : std::string(" of as many sessions, each");
  if (Status status =
          add(plan.decode, formatted("Decoding {}{}, after {:.0f} others", tokens_text(plan.decode.tokens), of, plan.decode.position));
      !status.is_ok()) {
    return status;
  }
  if (plan.predicted_prefill_ms > 0) {
    Status status = add(plan.prefill, formatted("Reading {} of the prompt", tokens_text(plan.prefill.tokens)));
    if (!status.is_ok()) return status;
  }
  drawings.push_back(draw_memory(plan));
  drawings.push_back(draw_layers(shape, plan));
  return drawings;
}

}  // namespace outrigger
