// Trees that a model drafts: steps of whole levels, and where the next level's tokens go.
#include "src/decode/tree_draft.h"

#include <algorithm>

#include "src/base/macros.h"
#include "src/decode/acceptance.h"

namespace outrigger {
namespace {

// A guess that is worth so little of the best one of its level is not worth a row of a step.
constexpr double kLeastOfLevel = 0.02;
// How likely the model takes a guess, to a constant: the likelier ones more often than the draft's probabilities say, since where both
// waver they waver alike. Of trees of 30 tokens a step took 3.5 by their squares, 3.4 by the probabilities themselves or by their cubes
// (SmolLM2-135M, its form in 3 bits as the draft, greedy, four texts).
double worth(double probability) { return probability * probability; }

// To rank what the likeliest token is chosen from, their probabilities are needed.
SamplingOptions ranking(SamplingOptions sampling) {
  if (sampling.temperature > 0) return sampling;
  sampling.temperature = 1;
  sampling.top_p = 1;
  sampling.min_p = 0;
  return sampling;
}

}  // namespace

Result<TreeGrower> TreeGrower::create(const SamplingOptions& sampling) {
  OTR_ASSIGN(Sampler sampler, Sampler::create(ranking(sampling)));
  return TreeGrower(std::move(sampler), sampling);
}

TreeGrower::TreeGrower(Sampler sampler, const SamplingOptions& sampling)
    : sampler_(std::move(sampler)), random_(sampling.seed ^ 0x3c6ef372fe94f82bu), draws_(sampling.temperature > 0) {}

Status TreeGrower::grow(Session::Impl& session, const StepInput& like, std::span<const float> root_logits, size_t vocabulary,
                        const DraftSize& size, const CancelToken& cancel, Draft* draft, size_t* computed_nodes) {
  static constexpr std::array<uint32_t, kMostWidth> kRows = {0, 1, 2, 3, 4, 5, 6, 7};
  const auto root_position = static_cast<uint32_t>(session.tokens.size() - 1);
  leaf_count_ = 0;
  path_worth_[0] = 1;
  size_t begin = *computed_nodes = 0;
  if (!root_logits.empty()) {
    OTR_TRY(take(session.tokens, *draft, 0, root_logits.first(vocabulary)));
    begin = *computed_nodes = 1;
    if (add_level(std::min(size.width, size.tokens), draft) == 0) return {};
  }
  while (true) {
    const size_t end = draft->tree().size();
    if (begin > 0 && (draft->depth() == size.depth || end - 1 == size.tokens)) return {};
    const auto count = static_cast<uint32_t>(end - begin);
    const SequenceSlice slice{&session.cache, root_position, 0, count, &draft->tree(), static_cast<uint32_t>(begin)};
    StepInput input = like;
    input.tokens = begin == 0 ? std::span<const Token>(session.tokens).last(1) : draft->tokens().subspan(begin - 1, count);
    input.slices = {&slice, 1};
    input.logit_tokens = std::span(kRows).first(count);
    leaf_count_ = 0;
    Status taken;
    OTR_TRY(session.engine->run_step(input, cancel, [&](size_t row, std::span<const float> logits) {
      if (taken.is_ok()) taken = take(session.tokens, *draft, begin + row, logits.first(vocabulary));
    }));
    OTR_TRY(std::move(taken));
    begin = *computed_nodes = end;
    if (add_level(std::min<size_t>(size.width, size.tokens - (end - 1)), draft) == 0) return {};
  }
}

// What a penalty looks back at is the text with the path to the node.
Status TreeGrower::take(std::vector<Token>& text, const Draft& draft, size_t node, std::span<const float> logits) {
  const size_t text_size = text.size();
  for (size_t depth = 1; depth <= draft.tree().depth(node); ++depth) text.push_back(draft.token(draft.tree().on_path(node, depth)));
  const Result<std::span<const TokenProbability>> distribution = sampler_.distribution(logits, text);
  text.resize(text_size);
  OTR_TRY(distribution.status());
  Leaf& leaf = leaves_[leaf_count_++];
  leaf.node = node;
  leaf.children = 0;
  leaf.candidates.assign(distribution.value().begin(), distribution.value().end());
  leaf.left = leaf.candidates;
  leaf.total_worth = 0;
  for (const TokenProbability& candidate : leaf.candidates) leaf.total_worth += worth(candidate.probability);
  return {};
}

// By what is known before the next token is chosen, not by that itself: else what is drawn would be chosen among.
double TreeGrower::next_worth(const Leaf& leaf) const {
  if (leaf.left.empty()) return 0;
  return path_worth_[leaf.node] * worth(leaf.candidates[leaf.children].probability) / leaf.total_worth;
}

TreeGrower::Leaf& TreeGrower::best_leaf() {
  return *std::max_element(leaves_.begin(), leaves_.begin() + static_cast<ptrdiff_t>(leaf_count_),
                           [this](const Leaf& a, const Leaf& b) { return next_worth(a) < next_worth(b); });
}

void TreeGrower::add_child(Leaf& leaf, Draft* draft) {
  size_t chosen = 0;
  if (draws_) {
    if (leaf.children == 0) draft->draw_under(leaf.node, leaf.candidates);
    double total = 0;
    for (const TokenProbability& candidate : leaf.left) total += candidate.probability;
    double point = random_.uniform() * total;
    while (chosen + 1 < leaf.left.size() && (point -= leaf.left[chosen].probability) >= 0) ++chosen;
  }
  const TokenProbability child = leaf.left[chosen];
  path_worth_[draft->tree().size()] = next_worth(leaf);
  leaf.left.erase(leaf.left.begin() + static_cast<ptrdiff_t>(chosen));
  ++leaf.children;
  draft->add_under(leaf.node, child.token);
}

// How many tokens, that is.
size_t TreeGrower::add_level(size_t most, Draft* draft) {
  size_t added = 0;
  double least = 0;
  for (; added < most; ++added) {
    Leaf& leaf = best_leaf();
    const double worth = next_worth(leaf);
    if (worth <= least) break;
    if (added == 0) least = kLeastOfLevel * worth;
    add_child(leaf, draft);
  }
  return added;
}

}  // namespace outrigger
