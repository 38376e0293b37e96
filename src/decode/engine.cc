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
  if (!engine.backend->inventory().host_addressable) {
    return Status(StatusCode::kUnsupported, fmt::format("device \"{}\": this version runs no steps on a device of its own; use \"cpu\"", options.device));
  }
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
  OTR_ASSIGN(engine.step_with_logits, build_step_graph(layout, *engine.residency, true));
  OTR_ASSIGN(engine.step_without_logits, build_step_graph(layout, *engine.residency, false));
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
  runner->begin(input);
  const TaskGraph& graph = input.logit_tokens.empty() ? step_without_logits : step_with_logits;
  Status status = executor->run(graph, *runner, cancel);
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

StreamReport Engine::streamed() const { return {impl_->residency->streamed_bytes(), 0, 0}; }

}  // namespace outrigger
