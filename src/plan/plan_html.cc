// plan_to_html: the drawings, the alternatives, the plan's text and every tensor on one page that needs nothing else.
#include <outrigger/plan.h>

#include <algorithm>
#include <new>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/page/html_page.h"
#include "src/plan/plan_drawings.h"
#include "src/plan/plan_words.h"

namespace outrigger {
namespace {

class Page {
 public:
  Page(const Plan& plan, const MachineProfile& machine)
      : plan_(plan), page_(headline(plan), workload_text(plan) + (machine.machine.empty() ? "" : ". " + machine.machine)) {}

  void add_figures() {
    page_.begin_figures();
    figure(rate_text(plan_.predicted_decode_tokens_per_s), "decoding");
    figure(time_text(plan_.predicted_prefill_ms), "for the whole prompt");
    figure(format_bytes(plan_.host.planned_bytes),
           plan_.host.budget_bytes > 0 ? formatted("of {} host memory", format_bytes(plan_.host.budget_bytes)) : "host memory, no limit");
    if (uses_device(plan_))
      figure(format_bytes(plan_.device.planned_bytes), formatted("of {} device memory", format_bytes(plan_.device.budget_bytes)));
    const uint64_t disk_bytes = plan_.decode.streamed_bytes + plan_.decode.expert_bytes + plan_.decode.kv_disk_bytes;
    figure(disk_bytes > 0 ? format_bytes(disk_bytes) : "nothing",
           formatted("{} for {}", plan_.kv_spilled_layers > 0 ? "from disk and to it" : "read from disk",
                     plan_.decode.tokens == 1 ? "a token" : tokens_text(plan_.decode.tokens)));
    page_.end_figures();
  }

  void add_drawing(const Drawing& drawing) { page_.drawing(drawing); }

  void add_alternatives() {
    if (plan_.alternatives.empty()) return;
    double fastest = plan_.predicted_decode_tokens_per_s;
    for (const PlanAlternative& other : plan_.alternatives) fastest = std::max(fastest, other.predicted_decode_tokens_per_s);
    const bool has_device = plan_.device.budget_bytes > 0;
    add("<h2>What {} memory would buy</h2>\n<div class=\"scroll\"><table>\n<tr><th>memory</th><th>{}</th>{}<th>decode</th><th></th></tr>\n",
        has_device ? "other" : "more", has_device ? "host" : "budget", has_device ? "<th>device</th>" : "");
    const auto row = [&](const std::string& what, uint64_t bytes, uint64_t device_bytes, double rate) {
      add("<tr><td>{}</td><td>{}</td>{}<td>{}</td><td><span class=\"meter\"><i style=\"width:{:.1f}%\"></i></span></td></tr>\n",
          markup_text(what), bytes == 0 ? "no limit" : format_bytes(bytes),
          has_device ? formatted("<td>{}</td>", bytes_or_none(device_bytes)) : "", rate_text(rate),
          fastest > 0 ? std::max(1.0, 100 * rate / fastest) : 0);
    };
    row("this plan", plan_.host.budget_bytes > 0 ? plan_.host.budget_bytes : plan_.host.planned_bytes, plan_.device.budget_bytes,
        plan_.predicted_decode_tokens_per_s);
    for (const PlanAlternative& other : plan_.alternatives)
      row(other.what, other.host_bytes, other.device_bytes, other.predicted_decode_tokens_per_s);
    add("</table></div>\n");
  }

  void add_text() { add("<h2>The plan as text</h2>\n<pre>{}</pre>\n", markup_text(plan_to_text(plan_))); }

  void add_tensors() {
    add("<details><summary>Tensors <span>{} matrices</span></summary>\n<div class=\"scroll\"><table>\n", plan_.tensors.size());
    add("<tr><th>tensor</th><th>in memory</th><th>in the file</th><th>mode</th><th>tier</th><th>computed on</th></tr>\n");
    for (const TensorPlacement& tensor : plan_.tensors) {
      add("<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"mode {} {}\">{}</td><td>{}</td><td>{}</td></tr>\n", markup_text(tensor.name),
          format_bytes(tensor.bytes), format_bytes(tensor.file_bytes), residence_name(tensor.mode), tier_name(tensor.tier),
          residence_name(tensor.mode), tier_name(tensor.tier), tier_name(tensor.compute));
    }
    add("</table></div></details>\n");
  }

  std::string close() { return page_.close(); }

 private:
  template <typename... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    page_.add(format, std::forward<Args>(args)...);
  }
  void figure(const std::string& value, const std::string& of) { page_.figure(value, of); }

  const Plan& plan_;
  HtmlPage page_;
};

}  // namespace

Result<std::string> plan_to_html(const Plan& plan, const StepShape& shape, const MachineProfile& machine) try {
  OTR_ASSIGN(const std::vector<Drawing> drawings, draw_plan(plan, shape, machine));
  Page page(plan, machine);
  page.add_figures();
  for (const Drawing& drawing : drawings) page.add_drawing(drawing);
  page.add_alternatives();
  page.add_text();
  page.add_tensors();
  return page.close();
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
