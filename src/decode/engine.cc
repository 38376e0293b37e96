// Places a model in memory as its plan says, and runs its steps.
#include <outrigger/engine.h>

#include <new>
#include <utility>
#include <vector>

#include "src/base/logging.h"
#include "src/base/macros.h"
#include "src/decode/engine_impl.h"
#include "src/model/fixed_tensors.h"

namespace outrigger {
namespace {

Status build(Engine::Impl& engine, const EngineOptions& options) {
  const ModelLayout& layout = engine.layout();
  Backend* const device = engine.backend->inventory().host_addressable ? nullptr : engine.backend.get();
  OTR_ASSIGN(engine.team, ThreadTeam::create(engine.plan.threads));
  OTR_ASSIGN(engine.executor, GraphExecutor::create());
  const GgufFile& file = engine.model.impl()->file;
  OTR_ASSIGN(engine.residency, TensorResidency::create(*engine.backend, file.shared_source(), layout.shape, layout.weights, engine.plan,
                                                       device, engine.streams));
  OTR_TRY(engine.check_scratch(engine.plan));
  engine.trace_events = options.trace_events;
  engine.corrects_in_turn = options.corrects_in_turn;
  engine.spill_directory = options.spill_directory;
  return engine.prepare_steps(options.progress, options.cancel);
}

}  // namespace

Result<Engine> Engine::open(const Model& model, const Plan& plan, const EngineOptions& options) try {
  OTR_ASSIGN(std::unique_ptr<Backend> backend, open_backend(options.device));
  return open_engine_on(std::move(backend), model, plan, options);
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Result<Engine> open_engine_on(std::shared_ptr<Backend> backend, const Model& model, const Plan& plan, const EngineOptions& options,
                              const StreamSet& streams) try {
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

// A plan can only have been told how much the device's attention needs.
Status Engine::Impl::check_scratch(const Plan& next) const {
  return next.device.own_bytes() == 0 ? Status() : DeviceRunner::check_scratch(*backend, layout().config, next.device_threads);
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
  for (const StepGraphs::Bucket& bucket : graphs.buckets()) {
    OTR_TRY(executor->reserve(bucket.graph(true, true)));
    if (bucket.options.by_words) OTR_TRY(executor->reserve(bucket.graph(true, true, /*words=*/true)));
  }
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
  if (device_runner) runner->run_device_with(&*device_runner, handoff ? &*handoff : nullptr);
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
  const StepBuffers there = StepBuffers::place(device_activations.data(), layout().config, layout().panels, plan.step_tokens,
                                               plan.device_threads, plan.corrections_beside ? layout().shape.correction_row_bytes : 0);
  OTR_TRY(prepare_handoff());
  device_runner.emplace(layout(), device, *residency, SideBuffers{host, there}, reinterpret_cast<const float*>(device.fixed_memory()),
                        numerics, handoff ? &*handoff : nullptr);
  return {};
}

// A device that cannot, though the plan's could, is handed over to by copies.
Status Engine::Impl::prepare_handoff() {
  if (plan.handoff_bytes == 0) return {};
  OTR_ASSIGN(handoff_memory, residency->reserve(MemoryUse::kOther, plan.handoff_bytes));
  if (backend->supports(DeviceOpKind::kReceive, PackedKind{})) handoff.emplace(handoff_memory.data(), handoff_size(layout().shape));
  return {};
}

Status Engine::Impl::run_step_locked(const StepInput& input, const CancelToken& cancel) {
  if (!runner) return Status(StatusCode::kUnavailable, "no weights are in memory since a change of the plan failed; change it again");
  if (input.by_stand_ins) return run_draft_step(input, cancel);
  OTR_TRY(residency->prime());
  const StepGraphs::Bucket& bucket = graphs.bucket(input.tokens.size());
  if (bucket.options.streams_to_device) OTR_TRY(residency->device()->prime(*residency));
  const bool by_words = handoff && bucket.options.by_words && failed_handoffs < kMostFailedHandoffs;
  Status status = run_graph(bucket, input, by_words, cancel);
  if (!by_words || !handoff->has_timed_out() || !(status.is_ok() || status.code() == StatusCode::kDevice)) return status;
  // The host was kept from answering, or a driver holds back what it writes. Who gave up went on, so that the step may seem complete;
  // nothing of it counts, and nothing else is wrong.
  ++failed_handoffs;
  log_message(LogLevel::kWarning, "device: the host's part of a window did not reach it within a second; the step is done again by copies");
  OTR_TRY(residency->prime());
  return run_graph(bucket, input, false, cancel);
}

Status Engine::Impl::run_graph(const StepGraphs::Bucket& bucket, const StepInput& input, bool by_words, const CancelToken& cancel) {
  const TaskGraph& graph = bucket.graph(!input.logit_tokens.empty(), input.branch_share > 0, by_words);
  const int64_t begin_ns = drafts_on ? Tracer::now_ns() : 0;
  if (tracer) tracer->begin_step(graph, static_cast<uint32_t>(input.tokens.size()), static_cast<uint32_t>(input.logit_tokens.size()));
  StepInput placed = input;
  placed.placements = plan.tensors;
  if (by_words) handoff->begin();
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
  if (tracer)
    tracer->begin_step(graphs.draft(), static_cast<uint32_t>(input.tokens.size()), static_cast<uint32_t>(input.logit_tokens.size()));
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

DeviceReport Engine::device() const {
  if (impl_->backend->inventory().host_addressable) return {};
  const DeviceWorkCounts work = impl_->backend->work();
  return {work.operations, work.launches, work.graphs, work.graph_operations, work.handoffs};
}

StreamReport Engine::streamed() const {
  const std::shared_lock lock(impl_->placement_mutex);
  StreamReport report{impl_->residency->streamed_bytes() - impl_->copied_bytes, 0, 0, impl_->past_kv_read_bytes,
                      impl_->past_kv_written_bytes};
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
