// Attention over a tree: each token has the bits that it has where it and what it follows are a plain sequence.
#include <functional>
#include <set>

#include "src/kernels/move_kv.h"
#include "src/kernels/token_tree.h"
#include "tests/kernels/attention_case.h"
#include "tests/support/catch.h"
#include "tests/support/few_cases.h"

namespace outrigger {
namespace {

std::unique_ptr<ThreadTeam> team_of(size_t threads) { return std::move(ThreadTeam::create(threads)).value(); }

/// A tree of `size` tokens in order of their depth, each under one of the level above that `choose` picks of so many; `width` tokens a
/// level.
TokenTree tree_of(size_t size, size_t width, const std::function<size_t(size_t)>& choose) {
  TokenTree tree;
  tree.add(0);
  for (size_t level_begin = 0, level_end = 1; tree.size() < size;) {
    const size_t end = std::min(size, level_end + width);
    while (tree.size() < end) tree.add(level_begin + choose(level_end - level_begin));
    level_begin = level_end, level_end = end;
  }
  return tree;
}

std::vector<TokenTree> trees(std::mt19937& random) {
  const auto any = [&random](size_t count) { return random() % count; };
  const auto first = [](size_t) { return size_t{0}; };
  return {tree_of(1, 1, first), tree_of(9, 1, first),   tree_of(5, 4, first), tree_of(32, 2, any),
          tree_of(32, 7, any),  tree_of(32, 31, first), tree_of(23, 3, any)};
}

void copy_token(const Sequence& from, size_t source, Sequence* to, size_t target) {
  std::copy_n(&from.q[source * from.q_stride()], from.q_stride(), &to->q[target * from.q_stride()]);
  std::copy_n(&from.k[source * from.kv_stride()], from.kv_stride(), &to->k[target * from.kv_stride()]);
  std::copy_n(&from.v[source * from.kv_stride()], from.kv_stride(), &to->v[target * from.kv_stride()]);
}

/// A text whose last tokens are a tree's, at the places they have in the cache, and the same text with only what one of them follows.
struct Planted {
  TokenTree tree;
  size_t base;  // the root's position
  Sequence sequence;

  Planted(const TokenTree& tree, size_t base, AttentionShape shape)
      : tree(tree), base(base), sequence([&] {
          shape.positions = base + tree.size();
          return Sequence(shape);
        }()) {
    sequence.append(0, base + tree.size());
  }

  std::vector<float> attend(size_t begin, size_t end, ThreadTeam& team, bool defined = false) const {
    std::vector<float> dst((end - begin) * sequence.q_stride(), 1e9f);
    const AlignedBytes scratch(team.threads() * attention_scratch_bytes(sequence.shape.head_dim));
    AttentionArgs args = sequence.args(base + begin, base + end, dst.data(), scratch.data());
    args.first_position = base, args.tree = &tree, args.tree_begin = begin;
    if (defined) {
      AttentionTask task{};
      task.kind = AttentionTask::Kind::kUnits, task.end = attention_units(args), task.threads = 1;
      attention_ref(args, task);
    } else {
      team.run([&args](const TeamMember& member) { attention(args, member); });
    }
    return dst;
  }

