// TreeGrower: trees that a model drafts, level by level.
#ifndef OUTRIGGER_SRC_DECODE_TREE_DRAFT_H_
#define OUTRIGGER_SRC_DECODE_TREE_DRAFT_H_

#include <outrigger/sampling.h>

#include <array>
#include <span>
#include <vector>

#include "src/decode/draft_source.h"
#include "src/decode/random.h"
#include "src/decode/session_impl.h"

namespace outrigger {

/// Tokens of one depth of such a tree: room for second and third guesses, and in 31 tokens for a depth of 11.
inline constexpr uint32_t kModelTreeWidth = 3;

/// Grows trees over a session's cache, whose places behind the text it writes: each level is one step over its nodes. Where a level's
/// tokens go is decided by how likely the paths to them are taken, before they are drawn, so that what is drawn has the distribution that
/// is told. One draft's at a time; keeps nothing from one to the next.
class TreeGrower {
 public:
  /// `sampling`: draft_sampling(). Errors: Sampler::create's.
  static Result<TreeGrower> create(const SamplingOptions& sampling);

  /// The steps are made with `like`'s weights. `root_logits`: of the session's last token, where that is computed; else empty, and the
  /// first step computes it. The session's tokens end with the root, are extended meanwhile, and are afterwards what they were; what is
  /// computed of the tree lies behind it. Of logits the first `vocabulary` count. `*computed_nodes`: nodes whose keys and values are in the
  /// cache, the root among them. Preconditions: size.width <= the plan's logit_rows (with copies kStandInTokens) and kMostWidth;
  /// size.tokens more fit into the context.
  /// Errors: as a step's, Sampler::distribution's.
  Status grow(Session::Impl& session, const StepInput& like, std::span<const float> root_logits, size_t vocabulary, const DraftSize& size,
              const CancelToken& cancel, Draft* draft, size_t* computed_nodes);

  static constexpr size_t kMostWidth = 8;

 private:
  /// A node of the deepest level, and what may follow it.
  struct Leaf {
    size_t node = 0;
    uint32_t children = 0;
    std::vector<TokenProbability> candidates;  ///< likeliest first
    std::vector<TokenProbability> left;        ///< without those that were chosen
    double total_worth = 0;
  };

  TreeGrower(Sampler sampler, const SamplingOptions& sampling);
  Status take(std::vector<Token>& text, const Draft& draft, size_t node, std::span<const float> logits);
  Leaf& best_leaf();
  double next_worth(const Leaf& leaf) const;
  void add_child(Leaf& leaf, Draft* draft);
  size_t add_level(size_t most, Draft* draft);

  Sampler sampler_;
  Random random_;
  bool draws_;
  std::array<Leaf, kMostWidth> leaves_;
  size_t leaf_count_ = 0;
  std::array<double, kMostTreeTokens> path_worth_;  ///< by node: how likely it is on the path that the model takes
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_TREE_DRAFT_H_
