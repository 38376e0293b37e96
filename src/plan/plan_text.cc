// plan_to_text: the plan as a table: memory, tensors in groups, the steps, and what more memory would buy.
#include <fmt/format.h>
#include <outrigger/plan.h>

#include <algorithm>
#include <iterator>

#include "src/base/bytes.h"
#include "src/plan/plan_words.h"

namespace outrigger {
namespace {

constexpr size_t kMostGroups = 16;  // lines about tensors; a table longer than a screen is not read

class Text {
 public:
  template <typename... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    const size_t begin = text_.size();
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
    text_.erase(std::max(text_.find_last_not_of(' ') + 1, begin));  // cells are padded, lines are not
    text_ += '\n';
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

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
  if (plan.kv_spilled_layers > 0) {
    text->line("Keys and values of {} of {} layers are on disk, where they take {}, and pass through {} slots of {}.", plan.kv_spilled_layers, plan.kv_layers,
               format_bytes(plan.kv_spill_bytes), plan.kv_slots, format_bytes(plan.kv_slot_bytes));
  }
}

void add_tensors(Text* text, const Plan& plan) {
  const std::vector<TensorGroup> groups = group_tensors(plan);
  size_t width = 8;
  const size_t shown = std::min(groups.size(), kMostGroups);
  for (size_t i = 0; i < shown; ++i) width = std::max(width, groups[i].name.size() + 2);
  text->line("{:<{}}{:>10}{:>12}{:>10}{:>12}", "tensors", width, "resident", "", "streamed", "");
  TensorGroup rest{fmt::format("{} more", groups.size() - shown)};
  const auto add = [&](const TensorGroup& group) {
    text->line("{:<{}}{:>10}{:>12}{:>10}{:>12}", group.name, width, group.resident > 0 ? fmt::to_string(group.resident) : "-",
               group.resident > 0 ? format_bytes(group.resident_bytes) : "", group.streamed > 0 ? fmt::to_string(group.streamed) : "-",
               group.streamed > 0 ? format_bytes(group.streamed_bytes) : "");
  };
  for (size_t i = 0; i < groups.size(); ++i) {
    if (i < shown) {
      add(groups[i]);
      continue;
    }
    rest.resident += groups[i].resident;
    rest.streamed += groups[i].streamed;
    rest.resident_bytes += groups[i].resident_bytes;
    rest.streamed_bytes += groups[i].streamed_bytes;
  }
  if (shown < groups.size()) add(rest);
  if (plan.stream_slots > 0) text->line("Streamed through {} slots of {}.", plan.stream_slots, format_bytes(plan.slot_bytes));
  if (plan.expert_slots > 0) text->line("Experts pass through {} slots of {}.", plan.expert_slots, format_bytes(plan.expert_slot_bytes));
}

void add_steps(Text* text, const Plan& plan) {
  // Keys and values are written there too.
  text->line("{:<20}{:>12}{:>12}{:>12}{:>14}", "step", "predicted", "disk", "host", plan.kv_spilled_layers > 0 ? "disk bytes" : "from disk");
  const auto add = [text](const std::string& name, const StepPrediction& step) {
    const uint64_t bytes = step.streamed_bytes + step.expert_bytes + step.kv_disk_bytes;
    const bool reads = bytes > 0;
    text->line("{:<20}{:>12}{:>12}{:>12}{:>14}", name, time_text(step.predicted_ms), reads ? time_text(step.lanes.disk_ms) : "-",
               time_text(step.lanes.host_ms), bytes_or_none(bytes));
  };
  add("decode, 1 token", plan.decode);
  add("prefill, " + tokens_text(plan.prefill.tokens), plan.prefill);
}

void add_alternatives(Text* text, const Plan& plan) {
  if (plan.alternatives.empty()) return;
  text->line("");
  size_t width = 16;
  for (const PlanAlternative& other : plan.alternatives) width = std::max(width, other.what.size() + 2);
  text->line("{:<{}}{:>11}{:>18}", "more memory", width, "budget", "decode");
  for (const PlanAlternative& other : plan.alternatives) {
    text->line("{:<{}}{:>11}{:>18}", other.what, width, format_bytes(other.host_bytes), rate_text(other.predicted_decode_tokens_per_s));
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
