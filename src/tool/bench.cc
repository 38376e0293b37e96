// outrigger bench: prompt, generation and verification speed, in the fields of llama-bench.
#include <fmt/format.h>
#include <outrigger/session.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "src/tool/bench_runs.h"
#include "src/tool/command_line.h"
#include "src/tool/commands.h"
#include "src/tool/interrupt.h"
#include "src/tool/loading.h"
#include "src/tool/profile_store.h"
#include "src/tool/report.h"
#include "src/tool/statistics.h"

namespace outrigger::tool {
namespace {

struct BenchOptions {
  CommonOptions common;
  FutureOptions future;
  std::string model;
  std::vector<uint32_t> prompts = {128, 512}, generations = {64}, verifications, depths = {0};
  uint32_t repeat = 5;
  bool predict = false;
};

// Every figure asked for; a length of 0 leaves its kind out, as in llama-bench.
std::vector<BenchTest> tests_of(const BenchOptions& options) {
  std::vector<BenchTest> tests;
  for (const uint32_t depth : options.depths) {
    for (const auto& [kind, lengths] : {std::pair{BenchKind::kPrompt, &options.prompts},
                                        {BenchKind::kGenerate, &options.generations},
                                        {BenchKind::kVerify, &options.verifications}}) {
      for (const uint32_t tokens : *lengths) {
        if (tokens == 0) continue;
        for (const uint32_t batch : kind == BenchKind::kGenerate ? options.future.batch : std::vector<uint32_t>{1})
          tests.push_back({kind, tokens, depth, batch});
      }
    }
  }
  return tests;
}

// What a step reads of weights, packed: the layers' for every pass, the head's once when logits are wanted.
struct WeightBytes {
  uint64_t layers = 0, head = 0;
};

WeightBytes weight_bytes_of(const StepShape& shape) {
  WeightBytes bytes;
  for (const MatrixShape& matrix : shape.matrices) {
    if (matrix.use == MatrixUse::kEveryToken) bytes.layers += matrix.packed_bytes;
    if (matrix.use == MatrixUse::kLogits) bytes.head += matrix.packed_bytes;
  }
  return bytes;
}

std::string time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc = {};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

struct Setting {
  const Model& model;
  const Engine& engine;
  const MachineProfile& machine;
  WeightBytes weights;
};

Json row_json(const Setting& setting, const BenchTest& test, const BenchSamples& samples) {
  std::vector<double> samples_ts;
  const auto tokens = static_cast<double>(test.all_tokens());
  for (const double ns : samples.ns) samples_ts.push_back(tokens * 1e9 / ns);
  const Spread ns = spread(samples.ns), ts = spread(samples_ts);
  const Plan& plan = setting.engine.plan();
  const double passes = test.kind == BenchKind::kGenerate
                            ? test.tokens * std::ceil(static_cast<double>(test.batch) / sessions_at_once(plan, test.batch))
                            : std::ceil(test.tokens / std::max<double>(plan.step_tokens, 1));
  const double head_reads = test.kind == BenchKind::kPrompt ? 1 : passes;
  const double bytes = passes * static_cast<double>(setting.weights.layers) + head_reads * static_cast<double>(setting.weights.head);
  const double bytes_per_s = bytes * 1e9 / ns.mean;
  // Of the memory that most of the weights are read from.
  const bool is_on_device = plan.device.breakdown.weights_resident > plan.host.breakdown.weights_resident;
  const double peak = (is_on_device ? setting.machine.device_stream_bytes : setting.machine.host_stream_bytes).per_s;
  const ModelInfo& info = setting.model.info();
  std::vector<uint64_t> whole_ns;
  for (const double sample : samples.ns) whole_ns.push_back(static_cast<uint64_t>(sample));
  Json row = {{"test", test.name()},
              {"model_filename", info.file},
              {"model_type", info.architecture},
              {"model_size", info.bytes},
              {"model_n_params", info.parameters},
              {"cpu_info", setting.machine.machine},
              {"n_threads", plan.threads},
              {"n_batch", plan.step_tokens},
              {"n_prompt", test.kind == BenchKind::kGenerate ? 0 : test.tokens},
              {"n_gen", test.kind == BenchKind::kGenerate ? test.tokens : 0},
              {"n_depth", test.depth},
              {"batch", test.batch},
              {"test_time", time_now()},
              {"avg_ns", static_cast<uint64_t>(ns.mean)},
              {"stddev_ns", static_cast<uint64_t>(ns.deviation)},
              {"avg_ts", ts.mean},
              {"stddev_ts", ts.deviation},
              {"samples_ns", whole_ns},
              {"samples_ts", samples_ts},
              {"weight_bytes_per_s", bytes_per_s},
              {"fraction_of_peak", peak > 0 ? bytes_per_s / peak : 0},
              {"peak_bytes", setting.engine.memory().host.peak_bytes}};
  if (!samples.predicted_ns.empty()) {
    row["predicted_ns"] = samples.predicted_ns;
    row["predicted_ts"] = tokens * 1e9 / spread(samples.predicted_ns).mean;
  }
  return row;
}

std::string head_text(bool predicts) {
  return fmt::format("{:<16} {:>10} +- {:>7} {:>12} {:>11} {:>12}{}\n", "test", "tokens/s", "", "weights GB/s", "of memory", "peak",
                     predicts ? fmt::format(" {:>12}", "predicted") : "");
}

std::string row_text(const Json& row, const BenchTest& test, const BenchSamples& samples) {
  const std::string name =
      test.name() + (test.batch != 1 ? fmt::format(" x {}", test.batch) : "") + (test.depth != 0 ? fmt::format(" @ d{}", test.depth) : "");
  std::string predicted;
  if (!samples.predicted_ns.empty()) predicted = fmt::format(" {:>12.2f}", row["predicted_ts"].get<double>());
  return fmt::format("{:<16} {:>10.2f} +- {:>7.2f} {:>12.2f} {:>9.0f} % {:>12}{}\n", name, row["avg_ts"].get<double>(),
                     row["stddev_ts"].get<double>(), row["weight_bytes_per_s"].get<double>() / 1e9,
                     row["fraction_of_peak"].get<double>() * 100, format_size(row["peak_bytes"].get<uint64_t>()), predicted);
}

Workload workload_for(const std::vector<BenchTest>& tests) {
  Workload workload;
  workload.prompt_tokens = workload.new_tokens = 0;
  for (const BenchTest& test : tests) {
    uint32_t& most = test.kind == BenchKind::kGenerate ? workload.new_tokens : workload.prompt_tokens;
    most = std::max(most, test.tokens);
    workload.context_tokens = std::max(workload.context_tokens, test.depth + test.tokens);
    workload.batch = std::max(workload.batch, test.batch);
    if (test.kind == BenchKind::kVerify) workload.logit_rows = std::max(workload.logit_rows, test.tokens);
  }
  // A workload is a prompt and what follows it, while the tests run apart.
  workload.context_tokens = std::max(workload.context_tokens, workload.prompt_tokens + workload.new_tokens);
  return workload;
}

Status bench(const BenchOptions& options) {
  apply_log_level(options.common);
  if (Status status = check_future(options.future); !status.is_ok()) return status;
  const std::vector<BenchTest> tests = tests_of(options);
  if (tests.empty()) return Status(StatusCode::kInvalidArgument, "nothing to measure: -p, -n and --verify are all 0; need a length");
  const auto model = open_runnable(options.model, options.common);
  if (!model.is_ok()) return model.status();
  const auto shape = model.value().step_shape();
  if (!shape.is_ok()) return shape.status();

  // A rate is a share of a peak only when both were measured on the same machine in the same minute.
  ProfileOptions profile_options;
  profile_options.threads = options.common.threads;
  profile_options.disk_path = model.value().info().file;
  profile_options.device = options.common.device;
  const auto machine = measure_machine(profile_options);
  if (!machine.is_ok()) return machine.status();
  store_profile(machine.value(), profile_options.disk_path, profile_options.device);

  const Workload workload = workload_for(tests);
  const auto engine = load_engine(model.value(), options.common, workload, nullptr, &machine.value());
  if (!engine.is_ok()) return engine.status();
  std::vector<Session> sessions;
  for (uint32_t i = 0; i < workload.batch; ++i) {
    auto session = Session::open(engine.value(), {0, options.future.branch_share});
    if (!session.is_ok()) return session.status();
    sessions.push_back(std::move(session).value());
  }

  if (Status status = start_following(sessions[0], options.common, options.future); !status.is_ok()) return status;
  const std::optional<FollowLoad> follows = follow_load(options.common, options.future);
  const auto follow = [&follows](Session& session) { return follows ? session.follow_load(*follows) : Status(); };
  const Interruptible interruptible;
  ProgressLine progress(options.common.progress, "measuring");
  BenchRuns runs(sessions, static_cast<uint32_t>(model.value().info().vocabulary_tokens), options.common.seed.value_or(0));
  const Setting setting = {model.value(), engine.value(), machine.value(), weight_bytes_of(shape.value())};
  const BenchPredictions predictions(engine.value().plan(), shape.value(), profile_options);
  Json rows = Json::array();
  std::string table = head_text(options.predict);
  for (const BenchTest& test : tests) {
    // Each test finds out for itself, and its own steps are told of.
    for (uint32_t i = 0; i < test.batch; ++i) {
      if (Status status = follow(sessions[i]); !status.is_ok()) return status;
    }
    const auto samples = measure(runs, test, options.repeat, options.predict ? &predictions : nullptr);
    if (!samples.is_ok()) return samples.status();
    rows.push_back(row_json(setting, test, samples.value()));
    if (const BranchUse use = sessions[0].branch_use(); use.steps > 0) rows.back()["branches"] = branches_json(use);
    table += row_text(rows.back(), test, samples.value());
    progress.update(static_cast<double>(rows.size()) / static_cast<double>(tests.size()));
  }
  progress.finish();
  if (Status status = write_trace(engine.value(), options.common); !status.is_ok()) return status;
  return options.common.json ? write_json(rows) : write_out(table);
}

void add_lengths(CLI::App& command, const std::string& name, std::vector<uint32_t>& lengths, const std::string& help) {
  // As long as this and depth and length add up in 32 bits.
  constexpr uint32_t kLongest = 1u << 30;
  command.add_option(name, lengths, help)
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("N,...")

      ->check(CLI::Range(0u, kLongest).description(""));
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("bench", "Measure prompt, generation and verification speed");
  auto options = std::make_shared<BenchOptions>();
  add_model(*command, options->model);
  add_lengths(*command, "-p,--n-prompt", options->prompts, "Prompt lengths (128,512); 0: none");
  add_lengths(*command, "-n,--n-gen", options->generations, "Tokens to generate (64); 0: none");
  add_lengths(*command, "--verify", options->verifications, "Tokens of a pass that wants the logits of each");
  add_lengths(*command, "--depth", options->depths, "Tokens in the context before (0)");
  command->add_option("--repeat", options->repeat, "Runs of each, after one to warm up (5)")
      ->type_name("N")

      ->check(CLI::PositiveNumber.description(""));
  command->add_flag("--predict", options->predict, "Tell what the plan predicts of each run, at the machine's rates measured between runs");
  add_common_options(*command, options->common, Shows::kMachine);
  add_future_options(*command, options->future, false);
  command->footer(
      "Weight bytes are packed bytes read by all passes of a test; the peak is this machine's rate of reading memory,\n"
      "measured in the same run.\n"
      "Examples:\n"
      "  outrigger bench model.gguf\n"
      "  outrigger bench model.gguf -p 512 -n 128 --depth 0,2048 --json\n"
      "  outrigger bench model.gguf -p 0 -n 64 --batch 1,4,16\n"
      "  outrigger bench model.gguf --host-budget 64MiB --predict\n");
  command->callback([&action, options] { action = [options] { return bench(*options); }; });
}

}  // namespace outrigger::tool
