// Acceptance of pairs of models in the cache folder.
#include "src/tool/acceptance_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "src/tool/files.h"
#include "src/tool/profile_store.h"
#include "src/tool/report.h"

namespace outrigger::tool {
namespace {

// Beyond so many drafts the older ones count half: texts change, and so does what models are used for.
constexpr double kMostDrafts = 4000;
// Fewer say nothing of a place: a half is then as likely as not within a third of what was counted.
constexpr double kFewDrafts = 8;

std::string acceptance_path() { return cache_path("acceptance.json"); }

Json stored_pairs() {
  const auto text = read_file(acceptance_path());
  Json document = text.is_ok() ? Json::parse(text.value(), nullptr, false) : Json();
  const bool is_ours = document.is_object() && document.contains("pairs") && document["pairs"].is_object();
  return is_ours ? document["pairs"] : Json::object();
}

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

std::string model_pair(const ModelInfo& target, const ModelInfo& draft) {
  const auto words = [](const ModelInfo& info) {
    return fmt::format("{}, {} parameters, {} bytes", info.architecture, info.parameters, info.bytes);
  };
  return fmt::format("{} by {}", words(target), words(draft));
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

KnownAcceptance stored_acceptance(const std::string& pair) { return read_pair(stored_pairs(), pair); }

void store_acceptance(const std::string& pair, const SpeculationReport& report) {
  const std::string path = acceptance_path();
  if (path.empty() || report.drafted == 0) return;
  Json pairs = stored_pairs();
  KnownAcceptance known = read_pair(pairs, pair);
  known.add(report);
  pairs[pair] = {{"drafted", known.drafted}, {"accepted", known.accepted}};
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  const Status status = write_file(path, Json{{"pairs", pairs}}.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  if (!status.is_ok()) say("what was accepted of the draft cannot be kept: " + status.to_string());
}

}  // namespace outrigger::tool
