// How texts came back to a mixture's experts in earlier runs, kept in the cache folder.
#ifndef OUTRIGGER_SRC_TOOL_REPETITION_STORE_H_
#define OUTRIGGER_SRC_TOOL_REPETITION_STORE_H_

#include <outrigger/engine.h>
#include <outrigger/model.h>

namespace outrigger::tool {

/// Of one model. The latest some thousand tokens count most.
struct KnownRepetition {
  double uses = 0;        ///< of experts by tokens that the mean is of
  double repetition = 1;  ///< Workload::expert_repetition

  void add(const ExpertReport& report);
  /// Whether so many are a measure.
  bool is_known() const;
  /// What a plan counts on, known or not.
  double expected() const;
};

/// ${OUTRIGGER_CACHE:-~/.cache/outrigger}/experts.json; nothing known where that cannot be read.
KnownRepetition stored_repetition(const Model& model);
/// Adds what a run's tokens found in memory; nothing of one whose experts were all resident. Failures are remarks.
void keep_repetition(const Model& model, const Engine& engine);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_REPETITION_STORE_H_
