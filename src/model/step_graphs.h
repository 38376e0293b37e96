// StepGraphs: the graphs of all kinds of steps of a plan.
#ifndef OUTRIGGER_SRC_MODEL_STEP_GRAPHS_H_
#define OUTRIGGER_SRC_MODEL_STEP_GRAPHS_H_

#include <outrigger/status.h>

#include <cstdint>
#include <vector>

#include "src/model/step_graph.h"

namespace outrigger {

/// Steps differ in whether logits are wanted, and, by their size, in how many waves of experts there are where these are read as they are needed, and
/// in whether weights stream to a device.
class StepGraphs {
 public:
  struct Bucket {
    uint32_t most_tokens = 0;
    StepGraphOptions options;
    TaskGraph without_logits, with_logits;

    const TaskGraph& graph(bool wants_logits) const { return wants_logits ? with_logits : without_logits; }
    bool is_for(const StepGraphOptions& other) const {
      return other.expert_waves == options.expert_waves && other.streams_to_device == options.streams_to_device;
    }
  };

  /// For steps of up to the plan's step_tokens. Errors: kInternal only.
  static Result<StepGraphs> build(const ModelLayout& layout, const Plan& plan, const TensorResidency& residency);

  /// Precondition: 1 to the plan's step_tokens.
  const Bucket& bucket(size_t tokens) const;
  const std::vector<Bucket>& buckets() const { return buckets_; }

 private:
  std::vector<Bucket> buckets_;  ///< ascending
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_STEP_GRAPHS_H_
