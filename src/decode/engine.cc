// Places a model in memory as its plan says, and runs its steps.
#include <outrigger/engine.h>

#include <fmt/format.h>

#include <cmath>
#include <new>
#include <vector>

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
  const Plan& plan = engine.plan;
  OTR_ASSIGN(engine.backend, open_backend(options.device));
  OTR_ASSIGN(engine.team, ThreadTeam::create(plan.threads));
  const GgufFile& file = engine.model.impl()->file;
  OTR_ASSIGN(engine.residency, TensorResidency::create(*engine.backend, file.shared_source(), layout.shape, layout.weights, plan));
  OTR_TRY(engine.residency->load(*engine.team, options.progress, options.cancel));
  float* const fixed = reinterpret_cast<float*>(engine.residency->fixed_memory());
  OTR_TRY(load_fixed(file, layout, fixed));
  OTR_TRY(check_rope_factors(file, layout, fixed));

  OTR_ASSIGN(engine.activations, engine.residency->reserve(MemoryUse::kActivations, plan.host.breakdown.activations));
  const StepBuffers buffers = StepBuffers::place(engine.activations.data(), layout.config, layout.panels, plan.step_tokens, plan.threads);
  engine.runner.emplace(layout, *engine.residency, *engine.team, buffers, fixed, engine.numerics);
  OTR_ASSIGN(engine.executor, GraphExecutor::create());
  OTR_ASSIGN(engine.graphs, StepGraphs::build(layout, *engine.residency, plan.step_tokens));
  for (const StepGraphs::Bucket& bucket : engine.graphs.buckets()) OTR_TRY(engine.executor->reserve(bucket.with_logits));
  if (options.trace_events > 0) {
    OTR_ASSIGN(engine.tracer, Tracer::create(options.trace_events));
    engine.runner->trace_to(engine.tracer.get());
  }
  return {};
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

Status Engine::Impl::run_step_locked(const StepInput& input, const CancelToken& cancel) {
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
  const ExpertPool* const pool = impl_->residency->experts();
  return pool == nullptr ? ExpertReport() : pool->report();
}

StreamReport Engine::streamed() const { return {impl_->residency->streamed_bytes(), 0, 0}; }

}  // namespace outrigger
