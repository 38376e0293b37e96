// Attention: the definition against the textbook formula, each level against the definition, bit for bit, and what a query's bits may
// depend on.
#include "src/kernels/attention.h"

#include <limits>

#include "tests/kernels/attention_case.h"
#include "tests/support/catch.h"
#include "tests/support/few_cases.h"

namespace outrigger {
namespace {

std::unique_ptr<ThreadTeam> team_of(size_t threads) { return std::move(ThreadTeam::create(threads)).value(); }

constexpr KvType kTypes[] = {KvType::kF16, KvType::kF32, KvType::kQ8_0};

// Normal values are below 5: 2e-6 of the largest, as the header says, and 2e-5 where the query is rounded too.
double bound(KvType type) { return type == KvType::kQ8_0 ? 1e-4 : 1e-5; }

double largest_difference(const float* values, const std::vector<double>& truth) {
  double worst = 0;
  for (size_t d = 0; d < truth.size(); ++d) worst = std::max(worst, std::isfinite(values[d]) ? std::fabs(values[d] - truth[d]) : 1e9);
  return worst;
}

TEST_CASE("Attention: the definition is the textbook softmax, and the bound notices one position more or less") {
  for (const KvType type : kTypes) {
    for (const size_t positions : {size_t{1}, size_t{40}, size_t{129}, 2 * kPartPositions + 3}) {
      if (kIsSanitized && positions > kPartPositions) continue;  // every query of them takes the definition its time
      Sequence sequence({positions, 4, 2, 32, type});
      sequence.append(0, positions);
      const std::vector<float> defined = sequence.defined(0, positions);
      for (const size_t token : {size_t{0}, positions / 2, positions - 1}) {
        for (const size_t head : {0, 1, 3}) {
          const std::vector<double> truth = sequence.exact(token, head);
          CAPTURE(static_cast<int>(type), positions, token, head);
          REQUIRE(largest_difference(&defined[(token * 4 + head) * 32], truth) < bound(type));
          if (token > 0) REQUIRE(largest_difference(&defined[((token - 1) * 4 + head) * 32], truth) > bound(type));
        }
      }
    }
  }
}

struct Case {
  AttentionShape shape;
  size_t batch;  ///< tokens of the last call
};

// Around the boundaries of lanes, position blocks and parts, with heads and widths of every kind; few enough for the plain twin.
std::vector<Case> sweep() {
  constexpr size_t kPositions[] = {1,   2,   15,  16,  17,   31,   33,   127,  128,  129,  255,  257,
                                   511, 512, 513, 700, 1023, 1024, 1025, 1535, 1537, 2048, 2049, 3000};
  constexpr size_t kDims[] = {8, 32, 64, 80, 96, 100, 128, 256};
  constexpr size_t kBatches[] = {1, 2, 3, 7, 8, 9, 16, 31, 32, 33};
  constexpr size_t kMostWork = kIsSanitized ? 500'000 : 4'000'000;
  std::mt19937 random(7);
  const auto any = [&random](const auto& list) { return list[random() % std::size(list)]; };
  std::vector<Case> cases;
  for (const size_t positions : kPositions) {
    for (int i = 0; i < (kIsSanitized ? 1 : 4); ++i) {
      Case c{{positions, 1, 1 + random() % 4, any(kDims), any(kTypes)}, std::min(positions, any(kBatches))};
      if (!kv_type_fits(c.shape.type, c.shape.head_dim)) c.shape.type = KvType::kF16;
      c.shape.heads = c.shape.kv_heads * (1 + random() % 9);
      while (c.batch > 1 && c.batch * c.shape.heads * positions * c.shape.head_dim > kMostWork) c.batch /= 2;
      cases.push_back(c);
    }
  }
  return cases;
}

TEST_CASE("Attention: every level has the definition's bits, however many threads share the work") {
  std::unique_ptr<ThreadTeam> teams[] = {team_of(1), team_of(2), team_of(3), team_of(7)};
  for (const Case& c : sweep()) {
    Sequence sequence(c.shape);
    sequence.append(0, c.shape.positions);
    const size_t begin = c.shape.positions - c.batch;
    const std::vector<float> defined = sequence.defined(begin, c.shape.positions);
    for (const SimdLevel level : levels()) {
      const AtLevel at(level);
      for (const std::unique_ptr<ThreadTeam>& team : teams) {
        if (level == SimdLevel::kNone && team->threads() != 2) continue;  // slow, and shared as the others are
        CAPTURE(team->threads(), c.shape.positions, c.shape.heads, c.shape.kv_heads, c.shape.head_dim, c.batch);
        CAPTURE(simd_level_name(level), static_cast<int>(c.shape.type));
        REQUIRE(same_bits(sequence.attend(begin, c.shape.positions, *team), defined));
      }
    }
  }
}

TEST_CASE("Attention: a query's bits do not depend on the queries beside it, nor on later positions") {
  const std::unique_ptr<ThreadTeam> team = team_of(2);
  for (const KvType type : kTypes) {
    for (const AttentionShape& shape : {AttentionShape{1100, 6, 2, 64, type}, {600, 3, 3, 96, type}, {70, 14, 2, 32, type}}) {
      if (kIsSanitized && shape.positions > 1000) continue;
      for (const SimdLevel level : levels()) {
        if (level == SimdLevel::kNone) continue;  // the case above ties it to the others
        const AtLevel at(level);
        CAPTURE(shape.positions, shape.heads, shape.head_dim, static_cast<int>(type), simd_level_name(level));
        Sequence together(shape), growing(shape);
        together.append(0, shape.positions);
        const std::vector<float> all = together.attend(0, shape.positions, *team);
        // In steps of many sizes, one token at a time among them; the cache then holds NaN beyond each step.
        size_t done = 0;
        for (size_t i = 0; done < shape.positions; ++i) {
          constexpr size_t kSteps[] = {1, 1, 2, 8, 1, 33, 5, 128};
          const size_t end = std::min(shape.positions, done + kSteps[i % std::size(kSteps)]);
          growing.append(done, end);
          const std::vector<float> step = growing.attend(done, end, *team);
          CAPTURE(done, end);
          REQUIRE(same_bits(step, {&all[done * together.q_stride()], &all[done * together.q_stride()] + step.size()}));
          done = end;
        }
        REQUIRE(growing.k_cache == together.k_cache);
        REQUIRE(growing.v_cache == together.v_cache);
      }
    }
  }
}

TEST_CASE("Attention: results that do not fit the slots at once are folded in waves to the same bits") {
  const std::unique_ptr<ThreadTeam> team = team_of(3);
  for (const AttentionShape& shape : {AttentionShape{12000, 24, 1, 8}, {9000, 7, 7, 8}, {6000, 34, 2, 8}}) {
    for (const size_t batch : {1, 5}) {
      if (kIsSanitized && batch > 1) continue;
      Sequence sequence(shape);
      sequence.append(0, shape.positions);
      const std::vector<float> defined = sequence.defined(shape.positions - batch, shape.positions);
      const AttentionCut cut(sequence.args(shape.positions - batch, shape.positions, nullptr, nullptr), 3);
      CAPTURE(shape.heads, batch, cut.waves());
      REQUIRE(cut.is_split);
      if (batch == 5 || shape.heads == 24) REQUIRE(cut.waves() > 1);
      for (const SimdLevel level : levels()) {
        const AtLevel at(level);
        REQUIRE(same_bits(sequence.attend(shape.positions - batch, shape.positions, *team), defined));
      }
    }
  }
}

TEST_CASE("Attention: scores far apart and equal scores are exact") {
  const std::unique_ptr<ThreadTeam> team = team_of(2);
  for (const SimdLevel level : levels()) {
    const AtLevel at(level);
    Sequence sequence({1200, 1, 1, 32});
    // Position 1150 alone matters to the last query, whose score there is 560 higher; all positions before it must be forgotten.
    std::fill(sequence.q.begin(), sequence.q.end(), 10.0f);
    std::fill(sequence.k.begin(), sequence.k.end(), 0.0f);
    std::fill_n(sequence.k.begin() + 1150 * 32, 32, 10.0f);
    sequence.append(0, 1200);
    const std::vector<float> last = sequence.attend(1199, 1200, *team);
    for (size_t d = 0; d < 32; ++d) REQUIRE(last[d] == f16_to_float(float_to_f16(sequence.v[1150 * 32 + d])));
    // Before it all scores are 0: the mean of the values.
    const std::vector<float> middle = sequence.attend(1099, 1100, *team);
    double mean = 0;
    for (size_t p = 0; p < 1100; ++p) mean += f16_to_float(float_to_f16(sequence.v[p * 32])) / 1100.0;
    REQUIRE(std::fabs(middle[0] - mean) < 1e-6);
  }
}

TEST_CASE("Attention: an undefined key spoils the queries that see it and no others") {
  const std::unique_ptr<ThreadTeam> team = team_of(2);
  for (const KvType type : kTypes) {
    for (const SimdLevel level : levels()) {
      const AtLevel at(level);
      for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        Sequence sequence({70, 2, 1, 32, type});
        sequence.append(0, 70);
        const std::vector<float> good = sequence.attend(0, 70, *team);
        sequence.k[66 * 32 + 5] = wrong;
        sequence.q[66 * 64 + 5] = std::fabs(sequence.q[66 * 64 + 5]);
        sequence.append(66, 67);
        const std::vector<float> dst = sequence.attend(0, 70, *team);
        REQUIRE(std::equal(dst.begin(), dst.begin() + 66 * 64, good.begin()));
        if (std::isnan(wrong)) {
          for (size_t i = 66 * 64; i < 70 * 64; ++i) REQUIRE(std::isnan(dst[i]));
        } else {
          REQUIRE(std::isnan(dst[66 * 64]));
        }
      }
    }
  }
}

}  // namespace
}  // namespace outrigger
