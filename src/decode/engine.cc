// Places a model in memory as its plan says, and runs its steps.
#include <outrigger/engine.h>

#include <new>
#include <utility>
#include <vector>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/decode/engine_impl.h"
#include "src/model/fixed_tensors.h"
#include "src/model/on_device.h"

namespace outrigger {
namespace {

// A plan can only have been told how much the device's attention needs.
Status check_scratch(const Engine::Impl& engine, const Plan& plan) {
  return plan.device.own_bytes() == 0 ? Status() : DeviceRunner::check_scratch(*engine.backend, engine.layout().config, plan.device_threads);
}

Status build(Engine::Impl& engine, const EngineOptions& options) {
  const ModelLayout& layout = engine.layout();
  Backend* const device = engine.backend->inventory().host_addressable ? nullptr : engine.backend.get();
  OTR_ASSIGN(engine.team, ThreadTeam::create(engine.plan.threads));
  OTR_ASSIGN(engine.executor, GraphExecutor::create());
  const GgufFile& file = engine.model.impl()->file;
  OTR_ASSIGN(engine.residency, TensorResidency::create(*engine.backend, file.shared_source(), layout.shape, layout.weights, engine.plan, device, engine.streams));
  OTR_TRY(check_scratch(engine, engine.plan));
  engine.trace_events = options.trace_events;
  engine.corrects_in_turn = options.corrects_in_turn;
  engine.spill_directory = options.spill_directory;
  return engine.prepare_steps(options.progress, options.cancel);
}

Status check_cache_room(const char* side, uint64_t taken, uint64_t planned) {
  if (taken <= planned) return {};
  return Status(StatusCode::kInvalidArgument, formatted("replan: open sessions hold {} of keys and values on the {}, the new plan has {} for them; plan for as large a batch and context, or close sessions",
                                                        format_bytes(taken), side, format_bytes(planned)));
}

Status check_draft_bytes(const char* side, uint64_t taken, uint64_t planned) {
  if (taken <= planned) return {};
  return Status(StatusCode::kInvalidArgument, formatted("replan: open sessions hold a draft model of {} on the {}, the new plan has {} for it; plan with as many draft bytes, or close sessions",
                                                        format_bytes(taken), side, format_bytes(planned)));
}

// Whether the sessions that are open can go on under the plan.
Status check_caches(const Engine::Impl& engine, const Plan& plan) {
  if (plan.kv_type != engine.plan.kv_type) {
    return Status(StatusCode::kInvalidArgument, formatted("replan: keys and values are {}, the new plan's {}; plan with the same kv_type", kv_type_name(engine.plan.kv_type), kv_type_name(plan.kv_type)));
  }
  const TensorResidency& residency = *engine.residency;
  // Copies are the engine's and made anew: sessions hold draft models alone.
  const uint64_t of_copies = engine.stand_ins ? engine.plan.host.breakdown.draft : 0;
  OTR_TRY(check_draft_bytes("host", residency.report().current.draft - of_copies, plan.self_draft_bits > 0 ? 0 : plan.host.breakdown.draft));
  if (residency.device() != nullptr) OTR_TRY(check_draft_bytes("device", residency.device()->report().current.draft, plan.device.breakdown.draft));
  const uint64_t taken = residency.report().current.kv_cache, taken_there = residency.device() == nullptr ? 0 : residency.device()->report().current.kv_cache;
  const bool same_layers = engine.kv_spill ? engine.kv_spill->suits(plan) : plan.kv_spilled_layers == 0;
  const bool has_sessions = (engine.kv_spill ? engine.kv_spill->has_parts() : taken > 0) || taken_there > 0;
  if (!has_sessions) return {};
  if (!same_layers) {
    return Status(StatusCode::kInvalidArgument,
                  formatted("replan: open sessions keep {} layers' keys and values on disk in slots of {}, the new plan {} in slots of {}; plan with "
                            "the same number of them (kv_spilled_layers), batch and context, or close sessions",
                            engine.plan.kv_spilled_layers, format_bytes(engine.plan.kv_slot_bytes), plan.kv_spilled_layers, format_bytes(plan.kv_slot_bytes)));
  }
  OTR_TRY(check_cache_room("host", taken, plan.host.breakdown.kv_cache));
  OTR_TRY(check_cache_room("device", taken_there, plan.device.breakdown.kv_cache));
  if (attention_on_device(engine.layout(), plan) == attention_on_device(engine.layout(), engine.plan)) return {};
  return Status(StatusCode::kInvalidArgument, "replan: open sessions hold keys and values of other layers on the device than the new plan; plan with the same budget for the device, or close sessions");
}

}  // namespace

Result<Engine> Engine::open(const Model& model, const Plan& plan, const EngineOptions& options) try {
  OTR_ASSIGN(std::unique_ptr<Backend> backend, open_backend(options.device));
  return open_engine_on(std::move(backend), model, plan, options);
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Result<Engine> open_engine_on(std::shared_ptr<Backend> backend, const Model& model, const Plan& plan, const EngineOptions& options, const StreamSet& streams) try {
  OTR_ASSIGN(const StepShape shape, model.step_shape());
  OTR_TRY(check_plan(plan, shape));
  auto engine = std::make_shared<Engine::Impl>(model, plan, options.numerics);
  engine->backend = std::move(backend);
  engine->streams = streams;
  OTR_TRY(build(*engine, options));
  return Engine(std::move(engine));
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Status Engine::replan(const Plan& plan, const Progress& progress, const CancelToken& cancel) try {
  Impl& engine = *impl_;
  const std::lock_guard lock(engine.step_mutex);
  OTR_TRY(engine.residency->check(plan));
  OTR_TRY(check_scratch(engine, plan));
  OTR_TRY(check_caches(engine, plan));
  std::unique_ptr<ThreadTeam> team;
  if (plan.threads != engine.plan.threads) {
    OTR_ASSIGN(team, ThreadTeam::create(plan.threads));
  }
  Plan next = plan;
  engine.runner.reset();
  engine.draft_runner.reset();
  engine.device_runner.reset();
  engine.tracer.reset();
  engine.activations = MemoryLease();
  engine.residuals = MemoryLease();
  engine.device_activations = MemoryLease();
  engine.stand_ins.reset();
  if (team) engine.team = std::move(team);
  {
    const std::unique_lock placing(engine.placement_mutex);
    engine.drop_unsuitable_spill(next);
    engine.plan = std::move(next);
    OTR_TRY(engine.residency->place(engine.plan));
  }
  return engine.prepare_steps(progress, cancel);
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

// Without sessions only, as check_caches() saw to.
void Engine::Impl::drop_unsuitable_spill(const Plan& next) noexcept {
  if (!kv_spill || kv_spill->suits(next)) return;
  past_kv_read_bytes += kv_spill->bytes_read();
  past_kv_written_bytes += kv_spill->bytes_written();
  kv_spill.reset();
}

Status Engine::Impl::prepare_steps(const Progress& progress, const CancelToken& cancel) {
  OTR_TRY(load(progress, cancel));
  const GgufFile& file = model.impl()->file;
  float* const fixed = reinterpret_cast<float*>(residency->fixed_memory());
  OTR_TRY(load_fixed_tensors(file, layout(), fixed));
  OTR_TRY(load_residuals());
  OTR_ASSIGN(activations, residency->reserve(MemoryUse::kActivations, plan.host.breakdown.activations));
  if (plan.kv_spilled_layers > 0 && !kv_spill) {
    OTR_ASSIGN(auto spill, KvSpill::create(*residency, plan, spill_directory));
    const std::unique_lock placing(placement_mutex);
    kv_spill = std::move(spill);
  }
  OTR_ASSIGN(graphs, StepGraphs::build(layout(), plan, *residency, corrects_in_turn));
  for (const StepGraphs::Bucket& bucket : graphs.buckets()) OTR_TRY(executor->reserve(bucket.graph(true, true)));
  if (stand_ins) OTR_TRY(executor->reserve(graphs.draft()));
  if (trace_events > 0) {
    OTR_ASSIGN(tracer, Tracer::create(trace_events, plan.device.own_bytes() > 0 ? kLanes : static_cast<size_t>(Lane::kDisk) + 1));
    if (!draft_track) draft_track = std::make_shared<DraftTrack>(trace_events);  // open drafts go on with the one that they know
  }
  const StepBuffers buffers = StepBuffers::place(activations.data(), layout().config, layout().panels, plan.step_tokens, plan.threads);
  if (plan.device.own_bytes() > 0) OTR_TRY(prepare_device(buffers));
  if (stand_ins) {
    draft_runner.emplace(stand_ins->layout(), *residency, *team, stand_ins->buffers(), fixed, numerics, stand_ins.get());
    draft_runner->trace_to(tracer.get());
  }
  // Last: a runner says that everything a step needs is there.
  runner.emplace(layout(), *residency, *team, buffers, fixed, numerics);
  if (device_runner) runner->run_device_with(&*device_runner);
  runner->read_residuals_from(residuals.data());
  runner->trace_to(tracer.get());
  return {};
}

// What is resident, then the copies of what is not: so much of the way each as it reads of the file.
Status Engine::Impl::load(const Progress& progress, const CancelToken& cancel) {
  if (plan.self_draft_bits == 0) return residency->load(*team, progress, cancel);
  uint64_t resident = 0, streamed = 0;
  for (const TensorPlacement& tensor : plan.tensors) (tensor.mode == Residence::kResident ? resident : streamed) += tensor.file_bytes;
  const double first = static_cast<double>(resident) / static_cast<double>(resident + streamed);
  const auto part = [&progress](double begin, double end) -> Progress {
    if (!progress) return {};
    return [&progress, begin, end](double share) { return progress(begin + (end - begin) * share); };
  };
  OTR_TRY(residency->load(*team, part(0, first), cancel));
  OTR_ASSIGN(stand_ins, StandInWeights::make(layout(), plan, *residency, *team, part(first, 1), cancel));
  const std::unique_lock placing(placement_mutex);
  copied_bytes += stand_ins->read_bytes();
  return {};
}

Status Engine::Impl::load_residuals() {
  if (layout().shape.residual_bytes == 0) return {};
  OTR_ASSIGN(residuals, residency->reserve(MemoryUse::kBranches, plan.host.breakdown.branches));
  const ByteSource& source = model.impl()->file.source();
  for (const ResidualLayout& residual : layout().residuals) {
    if (residual.file_bytes > 0) OTR_TRY(source.read(residual.file_offset, {residuals.data() + residual.offset, residual.file_bytes}));
  }
  return {};
}

// What the device needs besides weights: the fixed tensors, activations, and who gives it its work.
Status Engine::Impl::prepare_device(const StepBuffers& host) {
  DeviceResidency& device = *residency->device();
  if (layout().shape.fixed_bytes > 0) OTR_TRY(device.upload(device.fixed_memory(), residency->fixed_memory(), layout().shape.fixed_bytes));
  OTR_ASSIGN(device_activations, device.reserve(MemoryUse::kActivations, plan.device.breakdown.activations));
  const StepBuffers there = StepBuffers::place(device_activations.data(), layout().config, layout().panels, plan.step_tokens, plan.device_threads,
                                               plan.corrections_beside ? layout().shape.correction_row_bytes : 0);
  device_runner.emplace(layout(), device, *residency, SideBuffers{host, there}, reinterpret_cast<const float*>(device.fixed_memory()), numerics);
  return {};
}

Status Engine::Impl::run_step_locked(const StepInput& input, const CancelToken& cancel) {
  if (!runner) return Status(StatusCode::kUnavailable, "no weights are in memory since a change of the plan failed; change it again");
  if (input.by_stand_ins) return run_draft_step(input, cancel);
  OTR_TRY(residency->prime());
  const StepGraphs::Bucket& bucket = graphs.bucket(input.tokens.size());
  const TaskGraph& graph = bucket.graph(!input.logit_tokens.empty(), input.branch_share > 0);
  if (bucket.options.streams_to_device) OTR_TRY(residency->device()->prime(*residency));
  const int64_t begin_ns = drafts_on ? Tracer::now_ns() : 0;
  if (tracer) tracer->begin_step(graph, static_cast<uint32_t>(input.tokens.size()), static_cast<uint32_t>(input.logit_tokens.size()));
  StepInput placed = input;
  placed.placements = plan.tensors;
  runner->begin(placed, bucket.options.expert_waves, cancel);
  Status status = executor->run(graph, *runner, cancel);
  if (tracer) tracer->end_step(status.is_ok());
  if (drafts_on) {
    drafts_on->record({begin_ns, Tracer::now_ns(), static_cast<uint32_t>(input.tokens.size()), static_cast<uint32_t>(input.slices.size())});
  }
  if (!status.is_ok()) residency->invalidate();
  return status;
}

// Beside the ring, which goes on to fill itself for the step that verifies.
Status Engine::Impl::run_draft_step(const StepInput& input, const CancelToken& cancel) {
  if (!draft_runner) return Status(StatusCode::kUnavailable, "the plan has no copies to draft with any more");
  if (tracer) tracer->begin_step(graphs.draft(), static_cast<uint32_t>(input.tokens.size()), static_cast<uint32_t>(input.logit_tokens.size()));
  draft_runner->begin(input, 1, cancel);
  const Status status = executor->run(graphs.draft(), *draft_runner, cancel);
  if (tracer) tracer->end_step(status.is_ok());
  return status;
}

const Model& Engine::model() const { return impl_->model; }
const Plan& Engine::plan() const { return impl_->plan; }

MemoryReport Engine::memory() const {
  MemoryReport report;
  report.host = impl_->residency->report();
  if (const DeviceResidency* device = std::as_const(*impl_->residency).device()) report.device = device->report();
  return report;
}

ExpertReport Engine::experts() const {
  const std::shared_lock lock(impl_->placement_mutex);
  const ExpertPool* const pool = impl_->residency->experts();
  return pool == nullptr ? ExpertReport() : pool->report();
}

StreamReport Engine::streamed() const {
  const std::shared_lock lock(impl_->placement_mutex);
  StreamReport report{impl_->residency->streamed_bytes() - impl_->copied_bytes, 0, 0, impl_->past_kv_read_bytes, impl_->past_kv_written_bytes};
  if (const DeviceResidency* device = std::as_const(*impl_->residency).device()) {
    report.h2d_bytes = device->copied_in_bytes();
    report.d2h_bytes = device->copied_out_bytes();
  }
  if (const KvSpill* const spill = impl_->kv_spill.get()) {
    report.kv_read_bytes += spill->bytes_read();
    report.kv_written_bytes += spill->bytes_written();
  }
  return report;
}

}  // namespace outrigger
