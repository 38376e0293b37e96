// Options that commands share, as they are written on the command line.
#include "src/tool/command_line.h"

namespace outrigger::tool {
namespace {

CLI::Option* add_size(CLI::App& command, const std::string& name, std::optional<ByteSize>& size, const std::string& help) {
  return command
      .add_option_function<std::string>(
          name,
          [name, &size](const std::string& text) {
            const auto parsed = parse_size(text);
            if (!parsed.is_ok()) throw CLI::ValidationError(name, parsed.status().message());
            size = parsed.value();
          },
          help)
      ->type_name("SIZE");
}

}  // namespace

void add_model(CLI::App& command, std::string& path) { command.add_option("MODEL", path, "A GGUF file")->required()->type_name(""); }

namespace {

// "50%" as "0.5"; what is no number stays as it is, for the check that follows.
std::string as_share(const std::string& percent) {
  char* end = nullptr;
  const double value = std::strtod(percent.c_str(), &end);
  return end == percent.c_str() + percent.size() - 1 ? std::to_string(value / 100) : percent;
}

}  // namespace

CLI::Option* add_share(CLI::App& command, const char* name, double& share, const char* description) {
  return command.add_option(name, share, description)
      ->type_name("SHARE")
      ->transform([](const std::string& text) { return text.ends_with("%") ? as_share(text) : text; })
      ->check(CLI::NonNegativeNumber.description(""));
}

void add_common_options(CLI::App& command, CommonOptions& options, Shows shows) {
  std::vector<CLI::Option*> machine = {
      command.add_option("--threads", options.threads, "Compute threads; 0: the physical cores this process may use")->type_name("N"),
      command.add_option("--device", options.device, "Where to compute besides the cpu")->type_name("cpu|cuda[:N]|emulated:..."),
      add_size(command, "--host-budget", options.host_budget, "Host memory for everything; 0: no limit; unset: 90 % of what is available"),
      add_size(command, "--device-budget", options.device_budget, "The same for the memory of a device: a share is of all it has"),
      add_choice<DiskDirect>(command, "--disk-direct", options.disk_direct, "Read past the page cache",
                             {{"auto", DiskDirect::kAuto}, {"on", DiskDirect::kOn}, {"off", DiskDirect::kOff}}),
      command
          .add_option_function<uint64_t>(
              "--seed", [&options](uint64_t seed) { options.seed = seed; }, "Seed of what is drawn")
          ->type_name("N"),
      command
          .add_option("--plan", options.plan_file, "Replay what 'outrigger plan --json' printed; then it sets budget, threads, context, KV")
          ->type_name("FILE"),
      command.add_option("--trace", options.trace_file, "Write what each lane did when, for ui.perfetto.dev or chrome://tracing")
          ->type_name("FILE"),
      add_choice<Numerics>(command, "--numerics", options.numerics, "fast: int8 activations; float32: the reference, several times slower",
                           {{"fast", Numerics::kFast}, {"float32", Numerics::kFloat32}}),
      command
          .add_option_function<std::string>(
              "--kv-type",
              [&options](const std::string& name) {
                for (const KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8_0}) {
                  if (name == kv_type_name(type)) options.kv_type = type;
                }
              },
              "What keys and values are stored as; q8_0 takes half the memory of f16")
          ->type_name("f16|q8_0|f32")
          ->check(CLI::IsMember({"f16", "q8_0", "f32"}).description("")),
      command
          .add_option("--spill-dir", options.spill_directory,
                      "Where keys and values go that a plan has no memory for; none: nowhere. Unset: TMPDIR, or /var/tmp")
          ->type_name("DIR|none"),
  };
  if (shows == Shows::kMachine) {
    machine.push_back(
        command
            .add_option_function<std::string>(
                "--branch-on",
                [&options](const std::string& place) {
                  options.corrections = place == "auto"     ? CorrectionPlace::kAsItPays
                                        : place == "device" ? CorrectionPlace::kOnDevice
                                                            : CorrectionPlace::kOnHost;
                  options.corrects_in_turn = place == "host-in-turn";
                },
                "Where branches are computed whose matrices a device computes with; host: meanwhile, host-in-turn: before it, to compare")
            ->type_name("auto|device|host|host-in-turn")
            ->check(CLI::IsMember({"auto", "device", "host", "host-in-turn"}).description("")));
    machine.push_back(add_share(command, "--max-slowdown", options.max_slowdown,
                                "Use so much of the branches that a token takes no longer than this by the plan: 5% or 0.05; unset: all"));
  }
  for (CLI::Option* option : machine) option->group(shows == Shows::kMachine ? "Machine" : "");
  machine[6]->excludes(machine[0], machine[2], machine[9]);
  for (CLI::Option* option : {
           static_cast<CLI::Option*>(command.add_flag("--json", options.json, "One JSON document on stdout")),
           add_choice<ProgressMode>(command, "--progress", options.progress, "Progress on stderr",
                                    {{"auto", ProgressMode::kAuto}, {"plain", ProgressMode::kPlain}, {"none", ProgressMode::kNone}}),
           add_choice<int>(command, "--log-level", options.log_level, "The library's remarks on stderr",
                           {{"error", 0}, {"warning", 1}, {"info", 2}, {"debug", 3}}),
       }) {
    option->group("Output");
  }
}

