// DraftSource: who proposes the tokens that a step then verifies.
#ifndef OUTRIGGER_SRC_DECODE_DRAFT_SOURCE_H_
#define OUTRIGGER_SRC_DECODE_DRAFT_SOURCE_H_

#include <outrigger/cancel.h>
#include <outrigger/plan.h>
#include <outrigger/sampling.h>
#include <outrigger/status.h>

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "src/kernels/token_tree.h"

namespace outrigger {

/// How much is wanted of a draft.
struct DraftSize {
  uint32_t tokens = 0;  ///< at most
  uint32_t depth = 0;   ///< for a chain as many
  uint32_t width = 1;   ///< tokens of one depth, at most: 1 for a chain
  uint32_t room = 0;    ///< depth at most, for who has nothing to branch into
  bool is_tree() const { return width > 1; }
};

/// Of a tree's nodes the one with this token under another; 0: there is none. `tokens`: those of the nodes behind the root.
inline size_t find_under(const TokenTree& tree, std::span<const Token> tokens, size_t parent, Token token) {
  for (size_t node = parent + 1; node < tree.size(); ++node) {
    if (tree.parent(node) == parent && tokens[node - 1] == token) return node;
  }
  return 0;
}

/// Tokens under the last one of a text: a tree whose node 0 is that one and whose further nodes are the tokens in the order in which they
/// were added. Where they were drawn, distribution(node) is what the first of those under a node was drawn from, and each further one from
/// what is left of it without those before; else none is kept, and the tokens stand for themselves.
class Draft {
 public:
  /// Capacity for `most_tokens`, up to kMostTreeDraftTokens, with `most_candidates` of each distribution: what stays within it does not
  /// allocate.
  Draft(size_t most_tokens, size_t most_candidates) {
    tokens_.reserve(most_tokens);
    candidates_.reserve(most_tokens * most_candidates);
    clear();
  }

  void clear() {
    tokens_.clear();
    candidates_.clear();
    drawn_.fill({});
    tree_.clear();
    tree_.add(0);
  }
  /// Behind the last one.
  void add(Token token) { add_under(tree_.size() - 1, token); }
  void add(Token token, std::span<const TokenProbability> drawn_from) {
    draw_under(tree_.size() - 1, drawn_from);
    add(token);
  }
  /// Preconditions: no node is deeper than the new one, and the parent has no such token yet.
  void add_under(size_t parent, Token token) {
    tokens_.push_back(token);
    tree_.add(parent);
  }
  /// Before the first token under a node that is drawn.
  void draw_under(size_t node, std::span<const TokenProbability> distribution) {
    drawn_[node] = {candidates_.size(), distribution.size()};
    candidates_.insert(candidates_.end(), distribution.begin(), distribution.end());
  }

  std::span<const Token> tokens() const { return tokens_; }
  Token token(size_t node) const { return tokens_[node - 1]; }
  const TokenTree& tree() const { return tree_; }
  uint32_t depth() const { return static_cast<uint32_t>(tree_.depth(tree_.size() - 1)); }
  bool is_chain() const { return depth() == tokens_.size(); }
  bool is_drawn() const { return !candidates_.empty(); }
  /// The path of each node's first guess: what a chain of the same draft would have been.
  struct Trunk {
    uint32_t depth = 0;   ///< tokens
    uint32_t shared = 0;  ///< of these, those on the way to a node
  };
  Trunk trunk(size_t node) const {
    Trunk trunk;
    size_t end = 0;
    for (size_t next = 1; next < tree_.size(); ++next) {
      if (tree_.parent(next) != end) continue;
      end = next;
      ++trunk.depth;
      if (tree_.depth(node) >= trunk.depth && tree_.on_path(node, trunk.depth) == end) trunk.shared = trunk.depth;
    }
    return trunk;
  }
  std::span<const TokenProbability> distribution(size_t node) const {
    return std::span(candidates_).subspan(drawn_[node].begin, drawn_[node].count);
  }

 private:
  struct Part {
    size_t begin = 0, count = 0;
  };
  std::vector<Token> tokens_;
  TokenTree tree_;
  std::vector<TokenProbability> candidates_;
  std::array<Part, kMostTreeTokens> drawn_;
};

/// One generation's. A draft is anyone's guess: a bad one costs time, never a wrong token.
class DraftSource {
 public:
  virtual ~DraftSource() = default;

  /// Computes what there is to know of `tokens` before a draft behind them, as propose() would: so that a prompt that is read once does not
  /// count as what drafts take. Errors: as propose().
  virtual Status read(std::span<const Token> tokens, const CancelToken& cancel) {
    (void)tokens;
    (void)cancel;
    return {};
  }
  /// Fills `draft`, which is empty, with a chain of up to `most` tokens that may follow `tokens`; with fewer or none where it knows of no
  /// more. `tokens` are those of the call before, as far as they were accepted, and what came after them; what a source computed of these
  /// it does not compute again. Errors: kCancelled, after which it may be asked again; any other ends its use.
  virtual Status propose(std::span<const Token> tokens, uint32_t most, const CancelToken& cancel, Draft* draft) = 0;
  /// Tokens of one depth that its trees have where there is room; 1: it makes chains only.
  virtual uint32_t tree_width() const { return 1; }
  /// As propose(), a tree.
  virtual Status propose_tree(std::span<const Token> tokens, const DraftSize& size, const CancelToken& cancel, Draft* draft) {
    return propose(tokens, size.depth, cancel, draft);
  }
  /// Its tokens stand for themselves, whatever the sampling.
  virtual bool is_certain() const { return false; }
  /// It has a lane of its own, so that it may draft while a step verifies.
  virtual bool drafts_ahead() const { return false; }
  /// While a step verifies the chain that propose() has filled: goes on behind it as if all of it were accepted and the token that follows
  /// were the one it thinks likeliest, by up to `most` tokens more, until `is_enough` between two of them. The next propose() begins with
  /// these where the text came to that. Beside no other call. Errors: as propose().
  virtual Status draft_ahead(uint32_t most, const std::function<bool()>& is_enough) {
    (void)most;
    (void)is_enough;
    return {};
  }
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_DRAFT_SOURCE_H_
