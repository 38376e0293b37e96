// plan_to_text: the plan as a table: memory, tensors in groups, the steps, and what more memory would buy.
#include <outrigger/plan.h>

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/plan/plan_words.h"

namespace outrigger {
namespace {

constexpr size_t kMostGroups = 16;  // lines about tensors; a table longer than a screen is not read

class Text {
 public:
  template <typename... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    const size_t begin = text_.size();
    append_formatted(&text_, format, std::forward<Args>(args)...);
    text_.erase(std::max(text_.find_last_not_of(' ') + 1, begin));  // cells are padded, lines are not
    text_ += '\n';
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

// "attn_q, attn_k": of the layers' matrices those whose corrections are left out, each kind once.
std::string uncorrected_matrices(const Plan& plan) {
  std::vector<std::string_view> kinds;
  for (const TensorPlacement& tensor : plan.tensors) {
    std::string_view name = tensor.name;
    if (tensor.is_corrected || !name.ends_with(".weight")) continue;
    name.remove_suffix(std::string_view(".weight").size());
    name.remove_prefix(name.rfind('.') + 1);
    if (std::find(kinds.begin(), kinds.end(), name) == kinds.end()) kinds.push_back(name);
  }
  return joined(kinds, ", ");
}

void add_tier(Text* text, const char* name, const TierPlan& tier) {
  const TierBreakdown& parts = tier.breakdown;
  text->line("{:<8}{:>11}{:>11}{:>11}{:>11}{:>11}{:>13}{:>11}", name, tier.budget_bytes == 0 ? "no limit" : format_bytes(tier.budget_bytes),
             format_bytes(tier.planned_bytes), bytes_or_none(parts.weights_resident), bytes_or_none(parts.stream_slots + parts.experts),
             bytes_or_none(parts.kv_cache), bytes_or_none(parts.activations), bytes_or_none(parts.draft + parts.branches + parts.other));
}

void add_memory(Text* text, const Plan& plan) {
  text->line("{:<8}{:>11}{:>11}{:>11}{:>11}{:>11}{:>13}{:>11}", "memory", "budget", "planned", "weights", "ring", "KV cache", "activations",
             "other");
  add_tier(text, "host", plan.host);
  if (plan.device.planned_bytes > 0) add_tier(text, "device", plan.device);
  text->line("The least that would do: {}.", format_bytes(plan.minimum_host_bytes));
  if (plan.self_draft_bits > 0) {
    text->line("Of it {} are {}-bit copies of what streams, for the model to draft with: {:.1f} tokens a pass are expected, {}.",
               format_bytes(plan.host.breakdown.draft), plan.self_draft_bits, plan.draft_tokens_per_pass,
               rate_text(plan.predicted_draft_tokens_per_s));
  } else if (plan.host.breakdown.draft > 0) {
    const std::string expected =
        plan.draft_tokens_per_pass > 1
            ? formatted(": {:.1f} tokens a pass are expected, {}", plan.draft_tokens_per_pass, rate_text(plan.predicted_draft_tokens_per_s))
        : plan.draft_tokens_per_pass > 0 ? ", which is not expected to pay"
                                         : "";
    const std::string there = plan.device.breakdown.draft > 0
                                  ? formatted(", which computes on the device, and {} there", format_bytes(plan.device.breakdown.draft))
                                  : "";
    text->line("Of it {} are kept for a draft model{}{}.", format_bytes(plan.host.breakdown.draft), there, expected);
  }
  if (plan.branch_share < 1)
    text->line("Of branches and residuals {:.0f} % are used, as the slowdown that is allowed asks.", 100 * plan.branch_share);
  if (const std::string left_out = uncorrected_matrices(plan); !left_out.empty()) {
    text->line("Branches and residuals of {} are left out, as the slowdown that is allowed asks.", left_out);
  }
  if (plan.corrections_beside) text->line("Branches and residuals of what the device multiplies with are computed on the host meanwhile.");
  if (plan.kv_spilled_layers > 0) {
    text->line("Keys and values of {} of {} layers are on disk, where they take {}, and pass through {} slots of {}.",
               plan.kv_spilled_layers, plan.kv_layers, format_bytes(plan.kv_spill_bytes), plan.kv_slots, format_bytes(plan.kv_slot_bytes));
  }
}

// The places that a table has columns for: a device's only where there is one.
std::vector<std::pair<TensorGroup::Place, const char*>> places_of(const Plan& plan) {
  if (!uses_device(plan)) return {{TensorGroup::kHost, "resident"}, {TensorGroup::kDisk, "streamed"}};
  return {
      {TensorGroup::kHost, "host"}, {TensorGroup::kDevice, "device"}, {TensorGroup::kLink, "to device"}, {TensorGroup::kDisk, "from disk"}};
}

void add_tensors(Text* text, const Plan& plan) {
  std::vector<TensorGroup> groups = group_tensors(plan);
  if (groups.size() > kMostGroups) {
    TensorGroup rest{formatted("{} more", groups.size() - kMostGroups)};
    for (size_t i = kMostGroups; i < groups.size(); ++i) rest.add(groups[i]);
    groups.resize(kMostGroups);
    groups.push_back(rest);
  }
  size_t width = 8;
  for (const TensorGroup& group : groups) width = std::max(width, group.name.size() + 2);
  const auto places = places_of(plan);
  std::string header;
  for (const auto& [place, name] : places) header += formatted("{:>10}{:>12}", name, "");
  text->line("{:<{}}{}", "tensors", width, header);
  for (const TensorGroup& group : groups) {
    std::string cells;
    for (const auto& [place, name] : places) {
      const uint32_t tensors = group.tensors_at[place];
      cells +=
          formatted("{:>10}{:>12}", tensors > 0 ? std::to_string(tensors) : "-", tensors > 0 ? format_bytes(group.bytes_at[place]) : "");
    }
    text->line("{:<{}}{}", group.name, width, cells);
  }
  if (plan.stream_slots > 0) text->line("Streamed through {} slots of {}.", plan.stream_slots, format_bytes(plan.slot_bytes));
  if (plan.expert_slots > 0) text->line("Experts pass through {} slots of {}.", plan.expert_slots, format_bytes(plan.expert_slot_bytes));
  if (plan.device_slots > 0) {
    text->line(
        "Steps of {} or more bring to the device what it does not hold, through {} slots of {}; smaller ones compute with it on the host.",
        tokens_text(plan.device_from_tokens), plan.device_slots, format_bytes(plan.device_slot_bytes));
  }
}

void add_steps(Text* text, const Plan& plan) {
  const bool has_device = uses_device(plan);
  // Keys and values are written there too.
  text->line("{:<20}{:>12}{:>12}{}{:>12}{}{:>14}{}", "step", "predicted", "disk", has_device ? "        link" : "", "host",
             has_device ? "      device" : "", plan.kv_spilled_layers > 0 ? "disk bytes" : "from disk", has_device ? "     over link" : "");
  const auto add = [text, has_device](const std::string& name, const StepPrediction& step) {
    const uint64_t bytes = step.streamed_bytes + step.expert_bytes + step.kv_disk_bytes;
    const auto only_with = [has_device](std::string cell, int width) {
      return has_device ? formatted("{:>{}}", cell, width) : std::string();
    };
    text->line("{:<20}{:>12}{:>12}{}{:>12}{}{:>14}{}", name, time_text(step.predicted_ms), bytes > 0 ? time_text(step.lanes.disk_ms) : "-",
               only_with(time_text(step.lanes.h2d_ms), 12), time_text(step.lanes.host_ms), only_with(time_text(step.lanes.device_ms), 12),
               bytes_or_none(bytes), only_with(bytes_or_none(step.h2d_bytes), 14));
  };
  add("decode, " + tokens_text(plan.decode.tokens), plan.decode);
  add("prefill, " + tokens_text(plan.prefill.tokens), plan.prefill);
}

void add_alternatives(Text* text, const Plan& plan) {
  if (plan.alternatives.empty()) return;
  text->line("");
  // A device is there: its budget is told too.
  const bool has_device = plan.device.budget_bytes > 0;
  size_t width = 16;
  for (const PlanAlternative& other : plan.alternatives) width = std::max(width, other.what.size() + 2);
  text->line("{:<{}}{:>11}{}{:>18}", has_device ? "other memory" : "more memory", width, has_device ? "host" : "budget",
             has_device ? "     device" : "", "decode");
  for (const PlanAlternative& other : plan.alternatives) {
    text->line("{:<{}}{:>11}{}{:>18}", other.what, width, other.host_bytes == 0 ? "no limit" : format_bytes(other.host_bytes),
               has_device ? formatted("{:>11}", bytes_or_none(other.device_bytes)) : "", rate_text(other.predicted_decode_tokens_per_s));
  }
}

}  // namespace

std::string plan_to_text(const Plan& plan) {
  Text text;
  text.line("{} {}.", headline(plan), workload_text(plan));
  text.line("");
  add_memory(&text, plan);
  text.line("");
  add_tensors(&text, plan);
  text.line("");
  add_steps(&text, plan);
  add_alternatives(&text, plan);
  return text.take();
}

}  // namespace outrigger
