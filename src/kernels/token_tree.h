// TokenTree: tokens of which several may follow the same one, as attention sees them.
#ifndef OUTRIGGER_SRC_KERNELS_TOKEN_TREE_H_
#define OUTRIGGER_SRC_KERNELS_TOKEN_TREE_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace outrigger {

/// Tokens of a tree, its root among them: as many as one step of the small kernels takes.
inline constexpr size_t kMostTreeTokens = 32;

/// A token sees what is before the root, and of the tree its ancestors and itself. Its keys and values lie at the place of the root plus
/// its number; its position is that of the root plus its depth. Parents come before their children.
class TokenTree {
 public:
  void clear() { size_ = 0; }
  /// Precondition: less than kMostTreeTokens, and `parent` is a token; the first one is the root, whose parent is not looked at.
  void add(size_t parent) {
    const size_t depth = size_ == 0 ? 0 : depth_[parent] + size_t{1};
    if (size_ > 0) std::copy_n(paths_[parent].begin(), depth, paths_[size_].begin());
    paths_[size_][depth] = static_cast<uint8_t>(size_);
    depth_[size_++] = static_cast<uint8_t>(depth);
  }

  // constexpr, so that a kernel of any device can ask as well.
  constexpr size_t size() const { return size_; }
  constexpr size_t depth(size_t token) const { return depth_[token]; }
  /// The token at `depth` on the way from the root to `token`. Precondition: depth <= depth(token).
  constexpr size_t on_path(size_t token, size_t depth) const { return paths_[token][depth]; }
  constexpr size_t parent(size_t token) const { return token == 0 ? 0 : paths_[token][depth_[token] - size_t{1}]; }

 private:
  size_t size_ = 0;
  std::array<uint8_t, kMostTreeTokens> depth_;
  std::array<std::array<uint8_t, kMostTreeTokens>, kMostTreeTokens> paths_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_TOKEN_TREE_H_
