// StepGraphs: a pair of graphs for each kind of step.
#include "src/model/step_graphs.h"

#include <algorithm>
#include <iterator>

#include "src/base/macros.h"
#include "src/model/step_buffers.h"
#include "src/plan/handoff_size.h"

namespace outrigger {

Result<StepGraphs> StepGraphs::build(const ModelLayout& layout, const Plan& plan, const TensorResidency& residency, bool corrects_in_turn) {
  StepGraphs graphs;
  const ExpertPool* const pool = residency.experts();
  std::vector<uint32_t> sizes(std::begin(kStepTokens), std::end(kStepTokens));
  if (plan.device_from_tokens > 1) sizes.push_back(plan.device_from_tokens - 1);  // the largest step that does not stream to the device
  std::sort(sizes.begin(), sizes.end());
  for (const uint32_t tokens : sizes) {
    if (tokens > plan.step_tokens) break;
    const uint32_t needed = static_cast<uint32_t>(std::min<uint64_t>(layout.config.experts, uint64_t{tokens} * layout.config.used_experts));
    StepGraphOptions options{false, pool == nullptr ? 1 : pool->waves(needed),
                             plan.device_from_tokens > 0 && tokens >= plan.device_from_tokens};
    options.by_words = hand_words(plan, tokens) && !corrects_in_turn;
    if (!graphs.buckets_.empty() && graphs.buckets_.back().is_for(options)) {
      graphs.buckets_.back().most_tokens = tokens;
      continue;
    }
    Bucket bucket{tokens, options, {}, {}};
    StepGraphOptions each = options;
    each.corrects_in_turn = corrects_in_turn;
    for (const bool by_words : {false, true}) {
      if (by_words && !options.by_words) continue;
      Bucket::Graphs& graphs_of = by_words ? bucket.by_words : bucket.by_copies;
      each.by_words = by_words;
      for (const bool is_corrected : {true, false}) {
        if (!is_corrected && !plan.corrections_beside) continue;
        each.is_corrected = is_corrected;
        for (const bool with_logits : {false, true}) {
          each.with_logits = with_logits;
          OTR_ASSIGN((is_corrected ? graphs_of.corrected : graphs_of.bare)[with_logits ? 1 : 0],
                     build_step_graph(layout, plan, residency, each));
        }
      }
    }
    graphs.buckets_.push_back(std::move(bucket));
  }
  if (plan.self_draft_bits > 0) {
    StepGraphOptions options;
    options.by_stand_ins = true;
    OTR_ASSIGN(graphs.draft_, build_step_graph(layout, plan, residency, options));
  }
  return graphs;
}

bool StepGraphs::hand_words(const Plan& plan, uint32_t tokens) {
  const bool streams = plan.device_from_tokens > 0 && tokens >= plan.device_from_tokens;
  return plan.handoff_bytes > 0 && tokens <= kHandoffTokens && !streams && plan.kv_spilled_layers == 0;
}

const StepGraphs::Bucket& StepGraphs::bucket(size_t tokens) const {
  return *std::find_if(buckets_.begin(), buckets_.end(), [tokens](const Bucket& bucket) { return tokens <= bucket.most_tokens; });
}

}  // namespace outrigger
