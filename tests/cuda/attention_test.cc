// Attention by kernels: the bits of the host's, however the work is cut among blocks.
#include <random>

#include "src/kernels/attention_rows.h"
#include "tests/cuda/kernel_check.h"
#include "tests/kernels/attention_case.h"

namespace outrigger::cuda {
namespace {

struct Case {
  AttentionShape shape;
  size_t first_position;
  /// Few multiprocessors have their blocks walk through all parts; many get parts of their own.
  uint32_t multiprocessors = 1000;
  const uint32_t* varying_at = nullptr;
};

constexpr KvType kTypes[] = {KvType::kF16, KvType::kF32, KvType::kQ8_0};

std::vector<float> attend(const Sequence& sequence, const Case& c) {
  const size_t stride = sequence.q_stride() + 5, tokens = sequence.shape.positions - c.first_position;
  std::vector<float> dst(tokens * stride, 1e9f);
  const AlignedBytes scratch(attention_scratch_on_device(sequence.shape.head_dim));
  AttentionArgs args = sequence.args(c.first_position, sequence.shape.positions, dst.data(), scratch.data());
  args.dst_stride = stride;
  if (c.varying_at != nullptr) args.first_position = 0;
  REQUIRE(launch_op({emulator::launch_only(), nullptr, c.multiprocessors, c.varying_at}, args) == kCudaOk);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t i = sequence.q_stride(); i < stride; ++i) REQUIRE(dst[t * stride + i] == 1e9f);
    std::copy_n(&dst[t * stride], sequence.q_stride(), &dst[t * sequence.q_stride()]);
  }
  dst.resize(tokens * sequence.q_stride());
  return dst;
}

/// Both ways of cutting the work, with the first position in the arguments and in memory.
void check(const Sequence& sequence, size_t first_position) {
  const std::unique_ptr<ThreadTeam> team = std::move(ThreadTeam::create(1)).value();
  const std::vector<float> wanted = sequence.attend(first_position, sequence.shape.positions, *team);
  const uint32_t position = static_cast<uint32_t>(first_position);
  for (const auto& [multiprocessors, at] : {std::pair<uint32_t, const uint32_t*>{0, nullptr}, {1000, nullptr}, {1000, &position}}) {
    CAPTURE(sequence.shape.positions, first_position, sequence.shape.heads, sequence.shape.kv_heads, sequence.shape.head_dim);
    CAPTURE(static_cast<int>(sequence.shape.type), multiprocessors, at != nullptr);
    REQUIRE(same_bits(attend(sequence, {sequence.shape, first_position, multiprocessors, at}), wanted));
  }
}

void check(size_t first_position, size_t tokens, size_t group, size_t kv_heads, size_t head_dim, KvType type) {
  Sequence sequence({first_position + tokens, group * kv_heads, kv_heads, head_dim, type});
  sequence.append(0, sequence.shape.positions);
  check(sequence, first_position);
}

TEST_CASE("cuda attention: one token's bits are the host's, whatever the position, the group and the type") {
  for (const KvType type : kTypes) {
    for (const size_t first_position : {0, 3, 127, 128, 511, 512, 1300}) check(first_position, 1, 3, 1, 64, type);
    for (const size_t group : {1, 2, 4, 8}) check(600, 1, group, 2, 32, type);
    for (const size_t head_dim : {96, 128, 256}) check(600, 1, 4, 1, head_dim, type);
  }
}

TEST_CASE("cuda attention: so are many tokens', each of which sees one position more") {
  for (const KvType type : kTypes) {
    check(500, 40, 3, 1, 32, type);
    check(120, 10, 1, 1, 64, type);
    check(510, 5, 8, 1, 128, type);
    check(510, 9, 1, 1, 256, type);
  }
  for (const size_t first_position : {0, 3, 700}) check(first_position, 40, 1, 1, 32, KvType::kF16);
  for (const size_t tokens : {2, 33}) check(505, tokens, 4, 1, 32, KvType::kF16);
}

TEST_CASE("cuda attention: heads of any width") {
  for (const KvType type : {KvType::kF16, KvType::kF32}) {
    for (const size_t head_dim : {1, 7, 80, 100}) check(515, 3, 2, 1, head_dim, type);
  }
  check(130, 9, 2, 1, 1024, KvType::kF16);
}

TEST_CASE("cuda attention: more parts than the folding block has threads") { check(130 * kPartPositions, 1, 1, 1, 2, KvType::kF16); }

