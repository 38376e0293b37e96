// Plans with a draft model.
#include "src/tool/draft_plan.h"

#include <fmt/format.h>
#include <outrigger/draft_forecast.h>

#include "src/tool/acceptance_store.h"
#include "src/tool/loading.h"

namespace outrigger::tool {
namespace {

Result<Model> open_draft(const CommonOptions& options) { return Model::open(options.draft_file, {options.disk_direct}); }

uint32_t context_of(const Workload& workload) {
  return workload.context_tokens != 0 ? workload.context_tokens : workload.prompt_tokens + workload.new_tokens;
}

// What a token of each of so many texts takes the draft, all of it resident on the host.
Result<double> draft_step_ms(const Model& draft, const MachineProfile& machine, Workload workload, uint32_t texts) {
  const auto shape = draft.step_shape();
  if (!shape.is_ok()) return shape.status();
  const auto most = static_cast<uint32_t>(draft.info().context_tokens);
  Workload of_draft;
  of_draft.batch = texts;
  of_draft.context_tokens = std::min(context_of(workload), most);
  of_draft.new_tokens = std::max(1u, std::min(workload.new_tokens, of_draft.context_tokens - 1));
  of_draft.prompt_tokens = of_draft.context_tokens - of_draft.new_tokens;
  const auto plan = PlacementPlanner::plan(shape.value(), machine, {Budgets::kUnlimited, 0}, of_draft);
  if (!plan.is_ok()) return plan.status();
  return plan.value().decode.predicted_ms;
}

Result<DraftExpectation> expectation_of(const Model& draft, const MachineProfile& machine, const Workload& workload, const KnownAcceptance& known) {
  DraftExpectation expectation;
  expectation.accepted = known.chances();
  const auto step_ms = draft_step_ms(draft, machine, workload, workload.batch);
  if (!step_ms.is_ok()) return step_ms.status();
  expectation.step_ms = step_ms.value();
  if (workload.batch > 1) {
    const auto half_ms = draft_step_ms(draft, machine, workload, (workload.batch + 1) / 2);
    if (!half_ms.is_ok()) return half_ms.status();
    expectation.half_step_ms = half_ms.value();
  }
  return expectation;
}

Result<PlanAlternative> without_draft(const Model& model, CommonOptions options, Workload workload, const MachineProfile& machine) {
  options.draft_file.clear();
  workload.draft_tokens = 0;
  const auto plan = make_plan(model, options, workload, &machine);
  if (!plan.is_ok()) return plan.status();
  return PlanAlternative{"without the draft model", plan.value().host.budget_bytes, plan.value().predicted_decode_tokens_per_s, plan.value().device.planned_bytes};
}

void say_basis(const CommonOptions& options, const KnownAcceptance& known) {
  if (options.progress == ProgressMode::kNone) return;
  const bool is_known = known.chances() != unknown_acceptance();
  say(is_known ? fmt::format("of the draft is expected what was accepted of {:.0f} drafts of earlier runs", known.drafted[0])
               : fmt::format("the draft was never tried with this model: each of its tokens is expected to be accepted with {:.0f} %", 100 * kUnknownAcceptance));
}

}  // namespace

Result<uint64_t> bytes_for_draft(const CommonOptions& options, const Workload& workload, uint32_t threads) {
  const auto draft = open_draft(options);
  if (!draft.is_ok()) return draft.status();
  const auto bytes = draft_model_bytes(draft.value(), context_of(workload), threads, workload.batch);
  return bytes.is_ok() ? bytes : bytes.status().in_file(options.draft_file);
}

Status expect_draft(const Model& model, const CommonOptions& options, const Workload& workload, const MachineProfile* given, Plan* plan) {
  if (options.draft_file.empty() || !options.plan_file.empty()) return Status();
  const auto draft = open_draft(options);
  if (!draft.is_ok()) return draft.status();
  const auto machine = plan_profile(model, options, given);
  if (!machine.is_ok()) return machine.status();
  const auto shape = model.step_shape();
  if (!shape.is_ok()) return shape.status();
  const KnownAcceptance known = stored_acceptance(model_pair(model.info(), draft.value().info()));
  const auto expectation = expectation_of(draft.value(), machine.value(), workload, known);
  if (!expectation.is_ok()) return expectation.status();
  const auto forecast = forecast_draft(*plan, shape.value(), machine.value(), expectation.value());
  if (!forecast.is_ok()) return forecast.status();
  const auto plain = without_draft(model, options, workload, machine.value());
  if (!plain.is_ok()) return plain.status();
  plan->draft_tokens_per_pass = forecast.value().tokens_per_pass;
  plan->predicted_draft_tokens_per_s = forecast.value().tokens_per_s;
  plan->alternatives.push_back(plain.value());
  say_basis(options, known);
  return Status();
}

void keep_acceptance(const Model& model, const CommonOptions& options, const SpeculationReport& report) {
  if (report.draft != DraftKind::kModel || report.drafted == 0) return;
  const auto draft = Model::open(report.draft_name, {options.disk_direct});
  if (draft.is_ok()) store_acceptance(model_pair(model.info(), draft.value().info()), report);
}

}  // namespace outrigger::tool
