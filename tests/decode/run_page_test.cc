// The page of a run: what there is to tell is told, what there is not is left out, and texts are texts.
#include <outrigger/run_report.h>

#include "tests/support/catch.h"
#include "tests/support/engines.h"

namespace outrigger::testing {
namespace {

struct Run {
  Model model = must(Model::open(tiny_model_path("tied-q4_1")));
  Engine engine = open_engine(model);
  RunReport report;

  std::string page() const { return must(run_to_html(engine, report)); }
  bool has(const std::string& text) const { return page().find(text) != std::string::npos; }
};

// Three passes: drafts of two tokens, of which one, none and two were accepted.
SpeculationReport drafts() {
  SpeculationReport report;
  report.draft = DraftKind::kNgram;
  report.draft_name = "ngram";
  report.passes = 3, report.drafted = 6, report.accepted = 3, report.tokens_per_pass = 2;
  report.drafted_at[0] = report.drafted_at[1] = 3;
  report.accepted_at[0] = 2, report.accepted_at[1] = 1;
  report.draft_ms = 6, report.verify_ms = 24, report.expected_accepted = 2.6;
  return report;
}

TEST_CASE("Run page: drafts are told by their depth, by what they took and by what became of them") {
  Run run;
  run.report.speculation = drafts();
  CHECK(run.has("depth 1: 3 drafted, 2 accepted, 67 %"));
  CHECK(run.has("depth 2: 3 drafted, 1 accepted, 33 %"));
  CHECK_FALSE(run.has("depth 3"));
  CHECK(run.has("3 passes, 2.00 tokens each: 5.00 ms a token"));
  CHECK(run.has("drafting: 2.00 ms a pass"));
  CHECK(run.has("3, where 3 were expected"));
  CHECK(run.has("went on"));
  run.report.speculation.auto_off = true;
  run.report.speculation.ms_per_token_drafted = 7, run.report.speculation.ms_per_token_plain = 6;
  CHECK(run.has("given up: a token was expected to take 7.00 ms with it, 6.00 ms without"));
}

TEST_CASE("Run page: of what was not there nothing is said") {
  const Run run;
  CHECK_FALSE(run.has("What was accepted"));
  CHECK_FALSE(run.has("What each lane did"));
  CHECK_FALSE(run.has("reading"));
  CHECK(run.has("0 tokens"));
  CHECK(run.has("The plan"));
}

TEST_CASE("Run page: names are texts, whatever is in them") {
  Run run;
  run.report.what = "<script>alert(1)</script> & more";
  run.report.speculation = drafts();
  run.report.speculation.draft_name = "</text><b>.gguf";
  CHECK_FALSE(run.has("<script>"));
  CHECK_FALSE(run.has("<b>.gguf"));
  CHECK(run.has("&lt;script&gt;alert(1)&lt;/script&gt; &amp; more"));
}

}  // namespace
}  // namespace outrigger::testing