TEST_CASE("cuda attention: results that the scratch has no room for do not go there") {
  // 48 rows of 400 parts, of which a few positions are filled when the kernel runs.
  Sequence sequence({20, 3, 1, 2});
  sequence.capacity = 400 * kPartPositions;
  sequence.k_cache.resize(kv_head_offset(KvType::kF16, 2, sequence.capacity, 1), std::byte{0x7f});
  sequence.v_cache = sequence.k_cache;
  sequence.append(0, 20);
  const std::unique_ptr<ThreadTeam> team = std::move(ThreadTeam::create(1)).value();
  const uint32_t first_position = 4;
  std::vector<float> dst(16 * 6);
  REQUIRE(launch_op({emulator::launch_only(), nullptr, 1000, &first_position}, sequence.args(4, 20, dst.data(), nullptr)) == kCudaOk);
  REQUIRE(same_bits(dst, sequence.attend(4, 20, *team)));
}

/// Every token under one of the level above, `width` tokens a level, the first of which is the root.
TokenTree tree_of(size_t size, size_t width, std::mt19937& random) {
  TokenTree tree;
  tree.add(0);
  for (size_t level_begin = 0, level_end = 1; tree.size() < size;) {
    const size_t end = std::min(size, tree.size() + width);
    while (tree.size() < end) tree.add(level_begin + random() % (level_end - level_begin));
    level_begin = level_end, level_end = end;
  }
  return tree;
}

/// The tokens of a tree from `tree_begin` on, by kernels and by the host's attention.
void check_tree(const TokenTree& tree, size_t tree_begin, size_t root, AttentionShape shape) {
  shape.positions = root + tree.size();
  Sequence sequence(shape);
  sequence.append(0, shape.positions);
  const size_t tokens = tree.size() - tree_begin;
  const std::unique_ptr<ThreadTeam> team = std::move(ThreadTeam::create(1)).value();
  const AlignedBytes scratch(std::max(attention_scratch_on_device(shape.head_dim), attention_scratch_bytes(shape.head_dim)));
  std::vector<float> wanted(tokens * sequence.q_stride());
  AttentionArgs args = sequence.args(root + tree_begin, shape.positions, wanted.data(), scratch.data());
  args.first_position = root, args.tree = &tree, args.tree_begin = tree_begin;
  team->run([&args](const TeamMember& member) { attention(args, member); });
  const uint32_t position = static_cast<uint32_t>(root);
  for (const auto& [multiprocessors, at] : {std::pair<uint32_t, const uint32_t*>{0, nullptr}, {1000, nullptr}, {1000, &position}}) {
    CAPTURE(tree.size(), tree_begin, root, shape.heads, shape.kv_heads, shape.head_dim, static_cast<int>(shape.type), multiprocessors);
    std::vector<float> dst(wanted.size(), 1e9f);
    args.dst = dst.data();
    args.first_position = at != nullptr ? 0 : root;
    REQUIRE(launch_op({emulator::launch_only(), nullptr, multiprocessors, at}, args) == kCudaOk);
    REQUIRE(same_bits(dst, wanted));
  }
}

TEST_CASE("cuda attention: a tree's tokens have the host's bits, whatever the tree, where it lies and how many are computed before") {
  std::mt19937 random(5);
  for (const KvType type : kTypes) {
    for (const size_t root : {0, 9, 127, 500, 511, 512}) check_tree(tree_of(17, 3, random), 0, root, {0, 3, 1, 32, type});
    check_tree(tree_of(32, 31, random), 0, 100, {0, 4, 2, 64, type});
    check_tree(tree_of(32, 1, random), 0, 490, {0, 2, 2, 32, type});
    check_tree(tree_of(32, 5, random), 11, 495, {0, 8, 1, 32, type});
    check_tree(tree_of(5, 3, random), 4, 1300, {0, 1, 1, 32, type});
    check_tree(tree_of(1, 1, random), 0, 40, {0, 2, 1, 96, type});
  }
  for (const size_t head_dim : {7, 100, 1024}) check_tree(tree_of(9, 2, random), 0, 508, {0, 2, 1, head_dim, KvType::kF16});
}

TEST_CASE("cuda attention: scores far apart, infinite, or not numbers") {
  for (const KvType type : kTypes) {
    Sequence sequence({1060, 2, 1, 32, type});
    std::fill(sequence.q.begin(), sequence.q.end(), 10.0f);
    std::fill(sequence.k.begin(), sequence.k.end(), -1.0f);
    std::fill_n(sequence.k.begin() + 1052 * 32, 32, 10.0f);
    sequence.q[1054 * 64 + 5] = std::numeric_limits<float>::quiet_NaN();
    sequence.q[1055 * 64 + 40] = -std::numeric_limits<float>::infinity();
    sequence.q[1056 * 64 + 40] = 1e-36f;
    std::fill_n(sequence.q.begin() + 1057 * 64, 64, 0.0f);
    sequence.v[3] = std::numeric_limits<float>::infinity();
    // Scores of -inf alone, and then others.
    if (type != KvType::kQ8_0) std::fill_n(sequence.k.begin(), 600 * 32, -std::numeric_limits<float>::infinity());
    sequence.append(0, 1060);
    check(sequence, 1050);
  }
}

}  // namespace
}  // namespace outrigger::cuda
