// Places a model in memory as its plan says, and runs its steps.
#include <outrigger/engine.h>

#include <fmt/format.h>

#include <cmath>
#include <new>
#include <vector>

#include "src/base/bytes.h"
#include "src/base/macros.h"
#include "src/decode/engine_impl.h"
#include "src/tensor/dequantize.h"

namespace outrigger {
namespace {

Status load_fixed(const GgufFile& file, const ModelLayout& layout, float* fixed) {
  std::vector<std::byte> raw;
  for (const FixedTensor& tensor : layout.fixed) {
    raw.resize(tensor.file_bytes);
    OTR_TRY(file.source().read(tensor.file_offset, raw));
    OTR_TRY(dequantize(tensor.type, raw.data(), fixed + tensor.offset, tensor.elements));
  }
  return {};
}

// Frequencies are divided by them once, here: what is not a number would turn every token's queries and keys into none.
Status check_rope_factors(const GgufFile& file, const ModelLayout& layout, const float* fixed) {
  if (layout.rope_factors == kNoTensor) return {};
  for (uint32_t i = 0; i < layout.config.rope_dim / 2; ++i) {
    const float factor = fixed[layout.rope_factors + i];
    if (factor > 0 && std::isfinite(factor)) continue;
    return Status(StatusCode::kCorruptFile, fmt::format("rope_freqs.weight: factor {} is {}, need a positive, finite number", i, factor))
        .in_file(file.source().name()).about("rope_freqs.weight");
  }
  return {};
}

Status build(Engine::Impl& engine, const EngineOptions& options) {
  const ModelLayout& layout = engine.layout();
  OTR_ASSIGN(engine.backend, open_backend(options.device));
  if (!engine.backend->inventory().host_addressable) {
    return Status(StatusCode::kUnsupported, fmt::format("device \"{}\": this version runs no steps on a device of its own; use \"cpu\"", options.device));
  }
  OTR_ASSIGN(engine.team, ThreadTeam::create(engine.plan.threads));
  OTR_ASSIGN(engine.executor, GraphExecutor::create());
  const GgufFile& file = engine.model.impl()->file;
  OTR_ASSIGN(engine.residency, TensorResidency::create(*engine.backend, file.shared_source(), layout.shape, layout.weights, engine.plan));
  engine.trace_events = options.trace_events;
  engine.spill_directory = options.spill_directory;
  return engine.prepare_steps(options.progress, options.cancel);
}

// Whether the sessions that are open can go on under the plan.
Status check_caches(const Engine::Impl& engine, const Plan& plan) {
  const uint64_t taken = engine.residency->report().current.kv_cache, planned = plan.host.breakdown.kv_cache;
  if (plan.kv_type != engine.plan.kv_type) {
    return Status(StatusCode::kInvalidArgument, fmt::format("replan: keys and values are {}, the new plan's {}; plan with the same kv_type", kv_type_name(engine.plan.kv_type), kv_type_name(plan.kv_type)));
  }
  const bool same_layers = engine.kv_spill ? engine.kv_spill->suits(plan) : plan.kv_spilled_layers == 0;
  const bool has_sessions = engine.kv_spill ? engine.kv_spill->has_parts() : taken > 0;
  if (!has_sessions) return {};
  if (!same_layers) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("replan: open sessions keep {} layers' keys and values on disk in slots of {}, the new plan {} in slots of {}; plan with "
                              "the same number of them (kv_spilled_layers), batch and context, or close sessions",
                              engine.plan.kv_spilled_layers, format_bytes(engine.plan.kv_slot_bytes), plan.kv_spilled_layers, format_bytes(plan.kv_slot_bytes)));
  }
  if (taken <= planned) return {};
  return Status(StatusCode::kInvalidArgument, fmt::format("replan: open sessions hold {} of keys and values, the new plan has {} for them; plan for as large a batch and context, or close sessions",
                                                          format_bytes(taken), format_bytes(planned)));
}

}  // namespace

