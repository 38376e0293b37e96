// outrigger plan: where everything would live and what it would cost, from the header alone.
#include <fmt/format.h>

#include <memory>

#include "src/tool/command_line.h"
#include "src/tool/commands.h"
#include "src/tool/draft_plan.h"
#include "src/tool/files.h"
#include "src/tool/generation.h"
#include "src/tool/loading.h"
#include "src/tool/repetition_store.h"
#include "src/tool/report.h"
#include "src/tool/workload.h"

namespace outrigger::tool {
namespace {

struct PlanCommandOptions {
  CommonOptions common;
  FutureOptions future;
  std::string model, workload_text, profile_file, svg_file, html_file;
  Workload workload;
};

// A workload that was asked for is planned as it is; the default one shrinks to what a small model was made for.
Workload fitting(const PlanCommandOptions& options, const ModelInfo& info) {
  Workload workload = options.workload;
  const uint64_t tokens = uint64_t{workload.prompt_tokens} + workload.new_tokens;
  if (options.workload_text.empty() && tokens > info.context_tokens && info.context_tokens >= 2) {
    workload.prompt_tokens = static_cast<uint32_t>(info.context_tokens * workload.prompt_tokens / tokens);
    workload.new_tokens = static_cast<uint32_t>(info.context_tokens) - workload.prompt_tokens;
  }
  return workload;
}

// Before the text: what cannot be written is the only document on stdout.
Status draw(const PlanCommandOptions& options, const Model& model, const Plan& plan, const MachineProfile* given) {
  if (options.svg_file.empty() && options.html_file.empty()) return Status();
  const auto shape = model.step_shape();
  if (!shape.is_ok()) return shape.status();
  const auto machine = plan_profile(model, options.common, given);
  if (!machine.is_ok()) return machine.status();
  for (const auto& [file, to_text] : {std::pair{&options.svg_file, &plan_to_svg}, {&options.html_file, &plan_to_html}}) {
    if (file->empty()) continue;
    const auto drawn = to_text(plan, shape.value(), machine.value());
    if (!drawn.is_ok()) return drawn.status();
    if (Status status = write_file(*file, drawn.value()); !status.is_ok()) return status;
  }
  return Status();
}

// Without a budget a plan is made for the memory that is here, also where the profile is another machine's.
void say_whose_memory(const CommonOptions& options, const MachineProfile* given) {
  if (given == nullptr || options.host_budget || options.progress == ProgressMode::kNone || given->machine == machine_fingerprint()) return;
  say("the host budget is the memory of this machine, and the profile is another's: give --host-budget");
}

// What is read of a mixture depends on the text more than on anything that a plan decides.
void say_basis_of_experts(const Model& model, const CommonOptions& options, const Plan& plan) {
  if (plan.expert_slots == 0 || !options.plan_file.empty() || options.progress == ProgressMode::kNone) return;
  say(stored_repetition(model).is_known() ? "texts are expected to come back to experts as those of earlier runs did"
                                          : "how texts come back to this model's experts is not known yet; after some runs plans know");
}

Status plan(PlanCommandOptions options) {
  apply_log_level(options.common);
  if (Status status = check_future(options.future); !status.is_ok()) return status;
  if (Status status = check_trace(options.common, false); !status.is_ok()) return status;
  const auto model = open_runnable(options.model, options.common);
  if (!model.is_ok()) return model.status();

  MachineProfile given;
  if (!options.profile_file.empty()) {
    const auto text = read_file(options.profile_file);
    if (!text.is_ok()) return text.status();
    auto profile = profile_from_json(text.value());
    if (!profile.is_ok()) return profile.status().in_file(options.profile_file);
    given = std::move(profile).value();
  }
  Workload workload = fitting(options, model.value().info());
  plan_for_draft(options.future, {}, &options.common, &workload);
  const MachineProfile* const known = options.profile_file.empty() ? nullptr : &given;
  say_whose_memory(options.common, known);
  auto made = make_plan(model.value(), options.common, workload, known);
  if (!made.is_ok()) return made.status();
  if (Status status = expect_draft(model.value(), options.common, workload, known, &made.value()); !status.is_ok()) return status;
  say_basis_of_experts(model.value(), options.common, made.value());
  if (Status status = draw(options, model.value(), made.value(), known); !status.is_ok()) return status;
  std::string text = options.common.json ? plan_to_json(made.value()) : plan_to_text(made.value());
  if (!text.ends_with('\n')) text += '\n';
  return write_out(text);
}

}  // namespace

void add_plan(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("plan", "Where everything would live under a budget, and what it would cost");
  auto options = std::make_shared<PlanCommandOptions>();
  add_model(*command, options->model);
  command->add_option("--workload", options->workload_text, "What to plan for: prompt=512,new=128,batch=1,ctx=0")->type_name("LIST");
  CLI::Option* profile =
      command->add_option("--profile", options->profile_file, "A machine's profile instead of this machine's")->type_name("FILE");
  command->add_option("--svg", options->svg_file, "Write a picture of it: lanes over time, memory, layers")->type_name("FILE");
  command->add_option("--html", options->html_file, "Write a page about it: the picture, the alternatives, every tensor")
      ->type_name("FILE");
  add_common_options(*command, options->common, Shows::kMachine);
  for (CLI::Option* option : add_draft_options(*command, options->future)) option->group("Speculation and batches");
  profile->excludes("--threads", "--plan", "--device");
  command->footer(
      "A budget that is too small is exit code 15, and the error tells the smallest one that does.\n"
      "Examples:\n"
      "  outrigger plan model.gguf --host-budget 64MiB\n"
      "  outrigger plan model.gguf --host-budget 64MiB --workload prompt=2000,new=500 --json > plan.json\n"
      "  outrigger plan model.gguf --host-budget 64MiB --html plan.html\n"
      "  outrigger plan model.gguf --device emulated:memory=256MiB,link=4GB/s --device-budget 128MiB\n"
      "  outrigger run model.gguf --plan plan.json -p \"Once upon a time\"\n");
  command->callback([&action, options] {
    const auto workload = parse_workload(options->workload_text);
    if (!workload.is_ok()) throw CLI::ValidationError("--workload", workload.status().message());
    options->workload = workload.value();
    action = [options] { return plan(*options); };
  });
}

}  // namespace outrigger::tool
