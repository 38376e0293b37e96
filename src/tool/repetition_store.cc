// Repetition of experts in the cache folder.
#include "src/tool/repetition_store.h"

#include <outrigger/plan.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/tool/acceptance_store.h"
#include "src/tool/cached_json.h"

namespace outrigger::tool {
namespace {

constexpr const char* kFile = "experts.json";
constexpr const char* kField = "models";

// Some thousand tokens of 30 layers that take two experts each: beyond, older ones count half.
constexpr double kMostUses = 200'000;
// Fewer are a few tokens of a large model, which find what the prompt has left behind.
constexpr double kFewUses = 1000;
// Of models of which nothing is known: Mixtral is said to find 40 and 60 % where a quarter and half of the experts are in memory, which
// is 1.8 and 1.3; another to find 78 % where there is a tenth, 14; the mixture of docs/benchmarks.md comes to 2 to 7.
constexpr double kUnknownRepetition = 2;

KnownRepetition read_model(const Json& models, const std::string& name) {
  const auto found = models.find(name);
  if (found == models.end() || !found->is_object()) return {};
  const Json uses = found->value("uses", Json()), repetition = found->value("repetition", Json());
  if (!uses.is_number() || !repetition.is_number()) return {};
  const KnownRepetition known{uses.get<double>(), repetition.get<double>()};
  const bool is_count = known.uses >= 0 && known.uses <= 2 * kMostUses;
  return is_count && known.repetition >= 1 && known.repetition <= kMostExpertRepetition ? known : KnownRepetition();
}

}  // namespace

void KnownRepetition::add(const ExpertReport& report) {
  const auto more = static_cast<double>(report.token_uses);
  if (more == 0) return;
  if (uses + more > kMostUses) uses /= 2;
  repetition = (uses * repetition + more * report.repetition) / (uses + more);
  uses = std::min(uses + more, kMostUses);
}

double KnownRepetition::expected() const { return is_known() ? repetition : kUnknownRepetition; }

bool KnownRepetition::is_known() const { return uses >= kFewUses; }

KnownRepetition stored_repetition(const Model& model) { return read_model(cached_entries(kFile, kField), model_words(model.info())); }

void keep_repetition(const Model& model, const Engine& engine) {
  const ExpertReport report = engine.experts();
  if (report.token_uses == 0) return;
  Json models = cached_entries(kFile, kField);
  const std::string name = model_words(model.info());
  KnownRepetition known = read_model(models, name);
  known.add(report);
  models[name] = {{"uses", known.uses}, {"repetition", known.repetition}};
  cache_entries(kFile, kField, models, "how texts come back to experts");
}

}  // namespace outrigger::tool
