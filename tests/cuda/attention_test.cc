// Attention by kernels: the bits of the host's, however the work is cut among blocks.
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
  const uint32_t* first_position_at = nullptr;
};

constexpr KvType kTypes[] = {KvType::kF16, KvType::kF32, KvType::kQ8_0};

std::vector<float> attend(const Sequence& sequence, const Case& c) {
  const size_t stride = sequence.q_stride() + 5, tokens = sequence.shape.positions - c.first_position;
  std::vector<float> dst(tokens * stride, 1e9f);
  const AlignedBytes scratch(attention_scratch_on_device(sequence.shape.head_dim));
  AttentionArgs args = sequence.args(c.first_position, sequence.shape.positions, dst.data(), scratch.data());
  args.dst_stride = stride;
  if (c.first_position_at != nullptr) args.first_position = 0;
  REQUIRE(launch_op({emulator::launch_only(), nullptr, c.multiprocessors, c.first_position_at}, args) == kCudaOk);
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
  for (const uint32_t multiprocessors : {0u, 1000u}) {
    for (const uint32_t* at : {static_cast<const uint32_t*>(nullptr), &position}) {
      CAPTURE(sequence.shape.positions, first_position, sequence.shape.heads, sequence.shape.kv_heads, sequence.shape.head_dim);
      CAPTURE(static_cast<int>(sequence.shape.type), multiprocessors, at != nullptr);
      REQUIRE(same_bits(attend(sequence, {sequence.shape, first_position, multiprocessors, at}), wanted));
    }
  }
}

void check(size_t first_position, size_t tokens, size_t group, size_t kv_heads, size_t head_dim, KvType type) {
  Sequence sequence({first_position + tokens, group * kv_heads, kv_heads, head_dim, type});
  sequence.append(0, sequence.shape.positions);
  check(sequence, first_position);
}

TEST_CASE("cuda attention: one token's bits are the host's, whatever the position, the group and the type") {
  for (const KvType type : kTypes) {
    for (const size_t first_position : {0, 3, 127, 128, 511, 512, 700, 1300}) check(first_position, 1, 3, 2, 64, type);
    for (const size_t group : {1, 2, 4, 5, 8}) check(600, 1, group, 2, 32, type);
    for (const size_t head_dim : {96, 128, 256}) check(600, 1, 4, 1, head_dim, type);
  }
}

TEST_CASE("cuda attention: so are many tokens', each of which sees one position more") {
  for (const KvType type : kTypes) {
    for (const size_t first_position : {0, 3, 120, 500, 512, 700}) check(first_position, 40, 3, 1, 32, type);
    for (const size_t tokens : {2, 5, 9, 33}) check(505, tokens, 4, 2, 32, type);
    check(509, 5, 8, 1, 128, type);
    check(509, 9, 1, 2, 256, type);
    check(0, 300, 1, 1, 32, type);
  }
}

TEST_CASE("cuda attention: heads of any width") {
  for (const KvType type : {KvType::kF16, KvType::kF32}) {
    for (const size_t head_dim : {1, 7, 8, 80, 100}) check(515, 3, 2, 2, head_dim, type);
  }
  check(130, 9, 2, 1, 1024, KvType::kF16);
}

TEST_CASE("cuda attention: results that no scratch could hold are folded block by block") {
  // 5 heads of 300 tokens and 12 parts are more than the scratch has room for.
  check(5700, 300, 5, 1, 4, KvType::kF16);
}

TEST_CASE("cuda attention: scores far apart, infinite, or not numbers") {
  for (const KvType type : kTypes) {
    Sequence sequence({1200, 2, 1, 32, type});
    std::fill(sequence.q.begin(), sequence.q.end(), 10.0f);
    std::fill(sequence.k.begin(), sequence.k.end(), -1.0f);
    std::fill_n(sequence.k.begin() + 1150 * 32, 32, 10.0f);
    sequence.q[1170 * 64 + 5] = std::numeric_limits<float>::quiet_NaN();
    sequence.q[1171 * 64 + 40] = -std::numeric_limits<float>::infinity();
    sequence.q[1172 * 64 + 40] = 1e-36f;
    std::fill_n(sequence.q.begin() + 1173 * 64, 64, 0.0f);
    sequence.v[3] = std::numeric_limits<float>::infinity();
    sequence.append(0, 1200);
    check(sequence, 1140);
    // Scores of -inf alone, and then others.
    std::fill_n(sequence.k.begin(), 600 * 32, -std::numeric_limits<float>::infinity());
    sequence.append(0, 1200);
    check(sequence, 590);
  }
}

}  // namespace
}  // namespace outrigger::cuda
