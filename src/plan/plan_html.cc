// plan_to_html: the drawings, the alternatives, the plan's text and every tensor on one page that needs nothing else.
#include <fmt/format.h>
#include <outrigger/plan.h>

#include <algorithm>
#include <iterator>
#include <new>

#include "src/base/bytes.h"
#include "src/base/macros.h"
#include "src/plan/plan_drawings.h"
#include "src/plan/plan_words.h"

namespace outrigger {
namespace {

constexpr std::string_view kPageStyle = R"(*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","DejaVu Sans",Arial,sans-serif}
main{max-width:1160px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:28px;line-height:1.25;font-weight:650;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:18px;font-weight:650;margin:44px 0 12px}
p.under{margin:0 0 28px;color:var(--soft)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:14px;margin:0 0 30px}
.figure{background:var(--panel);border:1px solid var(--rule);border-radius:10px;padding:14px 16px}
.figure b{display:block;font-size:22px;font-weight:650;letter-spacing:-.01em}
.figure span{color:var(--soft);font-size:13px}
figure{margin:0 0 20px;background:var(--page);border:1px solid var(--rule);border-radius:10px;padding:20px 22px;overflow-x:auto}
figure svg{display:block;width:100%;min-width:760px;height:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th{font-weight:600;color:var(--soft);font-size:13px}
th,td{text-align:right;padding:5px 12px;border-bottom:1px solid var(--rule);white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0;white-space:normal;overflow-wrap:anywhere}
td.mode::before{content:"";display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:7px;background:var(--host)}
td.mode.streamed::before{background:var(--disk)}
td.mode.device::before{background:var(--device)}
td.mode.device.streamed::before{background:var(--link)}
.scroll{overflow-x:auto}
.meter{display:block;width:220px;height:9px;border-radius:3px;background:var(--track);margin-left:auto}
.meter i{display:block;height:100%;border-radius:3px;background:var(--host)}
pre{background:var(--panel);border:1px solid var(--rule);border-radius:10px;padding:16px 18px;overflow-x:auto;
font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
details summary{cursor:pointer;font-size:18px;font-weight:650;margin:44px 0 12px}
details summary span{color:var(--soft);font-weight:400;font-size:14px}
@media print{details>*{display:block}}
)";

class Page {
 public:
  explicit Page(const Plan& plan) : plan_(plan) {}

  void open(const MachineProfile& machine) {
    add(R"(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{}</title>
<style>
:root{{{}}}
@media (prefers-color-scheme:dark){{:root{{{}}}}}
{}{}</style>
</head>
<body>
<main>
)",
        markup_text(headline(plan_)), light_colours(), dark_colours(), kPageStyle, drawing_style());
    add("<h1>{}</h1>\n<p class=\"under\">{}{}</p>\n", markup_text(headline(plan_)), markup_text(workload_text(plan_)),
        machine.machine.empty() ? "" : ". " + markup_text(machine.machine));
  }

  void add_figures() {
    add("<div class=\"figures\">\n");
    figure(rate_text(plan_.predicted_decode_tokens_per_s), "decoding");
    figure(time_text(plan_.predicted_prefill_ms), "for the whole prompt");
    figure(format_bytes(plan_.host.planned_bytes),
           plan_.host.budget_bytes > 0 ? fmt::format("of {} host memory", format_bytes(plan_.host.budget_bytes)) : "host memory, no limit");
    if (uses_device(plan_))
      figure(format_bytes(plan_.device.planned_bytes), fmt::format("of {} device memory", format_bytes(plan_.device.budget_bytes)));
    const uint64_t disk_bytes = plan_.decode.streamed_bytes + plan_.decode.expert_bytes + plan_.decode.kv_disk_bytes;
    figure(disk_bytes > 0 ? format_bytes(disk_bytes) : "nothing", plan_.kv_spilled_layers > 0 ? "from disk and to it for a token" : "read from disk for a token");
    add("</div>\n");
  }

  void add_drawing(const Drawing& drawing) {
    // Two units more at both sides: bold letters reach a little beyond where a text ends.
    add("<figure><svg class=\"plan\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-2 0 {:.0f} {:.0f}\" role=\"img\"><title>{}</title>\n{}</svg></figure>\n",
        Canvas::kWidth + 4, drawing.height, markup_text(drawing.title), drawing.elements);
  }

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
          has_device ? fmt::format("<td>{}</td>", bytes_or_none(device_bytes)) : "", rate_text(rate),
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

  std::string close() {
    add("</main>\n</body>\n</html>\n");
    return std::move(html_);
  }

 private:
  template <typename... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(html_), format, std::forward<Args>(args)...);
  }
  void figure(const std::string& value, const std::string& of) { add("<div class=\"figure\"><b>{}</b><span>{}</span></div>\n", value, of); }

  const Plan& plan_;
  std::string html_;
};

}  // namespace

Result<std::string> plan_to_html(const Plan& plan, const StepShape& shape, const MachineProfile& machine) try {
  OTR_ASSIGN(const std::vector<Drawing> drawings, draw_plan(plan, shape, machine));
  Page page(plan);
  page.open(machine);
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
