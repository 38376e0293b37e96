// StepGraphs: a pair of graphs for each number of waves.
#include "src/model/step_graphs.h"

#include <algorithm>

#include "src/base/macros.h"
#include "src/model/step_buffers.h"

namespace outrigger {

Result<StepGraphs> StepGraphs::build(const ModelLayout& layout, const TensorResidency& residency, uint32_t step_tokens,
                                      uint32_t kv_spilled_layers) {
  StepGraphs graphs;
  const ExpertPool* const pool = residency.experts();
  for (const uint32_t tokens : kStepTokens) {
    if (tokens > step_tokens) break;
    const uint32_t needed = static_cast<uint32_t>(std::min<uint64_t>(layout.config.experts, uint64_t{tokens} * layout.config.used_experts));
    const uint32_t waves = pool == nullptr ? 1 : pool->waves(needed);
    if (!graphs.buckets_.empty() && graphs.buckets_.back().expert_waves == waves) {
      graphs.buckets_.back().most_tokens = tokens;
      continue;
    }
    Bucket bucket{tokens, waves, {}, {}};
    OTR_ASSIGN(bucket.without_logits, build_step_graph(layout, residency, {false, waves, kv_spilled_layers}));
    OTR_ASSIGN(bucket.with_logits, build_step_graph(layout, residency, {true, waves, kv_spilled_layers}));
    graphs.buckets_.push_back(std::move(bucket));
  }
  return graphs;
}

const StepGraphs::Bucket& StepGraphs::bucket(size_t tokens) const {
  return *std::find_if(buckets_.begin(), buckets_.end(), [tokens](const Bucket& bucket) { return tokens <= bucket.most_tokens; });
}

}  // namespace outrigger
