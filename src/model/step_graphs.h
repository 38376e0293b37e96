// StepGraphs: the graphs of all kinds of steps of a plan.
#ifndef OUTRIGGER_SRC_MODEL_STEP_GRAPHS_H_
#define OUTRIGGER_SRC_MODEL_STEP_GRAPHS_H_

#include <outrigger/status.h>

#include <array>
#include <cstdint>
#include <vector>

#include "src/model/step_graph.h"

namespace outrigger {

/// Steps differ in whether logits are wanted, and, by their size, in how many waves of experts there are where these are read as they are
/// needed, and in whether weights stream to a device; where the host corrects what a device computes also in whether it does. Those of few
/// tokens that hand over by words can do so by copies as well. A draft's, by copies of what streams, are of one token whose logits are
/// wanted.
class StepGraphs {
 public:
  struct Bucket {
    uint32_t most_tokens = 0;
    StepGraphOptions options;
    /// Without and with logits; `bare` only where Plan::corrections_beside.
    struct Graphs {
      std::array<TaskGraph, 2> corrected, bare;
    };
    Graphs by_copies, by_words;  ///< by_words only with options.by_words

    /// `is_corrected`: with StepGraphOptions::is_corrected, where that makes a difference. Precondition of `words`: options.by_words.
    const TaskGraph& graph(bool wants_logits, bool is_corrected, bool words = false) const {
      const Graphs& graphs = words ? by_words : by_copies;
      return (is_corrected || graphs.bare[0].nodes().empty() ? graphs.corrected : graphs.bare)[wants_logits ? 1 : 0];
    }
    bool is_for(const StepGraphOptions& other) const {
      return other.expert_waves == options.expert_waves && other.streams_to_device == options.streams_to_device &&
             other.by_words == options.by_words;
    }
  };

  /// For steps of up to the plan's step_tokens. Errors: kInternal only.
  static Result<StepGraphs> build(const ModelLayout& layout, const Plan& plan, const TensorResidency& residency,
                                  bool corrects_in_turn = false);
  /// Whether a plan's steps of so many tokens hand over by words: those that nothing streams for, to the device or as keys and values, of
  /// what kHandoffTokens tokens have room for.
  static bool hand_words(const Plan& plan, uint32_t tokens);

  /// Precondition: 1 to the plan's step_tokens.
  const Bucket& bucket(size_t tokens) const;
  const std::vector<Bucket>& buckets() const { return buckets_; }
  /// A step with StepGraphOptions::by_stand_ins. Precondition: the plan has self_draft_bits.
  const TaskGraph& draft() const { return draft_; }

 private:
  std::vector<Bucket> buckets_;  ///< ascending
  TaskGraph draft_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_STEP_GRAPHS_H_
