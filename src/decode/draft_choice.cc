// Which shape of draft: expected time of a token, as either was measured.
#include "src/decode/draft_choice.h"

#include <algorithm>

namespace outrigger {
namespace {

// The other shape is to be faster by more than the noise of what is measured.
constexpr double kLeastGain = 1.02;
// It is tried again after so many drafts: what a trial loses is 2 % at most where it takes twice the time.
constexpr uint32_t kPassesPerTrial = 256;

}  // namespace

DraftChoice::DraftChoice(const DraftOptions& options, uint32_t most_tokens, uint32_t width, double growth) {
  const bool is_fixed = options.tokens != DraftOptions::kAsItPays;
  const bool may_give_up = !is_fixed || options.kind == DraftKind::kAuto;
  most_chain_tokens_ = std::min(is_fixed ? options.tokens : kMostDraftTokens, most_tokens);
  most_tree_tokens_ = std::min({is_fixed ? options.tokens : kMostTreeDraftTokens, kMostTreeDraftTokens, most_tokens});
  // Of fewer tokens than its width a tree is nothing but guesses at the next one.
  const bool has_tree =
      width > 1 && most_tree_tokens_ > 1 &&
      (options.shape == DraftShape::kTree || (options.shape == DraftShape::kAuto && !is_fixed && most_tree_tokens_ > width));
  if (has_tree) tree_.emplace(std::min((most_tree_tokens_ + width - 1) / width, kMostDraftTokens), is_fixed, may_give_up, width, growth);
  if (!has_tree || options.shape != DraftShape::kTree) chain_.emplace(most_chain_tokens_, is_fixed, may_give_up, 1, growth);
  prefers_tree_ = !chain_;
}

DraftSize DraftChoice::next() {
  asked_tree_ = prefers_tree_ != (trial_passes_ > 0);
  DraftLength& asked = asked_tree_ ? *tree_ : *chain_;
  const uint32_t length = trial_passes_ > 0 ? asked.best() : asked.next();
  return {std::min(length * asked.width(), asked_tree_ ? most_tree_tokens_ : most_chain_tokens_), length, asked.width()};
}

void DraftChoice::record(const PassRecord& pass) {
  for (std::optional<DraftLength>* length : {&chain_, &tree_}) {
    if (*length && (pass.drafted == 0 || asked_tree_ == (length == &tree_))) (*length)->record(pass);
  }
  if (!chain_ || !tree_ || pass.drafted == 0) return;
  if (trial_passes_ > 0) {
    --trial_passes_;
  } else if (++drafted_passes_ == next_trial_) {
    trial_passes_ = DraftLength::kLeastDrafted;
    next_trial_ += kPassesPerTrial;
  }
  if (trial_passes_ == 0 && is_other_faster()) prefers_tree_ = !prefers_tree_;
}

double DraftChoice::ms_per_token() const {
  const DraftLength& used = prefers_tree_ ? *tree_ : *chain_;
  return used.is_known() ? std::min(used.ms_per_token(used.best()), used.ms_per_token(0)) : 0;
}

bool DraftChoice::is_other_faster() const {
  const DraftLength &used = prefers_tree_ ? *tree_ : *chain_, &other = prefers_tree_ ? *chain_ : *tree_;
  return other.is_known() && used.is_known() && other.ms_per_token(other.best()) * kLeastGain < used.ms_per_token(used.best());
}

}  // namespace outrigger
