// run_to_html: figures, drawings, numbers, and the plan.
#include <outrigger/run_report.h>

#include <new>
#include <utility>
#include <vector>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/decode/run_drawings.h"
#include "src/page/html_page.h"
#include "src/plan/plan_words.h"

namespace outrigger {
namespace {

std::string headline_of(const RunReport& report) {
  const double rate = report.total_tokens_per_s > 0 ? report.total_tokens_per_s : report.decode_tokens_per_s;
  const std::string tokens = formatted("{} {}", report.tokens, report.tokens == 1 ? "token" : "tokens");
  return rate > 0 ? formatted("{}, {}", tokens, rate_text(rate)) : tokens;
}

void add_figures(HtmlPage* page, const Engine& engine, const RunReport& report) {
  const Plan& plan = engine.plan();
  const MemoryReport memory = engine.memory();
  const StreamReport streamed = engine.streamed();
  const auto of_budget = [](const TierUse& tier, const char* where) {
    return tier.budget_bytes > 0 ? formatted("peak of {} {} memory", format_bytes(tier.budget_bytes), where)
                                 : formatted("peak of {} memory, no limit", where);
  };
  page->begin_figures();
  if (report.total_tokens_per_s > 0) page->figure(rate_text(report.total_tokens_per_s), "of all texts together");
  if (report.decode_tokens_per_s > 0)
    page->figure(rate_text(report.decode_tokens_per_s),
                 formatted("decoding a text; {} expected without drafts", rate_text(plan.predicted_decode_tokens_per_s)));
  if (report.prefill_tokens_per_s > 0)
    page->figure(rate_text(report.prefill_tokens_per_s), formatted("reading {} tokens of prompts", report.prompt_tokens));
  page->figure(format_bytes(memory.host.peak_bytes), of_budget(memory.host, "host"));
  if (uses_device(plan)) page->figure(format_bytes(memory.device.peak_bytes), of_budget(memory.device, "device"));
  if (streamed.disk_bytes > 0) page->figure(format_bytes(streamed.disk_bytes), "read from disk");
  if (streamed.h2d_bytes > 0) page->figure(format_bytes(streamed.h2d_bytes), "copied to the device");
  page->end_figures();
}

// Why there was no draft in the end, if that is so.
std::string outcome_of(const SpeculationReport& speculation) {
  if (!speculation.auto_off) return "went on";
  return formatted("given up: a token was expected to take {} with it, {} without", time_text(speculation.ms_per_token_drafted),
                   time_text(speculation.ms_per_token_plain));
}

void add_speculation(HtmlPage* page, const SpeculationReport& speculation) {
  if (speculation.drafted == 0) return;
  page->drawing(draw_acceptance(speculation));
  if (speculation.passes > 0 && speculation.verify_ms > 0) page->drawing(draw_passes(speculation));
  std::vector<std::pair<std::string, std::string>> rows = {
      {"draft", speculation.draft_name},
      {"passes", formatted("{}", speculation.passes)},
      {"tokens a pass", formatted("{:.3f}", speculation.tokens_per_pass)},
      {"drafted", formatted("{}", speculation.drafted)},
      {"accepted", formatted("{}, where {:.0f} were expected", speculation.accepted, speculation.expected_accepted)}};
  if (speculation.tree_passes > 0) rows.emplace_back("passes with a tree", formatted("{}", speculation.tree_passes));
  if (speculation.quoted_passes > 0) rows.emplace_back("passes with a quotation", formatted("{}", speculation.quoted_passes));
  rows.emplace_back("in the end", outcome_of(speculation));
  page->add("<h2>Drafts</h2>\n<div class=\"scroll\"><table>\n");
  for (const auto& [name, value] : rows) page->add("<tr><td>{}</td><td>{}</td></tr>\n", markup_text(name), markup_text(value));
  page->add("</table></div>\n");
}

}  // namespace

Result<std::string> run_to_html(const Engine& engine, const RunReport& report) try {
  const std::string under = report.what.empty() ? engine.model().info().file : formatted("{}. {}", report.what, engine.model().info().file);
  HtmlPage page(headline_of(report), under);
  add_figures(&page, engine, report);
  if (const LaneBusy busy = engine.lane_busy(); busy.steps > 0) page.drawing(draw_lanes(busy));
  add_speculation(&page, report.speculation);
  page.add("<h2>The plan</h2>\n<pre>{}</pre>\n", markup_text(plan_to_text(engine.plan())));
  return page.close();
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