Result<Engine> Engine::open(const Model& model, const Plan& plan, const EngineOptions& options) try {
  OTR_ASSIGN(const StepShape shape, model.step_shape());
  OTR_TRY(check_plan(plan, shape));
  auto engine = std::make_shared<Impl>(model, plan, options.numerics);
  OTR_TRY(build(*engine, options));
  return Engine(std::move(engine));
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Status Engine::replan(const Plan& plan, const Progress& progress, const CancelToken& cancel) try {
  Impl& engine = *impl_;
  const std::lock_guard lock(engine.step_mutex);
  OTR_TRY(engine.residency->check(plan));
  OTR_TRY(check_caches(engine, plan));
  std::unique_ptr<ThreadTeam> team;
  if (plan.threads != engine.plan.threads) {
    OTR_ASSIGN(team, ThreadTeam::create(plan.threads));
  }
  Plan next = plan;
  engine.runner.reset();
  engine.tracer.reset();
  engine.activations = MemoryLease();
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
  OTR_TRY(residency->load(*team, progress, cancel));
  const GgufFile& file = model.impl()->file;
  float* const fixed = reinterpret_cast<float*>(residency->fixed_memory());
  OTR_TRY(load_fixed(file, layout(), fixed));
  OTR_TRY(check_rope_factors(file, layout(), fixed));
  OTR_ASSIGN(activations, residency->reserve(MemoryUse::kActivations, plan.host.breakdown.activations));
  if (plan.kv_spilled_layers > 0 && !kv_spill) {
    OTR_ASSIGN(auto spill, KvSpill::create(*residency, plan, spill_directory));
    const std::unique_lock placing(placement_mutex);
    kv_spill = std::move(spill);
  }
  OTR_ASSIGN(graphs, StepGraphs::build(layout(), *residency, plan.step_tokens, plan.kv_spilled_layers));
  for (const StepGraphs::Bucket& bucket : graphs.buckets()) OTR_TRY(executor->reserve(bucket.with_logits));
  if (trace_events > 0) {
    OTR_ASSIGN(tracer, Tracer::create(trace_events));
  }
  const StepBuffers buffers = StepBuffers::place(activations.data(), layout().config, layout().panels, plan.step_tokens, plan.threads);
  runner.emplace(layout(), *residency, *team, buffers, fixed, numerics);
  runner->trace_to(tracer.get());
  return {};
}

Status Engine::Impl::run_step_locked(const StepInput& input, const CancelToken& cancel) {
  if (!runner) return Status(StatusCode::kUnavailable, "no weights are in memory since a change of the plan failed; change it again");
  OTR_TRY(residency->prime());
  const StepGraphs::Bucket& bucket = graphs.bucket(input.tokens.size());
  const TaskGraph& graph = bucket.graph(!input.logit_tokens.empty());
  runner->begin(input, bucket.expert_waves);
  if (tracer) tracer->begin_step(graph, static_cast<uint32_t>(input.tokens.size()), static_cast<uint32_t>(input.logit_tokens.size()));
  Status status = executor->run(graph, *runner, cancel);
  if (tracer) tracer->end_step(status.is_ok());
  if (!status.is_ok()) residency->invalidate();
  return status;
}

const Model& Engine::model() const { return impl_->model; }
const Plan& Engine::plan() const { return impl_->plan; }

MemoryReport Engine::memory() const {
  MemoryReport report;
  report.host = impl_->residency->report();
  return report;
}

ExpertReport Engine::experts() const {
  const std::shared_lock lock(impl_->placement_mutex);
  const ExpertPool* const pool = impl_->residency->experts();
  return pool == nullptr ? ExpertReport() : pool->report();
}

StreamReport Engine::streamed() const {
  const std::shared_lock lock(impl_->placement_mutex);
  StreamReport report{impl_->residency->streamed_bytes(), 0, 0, impl_->past_kv_read_bytes, impl_->past_kv_written_bytes};
  if (const KvSpill* const spill = impl_->kv_spill.get()) {
    report.kv_read_bytes += spill->bytes_read();
    report.kv_written_bytes += spill->bytes_written();
  }
  return report;
}

}  // namespace outrigger
