// StepGraphs: the graphs of all kinds of steps of a plan.
#ifndef OUTRIGGER_SRC_MODEL_STEP_GRAPHS_H_
#define OUTRIGGER_SRC_MODEL_STEP_GRAPHS_H_

#include <outrigger/status.h>

#include <cstdint>
#include <vector>

#include "src/model/step_graph.h"

namespace outrigger {

/// Steps differ in whether logits are wanted, and, where experts are read as they are needed, in how many waves of them there are, which
/// grows with the tokens.
class StepGraphs {
 public:
  struct Bucket {
    uint32_t most_tokens = 0;
    uint32_t expert_waves = 1;
    TaskGraph without_logits, with_logits;

    const TaskGraph& graph(bool wants_logits) const { return wants_logits ? with_logits : without_logits; }
  };

  /// For steps of up to `step_tokens`. Errors: kInternal only.
  static Result<StepGraphs> build(const ModelLayout& layout, const TensorResidency& residency, uint32_t step_tokens, uint32_t kv_spilled_layers = 0);

  /// Precondition: 1 to step_tokens.
  const Bucket& bucket(size_t tokens) const;
  const std::vector<Bucket>& buckets() const { return buckets_; }

 private:
  std::vector<Bucket> buckets_;  ///< ascending
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_STEP_GRAPHS_H_
