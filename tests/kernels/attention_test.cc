// Attention and the key-value cache: the definition against a naive softmax, each level against the definition, bit for bit, and what a
// query's bits may depend on.
#include "src/kernels/attention.h"

#include <cmath>
#include <limits>

#include "tests/kernels/kernel_case.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

// A sequence of `positions` tokens with their queries, keys and values, and the cache that holds them.
struct Sequence {
  size_t positions, heads, kv_heads, head_dim, capacity;
  std::vector<float> q, k, v;
  std::vector<uint16_t> k_cache, v_cache;

  Sequence(size_t positions, size_t heads, size_t kv_heads, size_t head_dim)
      : positions(positions),
        heads(heads),
        kv_heads(kv_heads),
        head_dim(head_dim),
        capacity(kv_positions(positions + 3)),
        q(normal_floats(positions * heads * head_dim, 1)),
        k(normal_floats(positions * kv_heads * head_dim, 2)),
        v(normal_floats(positions * kv_heads * head_dim, 3)),
        // NaN where nothing was stored: it must never be seen.
        k_cache(kv_heads * capacity * head_dim, 0x7e00),
        v_cache(kv_heads * capacity * head_dim, 0x7e00) {}

  void append(size_t begin, size_t end) {
    const size_t stride = kv_heads * head_dim;
    const AppendKvArgs args = {k.data() + begin * stride,
                               v.data() + begin * stride,
                               stride,
                               stride,
                               k_cache.data(),
                               v_cache.data(),
                               end - begin,
                               kv_heads,
                               head_dim,
                               capacity,
                               begin};
    append_kv(args, 0, 1);
    append_kv(args, 1, kv_heads);
  }

  using Version = void (*)(const AttentionArgs&, size_t, size_t, size_t);
  std::vector<float> attend(size_t begin, size_t end, Version version = attention, size_t pieces = 1) const {
    const size_t stride = heads * head_dim;
    std::vector<float> dst((end - begin) * stride, 1e9f);
    const uint64_t scratch_bytes = attention_scratch_bytes(head_dim);
    const AlignedBytes scratch(pieces * scratch_bytes);
    const AttentionArgs args = {q.data() + begin * stride,
                                stride,
                                k_cache.data(),
                                v_cache.data(),
                                dst.data(),
                                stride,
                                end - begin,
                                heads,
                                kv_heads,
                                head_dim,
                                capacity,
                                begin,
                                1 / std::sqrt(static_cast<float>(head_dim)),
                                scratch.data(),
                                scratch_bytes};
    const size_t items = attention_items(args);
    for (size_t i = 0; i < pieces; ++i) version(args, items * i / pieces, items * (i + 1) / pieces, i);
    return dst;
  }

  // The textbook formula in double on the float16 values, for one token and head.
  std::vector<double> naive(size_t token, size_t head) const {
    const size_t kv = head / (heads / kv_heads);
    const auto half = [](float x) { return double{f16_to_float(float_to_f16(x))}; };
    std::vector<double> weights(token + 1), sum(head_dim);
    double total = 0;
    for (size_t p = 0; p <= token; ++p) {
      for (size_t d = 0; d < head_dim; ++d)
        weights[p] += q[(token * heads + head) * head_dim + d] * half(k[(p * kv_heads + kv) * head_dim + d]);
      weights[p] = std::exp(weights[p] / std::sqrt(static_cast<double>(head_dim)));
      total += weights[p];
    }
    for (size_t p = 0; p <= token; ++p) {
      for (size_t d = 0; d < head_dim; ++d) sum[d] += weights[p] / total * half(v[(p * kv_heads + kv) * head_dim + d]);
    }
    return sum;
  }
};

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::isfinite(a[i]) ? std::fabs(double{a[i]} - b[i]) : 1e9);
  return worst;
}

struct Shape {
  size_t positions, heads, kv_heads, head_dim;
};
constexpr Shape kShapes[] = {{1, 2, 2, 64}, {130, 9, 3, 64}, {70, 4, 2, 128}, {65, 14, 2, 64},
                             {40, 2, 2, 8}, {33, 3, 3, 80},  {50, 8, 2, 100}, {300, 4, 2, 16}};

// Normal values are below 5: 2e-6 of the largest, as the header says.
constexpr double kBound = 1e-5;

TEST_CASE("Attention: every level has the definition's bits, for prefill and for single tokens") {
  for (const Shape& shape : kShapes) {
    Sequence sequence(shape.positions, shape.heads, shape.kv_heads, shape.head_dim);
    sequence.append(0, shape.positions);
    const std::vector<float> truth = sequence.attend(0, shape.positions, attention_ref);
    const size_t stride = shape.heads * shape.head_dim;
    for (SimdLevel level : levels()) {
      const AtLevel at(level);
      CAPTURE(shape.positions, shape.heads, shape.head_dim, simd_level_name(level));
      REQUIRE(same_bits(sequence.attend(0, shape.positions), truth));
      const std::vector<float> last = sequence.attend(shape.positions - 1, shape.positions);
      REQUIRE(same_bits(last, {truth.end() - static_cast<std::ptrdiff_t>(stride), truth.end()}));
    }
  }
}