  /// What a plain step of one token makes of the tree's.
  std::vector<float> plain(size_t token, ThreadTeam& team) const {
    const size_t depth = tree.depth(token);
    AttentionShape shape = sequence.shape;
    shape.positions = base + depth + 1;
    Sequence alone(shape);
    for (size_t p = 0; p < base; ++p) copy_token(sequence, p, &alone, p);
    for (size_t d = 0; d <= depth; ++d) copy_token(sequence, base + tree.on_path(token, d), &alone, base + d);
    alone.append(0, shape.positions);
    return alone.attend(base + depth, base + depth + 1, team);
  }
};

struct Case {
  size_t base;
  AttentionShape shape;
};

// Roots around the boundaries of lanes, position blocks and parts, so that trees lie across them.
std::vector<Case> sweep(std::mt19937& random) {
  constexpr size_t kBases[] = {0, 1, 14, 16, 97, 112, 126, 128, 480, 495, 508, 511, 512, 513, 1000, 1020, 1024};
  constexpr size_t kDims[] = {8, 32, 64, 80, 128};
  constexpr KvType kTypes[] = {KvType::kF16, KvType::kF32, KvType::kQ8_0};
  std::vector<Case> cases;
  for (size_t i = 0; i < std::size(kBases); i += kIsSanitized ? 8 : 1) {
    const size_t base = kBases[i];
    Case c{base, {0, 1, 1 + random() % 3, kDims[random() % std::size(kDims)], kTypes[random() % std::size(kTypes)]}};
    if (!kv_type_fits(c.shape.type, c.shape.head_dim)) c.shape.type = KvType::kF16;
    c.shape.heads = c.shape.kv_heads * (1 + random() % 4);
    cases.push_back(c);
  }
  return cases;
}

TEST_CASE("Attention over a tree: each token has the bits of a plain step behind what it follows, at every level") {
  std::mt19937 random(11);
  const std::unique_ptr<ThreadTeam> teams[] = {team_of(1), team_of(3)};
  for (const Case& c : sweep(random)) {
    for (const TokenTree& tree : trees(random)) {
      const Planted planted(tree, c.base, c.shape);
      const size_t width = planted.sequence.q_stride();
      CAPTURE(c.base, tree.size(), tree.depth(tree.size() - 1), c.shape.heads, c.shape.kv_heads, c.shape.head_dim);
      CAPTURE(static_cast<int>(c.shape.type));
      std::vector<float> plain;
      for (size_t t = 0; t < tree.size(); ++t) {
        const std::vector<float> one = planted.plain(t, *teams[0]);
        plain.insert(plain.end(), one.begin(), one.end());
      }
      REQUIRE(same_bits(planted.attend(0, tree.size(), *teams[0], true), plain));
      for (const SimdLevel level : levels()) {
        if (level == SimdLevel::kNone) continue;  // that is the definition
        const AtLevel at(level);
        CAPTURE(simd_level_name(level));
        for (const auto& team : teams) {
          REQUIRE(same_bits(planted.attend(0, tree.size(), *team), plain));
          // The deeper levels alone, as where a tree grows.
          for (size_t begin = 1; begin < tree.size(); begin = std::max(begin + 1, 2 * begin)) {
            REQUIRE(same_bits(planted.attend(begin, tree.size(), *team), {&plain[begin * width], &plain[0] + plain.size()}));
          }
        }
      }
    }
  }
}

TEST_CASE("Attention over a tree: a token that is not on the way to another one is not seen by it") {
  std::mt19937 random(5);
  const std::unique_ptr<ThreadTeam> team = team_of(2);
  const TokenTree tree = tree_of(20, 4, [&random](size_t count) { return random() % count; });
  for (const KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8_0}) {
    for (const SimdLevel level : levels()) {
      const AtLevel at(level);
      for (const size_t spoilt : {size_t{3}, size_t{7}, size_t{12}}) {
        Planted planted(tree, 500, {0, 2, 1, 32, type});
        const std::vector<float> good = planted.attend(0, tree.size(), *team);
        planted.sequence.k[(500 + spoilt) * 32 + 4] = std::numeric_limits<float>::quiet_NaN();
        planted.sequence.append(500 + spoilt, 501 + spoilt);
        const std::vector<float> got = planted.attend(0, tree.size(), *team);
        for (size_t t = 0; t < tree.size(); ++t) {
          const bool sees = tree.depth(t) >= tree.depth(spoilt) && tree.on_path(t, tree.depth(spoilt)) == spoilt;
          CAPTURE(spoilt, t, sees);
          REQUIRE(std::isnan(got[t * 64]) == sees);
          if (!sees) REQUIRE(got[t * 64] == good[t * 64]);
        }
      }
    }
  }
}

TEST_CASE("Moving in a cache: a path of a tree that was moved together is the cache of the plain text") {
  std::mt19937 random(3);
  const TokenTree tree = tree_of(32, 5, [&random](size_t count) { return random() % count; });
  for (const AttentionShape& shape :
       {AttentionShape{0, 6, 3, 32, KvType::kQ8_0}, {0, 2, 2, 100, KvType::kF16}, {0, 4, 2, 24, KvType::kF32}}) {
    for (const size_t base : {size_t{0}, size_t{9}, size_t{500}}) {
      Planted planted(tree, base, shape);
      Sequence& sequence = planted.sequence;
      const size_t last = tree.size() - 1;
      std::vector<std::byte> layer = sequence.k_cache;
      layer.insert(layer.end(), sequence.v_cache.begin(), sequence.v_cache.end());
      MoveKvArgs moves = path_moves(base, tree, last);
      moves.cache = layer.data(), moves.layers = 1, moves.kv_heads = shape.kv_heads, moves.head_dim = shape.head_dim;
      moves.capacity = sequence.capacity, moves.type = shape.type;
      move_kv(moves, 0, 1);
      move_kv(moves, 1, shape.kv_heads);
      std::copy_n(layer.begin(), sequence.k_cache.size(), sequence.k_cache.begin());
      std::copy_n(layer.begin() + static_cast<ptrdiff_t>(sequence.k_cache.size()), sequence.v_cache.size(), sequence.v_cache.begin());
      Sequence alone = sequence;
      for (size_t d = 0; d <= tree.depth(last); ++d) {
        copy_token(sequence, base + tree.on_path(last, d), &alone, base + d);
        alone.append(base + d, base + d + 1);
      }
      CAPTURE(base, static_cast<int>(shape.type));
      REQUIRE(sequence.k_cache == alone.k_cache);
      REQUIRE(sequence.v_cache == alone.v_cache);
    }
  }
}

}  // namespace
}  // namespace outrigger
