// Plans with a draft model.
#include "src/tool/draft_plan.h"

#include <fmt/format.h>
#include <outrigger/draft_forecast.h>

#include "src/tool/acceptance_store.h"
#include "src/tool/loading.h"

namespace outrigger::tool {
namespace {

// So many drafts of earlier runs are believed of the next one, whose text may be of another kind.
constexpr double kEnoughDrafts = 256;
// By what was known of them, of two plans for 16 texts that stream from disk one was to lose a quarter and lost an eighth, the other to win
// nothing and won a third: where a tenth is to be lost, it is not tried any more.
constexpr double kLeastLoss = 1.1;

Result<Model> open_draft(const CommonOptions& options) { return Model::open(options.draft_file, {options.disk_direct}); }

uint32_t context_of(const Workload& workload) {
  return workload.context_tokens != 0 ? workload.context_tokens : workload.prompt_tokens + workload.new_tokens;
}

Status misplaced() {
  return Status(StatusCode::kInvalidArgument,
                "--draft-place device: there is no device besides the cpu; give --device, or a --profile that has one");
}

bool has_device(const MachineProfile& machine) { return machine.device_memory_bytes > 0 && machine.device_threads > 0; }

KnownAcceptance known_of(const Model& model, const Model& draft) { return stored_acceptance(model_pair(model.info(), draft.info())); }

Result<DraftForecast> forecast_of(const Model& model, const Model& draft, const MachineProfile& machine, const Workload& workload,
                                  const Plan& plan) {
  const auto shape = model.step_shape();
  if (!shape.is_ok()) return shape.status();
  const DraftSteps steps{context_of(workload), workload.new_tokens, workload.batch};
  auto expectation = untried_draft(draft, machine, steps, plan.device.breakdown.draft > 0);
  if (!expectation.is_ok()) return expectation.status();
  expectation.value().accepted = known_of(model, draft).chances();
  return forecast_draft(plan, shape.value(), machine, expectation.value());
}

Result<PlanAlternative> without_draft(const Model& model, CommonOptions options, Workload workload, const MachineProfile& machine) {
  options.draft_file.clear();
  workload.draft_tokens = 0;
  const auto plan = make_plan(model, options, workload, &machine);
  if (!plan.is_ok()) return plan.status();
  return PlanAlternative{"without the draft model", plan.value().host.budget_bytes, plan.value().predicted_decode_tokens_per_s,
                         plan.value().device.planned_bytes};
}

void say_basis(const CommonOptions& options, const KnownAcceptance& known) {
  if (options.progress == ProgressMode::kNone) return;
  const bool is_known = known.chances() != unknown_acceptance();
  say(is_known ? fmt::format("of the draft is expected what was accepted of {:.0f} drafts of earlier runs", known.drafted[0])
               : fmt::format("the draft was never tried with this model: each of its tokens is expected to be accepted with {:.0f} %",
                             100 * kUnknownAcceptance));
}

}  // namespace

Result<Plan> plan_with_draft(const Model& model, const CommonOptions& options, const MachineProfile& machine, const Budgets& budgets,
                             Workload workload) {
  if (options.draft_place == DraftPlace::kDevice && !has_device(machine)) return misplaced();
  const auto draft = open_draft(options);
  if (!draft.is_ok()) return draft.status();
  const auto shape = model.step_shape();
  if (!shape.is_ok()) return shape.status();
  const auto host_bytes = draft_model_bytes(draft.value(), context_of(workload), machine.threads, workload.batch);
  if (!host_bytes.is_ok()) return host_bytes.status().in_file(options.draft_file);
  workload.draft_bytes = host_bytes.value();
  auto on_host = PlacementPlanner::plan(shape.value(), machine, budgets, workload);
  if (options.draft_place == DraftPlace::kHost || !has_device(machine)) return on_host;
  const auto bytes = draft_model_device_bytes(draft.value(), context_of(workload), machine.threads, machine.device_threads, workload.batch);
  if (!bytes.is_ok()) return options.draft_place == DraftPlace::kAuto ? on_host : bytes.status().in_file(options.draft_file);
  workload.draft_bytes = bytes.value().host;
  workload.draft_device_bytes = bytes.value().device;
  auto on_device = PlacementPlanner::plan(shape.value(), machine, budgets, workload);
  if (options.draft_place == DraftPlace::kDevice) return on_device;
  if (!on_host.is_ok() || !on_device.is_ok()) return on_device.is_ok() ? on_device : on_host;
  const auto there = forecast_of(model, draft.value(), machine, workload, on_device.value()),
             here = forecast_of(model, draft.value(), machine, workload, on_host.value());
  if (!there.is_ok() || !here.is_ok()) return there.is_ok() ? here.status() : there.status();
  return there.value().tokens_per_s > here.value().tokens_per_s ? on_device : on_host;
}

Status expect_draft(const Model& model, const CommonOptions& options, const Workload& workload, const MachineProfile* given, Plan* plan) {
  if (options.draft_file.empty() || !options.plan_file.empty()) return Status();
  const auto draft = open_draft(options);
  if (!draft.is_ok()) return draft.status();
  const auto machine = plan_profile(model, options, given);
  if (!machine.is_ok()) return machine.status();
  const auto forecast = forecast_of(model, draft.value(), machine.value(), workload, *plan);
  if (!forecast.is_ok()) return forecast.status();
  const auto plain = without_draft(model, options, workload, machine.value());
  if (!plain.is_ok()) return plain.status();
  plan->draft_tokens_per_pass = forecast.value().tokens_per_pass;
  plan->predicted_draft_tokens_per_s = forecast.value().tokens_per_s;
  plan->alternatives.push_back(plain.value());
  say_basis(options, known_of(model, draft.value()));
  return Status();
}

bool DraftJudgement::is_loss() const { return drafted_ms >= (known_drafts > 0 ? kLeastLoss : 1) * plain_ms; }

Result<DraftJudgement> judge_draft(const Model& model, const CommonOptions& options, const Workload& workload, const Workload& drafted) {
  const auto draft = open_draft(options);
  if (!draft.is_ok()) return draft.status();
  const auto shape = model.step_shape();
  if (!shape.is_ok()) return shape.status();
  const auto machine = plan_profile(model, options, nullptr);
  if (!machine.is_ok()) return machine.status();
  const auto with_draft = make_plan(model, options, drafted, &machine.value());
  if (!with_draft.is_ok()) return with_draft.status();
  if (Status status = check_same_vocabulary(model, draft.value()); !status.is_ok()) return status;
  CommonOptions alone = options;
  alone.draft_file.clear();
  const auto plain = make_plan(model, alone, workload, &machine.value());
  if (!plain.is_ok()) return plain.status();
  const DraftSteps steps{context_of(workload), workload.new_tokens, workload.batch};
  auto expected = untried_draft(draft.value(), machine.value(), steps, with_draft.value().device.breakdown.draft > 0);
  if (!expected.is_ok()) return expected.status();
  const double written = static_cast<double>(workload.batch) * workload.new_tokens,
               read = static_cast<double>(workload.batch) * workload.prompt_tokens;
  const auto judged = [&](double known_drafts) -> Result<DraftJudgement> {
    const auto forecast = forecast_draft(with_draft.value(), shape.value(), machine.value(), expected.value());
    if (!forecast.is_ok()) return forecast.status();
    return DraftJudgement{written * 1e3 / forecast.value().tokens_per_s + read * expected.value().read_ms,
                          workload.new_tokens * plain.value().decode.predicted_ms, known_drafts};
  };
  expected.value().accepted.fill(1);
  Result<DraftJudgement> at_best = judged(0);
  const KnownAcceptance known = known_of(model, draft.value());
  if (!at_best.is_ok() || at_best.value().is_loss() || known.drafted[0] < kEnoughDrafts) return at_best;
  expected.value().accepted = known.chances();
  return judged(known.drafted[0]);
}

void keep_acceptance(const Model& model, const CommonOptions& options, const SpeculationReport& report) {
  if (report.draft != DraftKind::kModel || report.drafted == 0) return;
  const auto draft = Model::open(report.draft_name, {options.disk_direct});
  if (draft.is_ok()) store_acceptance(model_pair(model.info(), draft.value().info()), report);
}

}  // namespace outrigger::tool
