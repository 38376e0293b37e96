// Acceptance of pairs of models in the cache folder.
#include "src/tool/acceptance_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/tool/cached_json.h"

namespace outrigger::tool {
namespace {

// Beyond so many drafts the older ones count half: texts change, and so does what models are used for.
constexpr double kMostDrafts = 4000;
// Fewer say nothing of a place: a half is then as likely as not within a third of what was counted.
constexpr double kFewDrafts = 8;

constexpr const char* kFile = "acceptance.json";
constexpr const char* kField = "pairs";

// False where it is not that: numbers from 0 on, as many as there are places at most.
bool read_counts(const Json& pair, const char* field, std::array<double, kMostDraftTokens>* counts) {
  const auto found = pair.find(field);
  if (found == pair.end() || !found->is_array() || found->size() > counts->size()) return false;
  for (size_t i = 0; i < found->size(); ++i) {
    const Json& count = (*found)[i];
    if (!count.is_number() || !(count.get<double>() >= 0 && count.get<double>() <= 2 * kMostDrafts)) return false;
    (*counts)[i] = count.get<double>();
  }
  return true;
}

KnownAcceptance read_pair(const Json& pairs, const std::string& name) {
  KnownAcceptance known;
  const auto pair = pairs.find(name);
  if (pair == pairs.end() || !pair->is_object()) return {};
  return read_counts(*pair, "drafted", &known.drafted) && read_counts(*pair, "accepted", &known.accepted) ? known : KnownAcceptance();
}

}  // namespace

std::string model_words(const ModelInfo& info) {
  return fmt::format("{}, {} parameters, {} bytes", info.architecture, info.parameters, info.bytes);
}

std::string model_pair(const ModelInfo& target, const ModelInfo& draft) {
  return fmt::format("{} by {}", model_words(target), model_words(draft));
}

void KnownAcceptance::add(const SpeculationReport& report) {
  for (size_t i = 0; i < kMostDraftTokens; ++i) {
    drafted[i] += static_cast<double>(report.chain_drafted_at[i]);
    accepted[i] += static_cast<double>(report.chain_accepted_at[i]);
  }
  while (*std::max_element(drafted.begin(), drafted.end()) > kMostDrafts) {
    for (std::array<double, kMostDraftTokens>* counts : {&drafted, &accepted}) {
      for (double& count : *counts) count /= 2;
    }
  }
}

std::array<double, kMostDraftTokens> KnownAcceptance::chances() const {
  if (drafted[0] < kFewDrafts) return unknown_acceptance();
  std::array<double, kMostDraftTokens> chances{};
  double before = 1, next = 1;
  for (size_t i = 0; i < kMostDraftTokens; ++i) {
    const bool is_known = drafted[i] >= kFewDrafts;
    chances[i] = is_known ? std::clamp(accepted[i] / drafted[i], 0.0, before) : before * next;
    if (is_known) next = before > 0 ? chances[i] / before : 0;
    before = chances[i];
  }
  return chances;
}

KnownAcceptance stored_acceptance(const std::string& pair) { return read_pair(cached_entries(kFile, kField), pair); }

void store_acceptance(const std::string& pair, const SpeculationReport& report) {
  if (report.drafted == 0) return;
  Json pairs = cached_entries(kFile, kField);
  KnownAcceptance known = read_pair(pairs, pair);
  known.add(report);
  pairs[pair] = {{"drafted", known.drafted}, {"accepted", known.accepted}};
  cache_entries(kFile, kField, pairs, "what was accepted of the draft");
}

}  // namespace outrigger::tool
