// How near a compressed model comes: two engines, side by side.
#include "src/tool/compress_quality.h"

#include <outrigger/session.h>

#include <algorithm>

#include "src/tool/eval_text.h"
#include "src/tool/loading.h"

namespace outrigger::tool {
namespace {

Result<Session> open_for(const Model& model, const CommonOptions& options, uint32_t chunk_tokens) {
  Workload workload;
  workload.prompt_tokens = chunk_tokens;
  workload.new_tokens = 0;
  workload.context_tokens = chunk_tokens;
  workload.logit_rows = std::min(kEvaluationRows, chunk_tokens);
  const auto engine = load_engine(model, options, workload);
  return engine.is_ok() ? Session::open(engine.value()) : engine.status();
}

CompressQuality::Figure figure_of(const Estimate& estimate) { return {estimate.value, estimate.error}; }

bool has_corrections(const StepShape& shape) {
  return shape.residual_bytes > 0 ||
         std::any_of(shape.matrices.begin(), shape.matrices.end(), [](const MatrixShape& matrix) { return matrix.is_branch; });
}

}  // namespace

Result<CompressQuality> measure_quality(const Model& model, const std::string& file, const CommonOptions& options,
                                        const std::vector<Token>& chunks, uint32_t chunk_tokens) {
  // Two engines share what one budget is for.
  CommonOptions half = options;
  if (options.host_budget) half.host_budget = ByteSize{host_budget_bytes(options) / 2, 0};
  CommonOptions exact = half;
  exact.numerics = Numerics::kFloat32;
  auto reference = open_for(model, exact, chunk_tokens);
  if (!reference.is_ok()) return reference.status();
  auto made = open_runnable(file, half);
  if (!made.is_ok()) return made.status();
  auto session = open_for(made.value(), half, chunk_tokens);
  if (!session.is_ok()) return session.status();
  const auto shape = made->step_shape();
  if (!shape.is_ok()) return shape.status();
  auto tokenizer = model.tokenizer();
  if (!tokenizer.is_ok()) return tokenizer.status();
  TextChunks text{chunks, chunk_tokens, chunks.size() / chunk_tokens};
  if (tokenizer->adds_bos()) text.bos = tokenizer->bos();
  TextEvaluation evaluation(session.value(), &reference.value(), nullptr, options.progress);
  CompressQuality quality;
  std::vector<double> with;
  if (has_corrections(shape.value())) {
    auto figures = evaluation.run(text);
    if (!figures.is_ok()) return figures.status();
    quality.compensated = figure_of(figures->kl.estimate());
    with = figures->kl.group_means();
    if (Status status = session->set_branch_share(0); !status.is_ok()) return status;
  }
  auto figures = evaluation.run(text);
  if (!figures.is_ok()) return figures.status();
  quality.backbone = figure_of(figures->kl.estimate());
  if (quality.compensated) quality.recovered = figure_of(recovered_share(with, figures->kl.group_means()));
  return quality;
}

}  // namespace outrigger::tool
