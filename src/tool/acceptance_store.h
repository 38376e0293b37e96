// What was accepted of a draft model's drafts in earlier runs, for pairs of models, kept in the cache folder.
#ifndef OUTRIGGER_SRC_TOOL_ACCEPTANCE_STORE_H_
#define OUTRIGGER_SRC_TOOL_ACCEPTANCE_STORE_H_

#include <outrigger/draft_forecast.h>
#include <outrigger/model.h>
#include <outrigger/speculation.h>

#include <array>
#include <string>

namespace outrigger::tool {

/// By architecture, parameters and bytes: files may be moved, and other quantisations of a model are other models.
std::string model_words(const ModelInfo& info);
std::string model_pair(const ModelInfo& target, const ModelInfo& draft);

/// By the depth in a draft, as SpeculationReport has it of chains. The latest some thousand drafts count most.
struct KnownAcceptance {
  std::array<double, kMostDraftTokens> drafted = {}, accepted = {};

  void add(const SpeculationReport& report);
  /// Chances as a forecast wants them: behind the deepest place of which some drafts are known each token is as likely as the last known
  /// one.
  std::array<double, kMostDraftTokens> chances() const;
};

/// ${OUTRIGGER_CACHE:-~/.cache/outrigger}/acceptance.json; nothing known where that cannot be read.
KnownAcceptance stored_acceptance(const std::string& pair);
/// Adds a run's chains, and of its trees the likeliest paths. A cache that cannot be written is worth a remark, not a failure.
void store_acceptance(const std::string& pair, const SpeculationReport& report);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_ACCEPTANCE_STORE_H_