std::vector<CLI::Option*> add_draft_options(CLI::App& command, FutureOptions& options) {
  return {
      command
          .add_option(
              "--draft", options.draft,
              "Who proposes tokens that one step verifies; the text stays the model's. auto: self with low-bit copies where a plan says "
              "that these pay and nothing is drawn, else ngram while it pays; ngram: what followed before; self: a compressed model "
              "without its branches, another one with low-bit copies of what streams from disk; FILE: a small model of the same vocabulary")
          ->type_name("auto|none|ngram|self|FILE"),
      command.add_option("--draft-tokens", options.draft_tokens, "Most tokens of a draft, 1 to 16, of a tree to 31; auto: as many as pay")
          ->type_name("auto|N"),
      command
          .add_option(
              "--draft-shape", options.draft_shape,
              "chain: one continuation; tree: several, of which the best is taken; auto: chain, and tree where it is measured to be faster")
          ->type_name("auto|chain|tree"),
      add_choice<DraftPlace>(command, "--draft-place", options.draft_place,
                             "Where a draft model computes: on the host, or on --device beside its target; auto: where more tokens a "
                             "second are expected of it",
                             {{"auto", DraftPlace::kAuto}, {"host", DraftPlace::kHost}, {"device", DraftPlace::kDevice}}),
  };
}

void add_future_options(CLI::App& command, FutureOptions& options, bool with_draft) {
  command
      .add_option_function<std::string>(
          "--branch",
          [&options](const std::string& text) {
            options.follows_load = text == "follow";
            if (!options.follows_load) options.branch_share = std::stof(text);
          },
          "Share of a compressed model's branches to use: all, none, or a share such as 50% or 0.5; follow: as many as --max-slowdown (5%) "
          "allows beside what else the host does, so that text depends on time")
      ->type_name("all|none|SHARE|follow")
      ->transform([](const std::string& text) {
        return text == "all" ? "1" : text == "none" ? "0" : text.ends_with("%") ? as_share(text) : text;
      })
      ->check([](const std::string& text) { return text == "follow" ? std::string() : CLI::Range(0.0, 1.0)(text); })
      ->group("Machine");
  std::vector<CLI::Option*> added = {
      command.add_option("--batch", options.batch, "Texts at once, for run --prompts and bench, which takes several numbers")
          ->type_name("N")
          ->delimiter(',')
          ->allow_extra_args(false),
  };
  if (with_draft) {
    for (CLI::Option* option : add_draft_options(command, options)) added.push_back(option);
    added.push_back(
        command
            .add_option("--groups", options.groups, "Groups that the texts of a batch alternate in while a model drafts: auto as measured")
            ->type_name("auto|1|2"));
  }
  for (CLI::Option* option : added) option->group("Speculation and batches");
}

}  // namespace outrigger::tool
