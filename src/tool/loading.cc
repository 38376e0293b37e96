// From a model's path to an engine.
#include "src/tool/loading.h"

#include <nlohmann/json.hpp>

#include "src/tool/draft_plan.h"
#include "src/tool/files.h"
#include "src/tool/interrupt.h"
#include "src/tool/profile_store.h"
#include "src/tool/repetition_store.h"

namespace outrigger::tool {
namespace {

// The last 200 tokens of a model of 30 layers, 270 nodes each: 6 MiB of memory, and a file of 10 MB that a browser opens at once.
constexpr size_t kTraceEvents = 1 << 16;

}  // namespace

Result<Model> open_model(const std::string& path, const CommonOptions& options) {
  if (Status status = check_device(options); !status.is_ok()) return status;
  ModelOptions model_options;
  model_options.disk_direct = options.disk_direct;
  return Model::open(path, model_options);
}

Result<Model> open_runnable(const std::string& path, const CommonOptions& options) {
  auto model = open_model(path, options);
  if (!model.is_ok()) return model;
  if (const auto shape = model->step_shape(); !shape.is_ok()) return shape.status();
  return model;
}

Result<MachineProfile> plan_profile(const Model& model, const CommonOptions& options, const MachineProfile* given) {
  if (given != nullptr) return *given;
  return known_profile(options, model.info().file);
}

Result<Plan> make_plan(const Model& model, const CommonOptions& options, Workload workload, const MachineProfile* given) {
  const auto shape = model.step_shape();
  if (!shape.is_ok()) return shape.status();
  if (!options.plan_file.empty()) {
    const auto text = read_file(options.plan_file);
    if (!text.is_ok()) return text.status();
    auto plan = plan_from_json(text.value());
    if (!plan.is_ok()) return plan.status().file().empty() ? plan.status().in_file(options.plan_file) : plan.status();
    if (Status status = check_plan(plan.value(), shape.value()); !status.is_ok()) return std::move(status).in_file(options.plan_file);
    if (options.spill_directory == kNoSpill && plan.value().kv_spilled_layers > 0) {
      return Status(StatusCode::kInvalidArgument,
                    "--spill-dir none: the plan keeps keys and values on disk; make another, or name a directory")
          .in_file(options.plan_file);
    }
    return plan;
  }
  // The reference rounds nothing on its way, the cache included.
  workload.kv_type = options.kv_type.value_or(options.numerics == Numerics::kFloat32 ? KvType::kF32 : KvType::kF16);
  if (options.spill_directory == kNoSpill) workload.kv_spilled_layers = 0;
  workload.corrections = options.corrections;
  workload.max_slowdown = options.max_slowdown;
  if (shape.value().used_experts > 0) workload.expert_repetition = stored_repetition(model).expected();
  Budgets budgets;
  budgets.host_bytes = host_budget_bytes(options);
  const auto profile = plan_profile(model, options, given);
  if (!profile.is_ok()) return profile.status();
  if (options.device_budget) {
    const uint64_t memory = profile.value().device_memory_bytes;
    if (memory == 0) {
      return Status(StatusCode::kInvalidArgument,
                    "--device-budget: there is no device besides the cpu; give --device, or a --profile that has one");
    }
    budgets.device_bytes = options.device_budget->share > 0
                               ? static_cast<uint64_t>(static_cast<double>(memory) * options.device_budget->share)
                               : options.device_budget->bytes;
  }
  if (!options.draft_file.empty()) return plan_with_draft(model, options, profile.value(), budgets, workload);
  return PlacementPlanner::plan(shape.value(), profile.value(), budgets, workload);
}

Result<Engine> load_engine(const Model& model, const CommonOptions& options, const Workload& workload, double* load_ms,
                           const MachineProfile* given) {
  const auto plan = make_plan(model, options, workload, given);
  if (!plan.is_ok()) return plan.status();
  const Stopwatch watch;
  if (Status status = check_trace(options, true); !status.is_ok()) return status;
  const Interruptible interruptible;
  ProgressLine progress(options.progress, "loading");
  EngineOptions engine_options;
  engine_options.device = options.device;
  engine_options.numerics = options.numerics;
  engine_options.corrects_in_turn = options.corrects_in_turn;
  engine_options.progress = progress.callback();
  engine_options.cancel = interrupt_token();
  if (options.spill_directory != kNoSpill) engine_options.spill_directory = options.spill_directory;
  if (!options.trace_file.empty() || options.keeps_lane_times) engine_options.trace_events = kTraceEvents;
  auto engine = Engine::open(model, plan.value(), engine_options);
  if (load_ms != nullptr) *load_ms = watch.ms();
  return engine;
}

Status write_trace(const Engine& engine, const CommonOptions& options) {
  return options.trace_file.empty() ? Status() : engine.write_trace(options.trace_file);
}

namespace {

Json tier_json(const TierUse& tier) {
  return {{"budget_bytes", tier.budget_bytes}, {"planned_bytes", tier.planned_bytes}, {"peak_bytes", tier.peak_bytes}};
}

}  // namespace

Json memory_json(const Engine& engine) {
  const MemoryReport memory = engine.memory();
  return {{"host", tier_json(memory.host)}, {"device", tier_json(memory.device)}};
}

Json lanes_json(const Engine& engine) {
  const LaneBusy busy = engine.lane_busy();
  return {{"steps", busy.steps},   {"wall_ms", busy.wall_ms}, {"disk_ms", busy.disk_ms},    {"host_ms", busy.host_ms},
          {"h2d_ms", busy.h2d_ms}, {"d2h_ms", busy.d2h_ms},   {"device_ms", busy.device_ms}};
}

Json streamed_json(const Engine& engine) {
  const StreamReport streamed = engine.streamed();
  return {{"disk_bytes", streamed.disk_bytes},
          {"h2d_bytes", streamed.h2d_bytes},
          {"d2h_bytes", streamed.d2h_bytes},
          {"kv_read_bytes", streamed.kv_read_bytes},
          {"kv_written_bytes", streamed.kv_written_bytes}};
}

Json device_json(const Engine& engine) {
  const DeviceReport device = engine.device();
  return {{"operations", device.operations},
          {"launches", device.launches},
          {"graphs", device.graphs},
          {"graph_operations", device.graph_operations},
          {"handoffs", device.handoffs}};
}

Json experts_json(const Engine& engine) {
  const ExpertReport experts = engine.experts();
  return {{"uses", experts.uses},
          {"hits", experts.hits},
          {"reads", experts.reads},
          {"guesses", experts.guesses},
          {"right_guesses", experts.right_guesses},
          {"token_uses", experts.token_uses},
          {"token_hits", experts.token_hits},
          {"repetition", experts.repetition}};
}

Json branches_json(const BranchUse& use) { return {{"steps", use.steps}, {"mean_share", use.mean_share}, {"slowdown", use.slowdown}}; }

Json model_json(const Model& model) {
  const ModelInfo& info = model.info();
  return {{"file", info.file}, {"architecture", info.architecture}, {"parameters", info.parameters}, {"bytes", info.bytes}};
}

}  // namespace outrigger::tool