TEST_CASE("Attention: the definition is the textbook softmax, and the bound notices one position more or less") {
  Sequence sequence(40, 4, 2, 32);
  sequence.append(0, 40);
  const std::vector<float> truth = sequence.attend(0, 40, attention_ref);
  for (size_t token : {0, 7, 39}) {
    for (size_t head : {0, 1, 3}) {
      const std::vector<double> naive = sequence.naive(token, head);
      for (size_t d = 0; d < 32; ++d) REQUIRE(std::fabs(naive[d] - truth[(token * 4 + head) * 32 + d]) < kBound);
    }
  }
  // The same queries, told that they stand one position earlier, miss their own key.
  std::vector<float> dst(4 * 32);
  const AlignedBytes scratch(attention_scratch_bytes(32));
  const AttentionArgs early = {&sequence.q[39 * 128], 128, sequence.k_cache.data(), sequence.v_cache.data(), dst.data(), 128, 1, 4, 2, 32,
                               sequence.capacity,     38,  1 / std::sqrt(32.0f),    scratch.data(),          0};
  attention(early, 0, attention_items(early), 0);
  REQUIRE(largest_difference(dst, {truth.end() - 128, truth.end()}) > kBound);
}

TEST_CASE("Attention: a query's bits do not depend on the queries beside it, on later positions or on the threads") {
  for (const Shape& shape : kShapes) {
    for (SimdLevel level : levels()) {
      const AtLevel at(level);
      Sequence sequence(shape.positions, shape.heads, shape.kv_heads, shape.head_dim);
      sequence.append(0, shape.positions);
      const std::vector<float> together = sequence.attend(0, shape.positions);
      REQUIRE(sequence.attend(0, shape.positions, attention, 3) == together);

      // Token by token, as decoding would: the cache then holds NaN beyond each query.
      Sequence growing(shape.positions, shape.heads, shape.kv_heads, shape.head_dim);
      const size_t stride = shape.heads * shape.head_dim;
      for (size_t t = 0; t < shape.positions; ++t) {
        growing.append(t, t + 1);
        CAPTURE(shape.positions, shape.heads, shape.head_dim, simd_level_name(level), t);
        REQUIRE(growing.attend(t, t + 1) == std::vector<float>(&together[t * stride], &together[t * stride] + stride));
      }
      REQUIRE(growing.k_cache == sequence.k_cache);
      REQUIRE(growing.v_cache == sequence.v_cache);
    }
  }
}

TEST_CASE("Attention: scores far apart and equal scores are exact") {
  for (SimdLevel level : levels()) {
    const AtLevel at(level);
    Sequence sequence(200, 1, 1, 16);
    // Position 150 alone matters to the last query, whose score there is 400 higher; the first 150 positions must be forgotten.
    std::fill(sequence.q.begin(), sequence.q.end(), 10.0f);
    std::fill(sequence.k.begin(), sequence.k.end(), 0.0f);
    std::fill_n(sequence.k.begin() + 150 * 16, 16, 10.0f);
    sequence.append(0, 200);
    const std::vector<float> last = sequence.attend(199, 200);
    for (size_t d = 0; d < 16; ++d) REQUIRE(last[d] == f16_to_float(float_to_f16(sequence.v[150 * 16 + d])));
    // Before it all scores are 0: the mean of the values.
    const std::vector<float> middle = sequence.attend(99, 100);
    double mean = 0;
    for (size_t p = 0; p < 100; ++p) mean += f16_to_float(float_to_f16(sequence.v[p * 16])) / 100;
    REQUIRE(std::fabs(middle[0] - mean) < 1e-6);
  }
}

TEST_CASE("Attention: an undefined key spoils the queries that see it and no others") {
  for (SimdLevel level : levels()) {
    const AtLevel at(level);
    Sequence sequence(70, 2, 1, 32);
    sequence.append(0, 70);
    const std::vector<float> good = sequence.attend(0, 70);
    sequence.k[66 * 32 + 5] = std::numeric_limits<float>::quiet_NaN();
    sequence.append(66, 67);
    const std::vector<float> dst = sequence.attend(0, 70);
    REQUIRE(std::equal(dst.begin(), dst.begin() + 66 * 64, good.begin()));
    for (size_t i = 66 * 64; i < 70 * 64; ++i) REQUIRE(std::isnan(dst[i]));
  }
}

TEST_CASE("AppendKv: every level stores the definition's bits, rounded to nearest, large values as infinity") {
  for (size_t head_dim : {8, 16, 64, 100}) {
    Sequence base(37, 2, 2, head_dim);
    base.k[3] = 70000;
    base.k[4] = -65519;
    base.v[5] = 1e-6f;
    base.v[6] = 1e-30f;
    base.v[7] = 65520;
    Sequence truth = base;
    {
      const AtLevel at(SimdLevel::kNone);
      truth.append(0, 20);
      truth.append(20, 37);
    }
    REQUIRE(truth.k_cache[3 * kKvInterleave] == 0x7c00);
    REQUIRE(truth.k_cache[4 * kKvInterleave] == 0xfbff);
    REQUIRE(truth.v_cache[7] == 0x7c00);
    for (SimdLevel level : levels()) {
      const AtLevel at(level);
      Sequence sequence = base;
      sequence.append(0, 37);
      CAPTURE(head_dim, simd_level_name(level));
      REQUIRE(sequence.k_cache == truth.k_cache);
      REQUIRE(sequence.v_cache == truth.v_cache);
    }
  }
}

}  // namespace
}  // namespace outrigger
