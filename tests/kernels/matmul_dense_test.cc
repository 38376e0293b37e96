// Matrix product of float weights: each version against the definition bit by bit, the definition against double precision, rounding to
// bf16, and numbers at the ends of the range.
#include "src/kernels/matmul_dense.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "src/kernels/bf16_activations.h"
#include "tests/kernels/kernel_case.h"
#include "tests/support/catch.h"

#if defined(__SSE__)
#include <immintrin.h>
#endif

namespace outrigger {
namespace {

constexpr float kUntouched = -12345.5f;
constexpr PackedKind kDenseKinds[] = {PackedKind::kF32, PackedKind::kF16, PackedKind::kBF16};
using Version = void (*)(const MatmulArgs&, size_t, size_t);

// A way to compute: kind and activations.
struct Path {
  PackedKind kind;
  bool is_rounded;  // to bf16
};
constexpr Path kPaths[] = {{PackedKind::kF32, false}, {PackedKind::kF16, false}, {PackedKind::kBF16, false}, {PackedKind::kBF16, true}};

struct Product {
  const PackedMatrix& weights;
  std::vector<float> src;
  size_t tokens;

  Product(const PackedMatrix& weights, size_t tokens, unsigned seed = 7)
      : weights(weights), src(normal_floats(tokens * weights.columns, seed)), tokens(tokens) {}

  size_t stride() const { return weights.rows + 2; }

  // Tokens [begin, end) in `pieces` calls over the row blocks; two elements beyond each row stay untouched.
  std::vector<float> run(Version version, bool is_rounded, size_t begin, size_t end, size_t pieces = 1, bool accumulate = false) const {
    const size_t columns = weights.columns, blocks = matmul_blocks(weights.rows);
    AlignedBytes panel(bf16_panel_bytes(end - begin, columns));
    round_activations({src.data() + begin * columns, columns, panel.data(), columns}, 0, end - begin);
    std::vector<float> dst((end - begin) * stride(), kUntouched);
    const MatmulArgs args = {weights.kind,
                             weights.bytes.data(),
                             weights.rows,
                             columns,
                             src.data() + begin * columns,
                             columns,
                             is_rounded ? panel.data() : nullptr,
                             dst.data(),
                             stride(),
                             end - begin,
                             accumulate};
    for (size_t i = 0; i < pieces; ++i) version(args, blocks * i / pieces, blocks * (i + 1) / pieces);
    return dst;
  }
};

bool same_bits(const std::vector<float>& a, const float* b) { return std::memcmp(a.data(), b, a.size() * 4) == 0; }

// Every version this machine can run of a path, the definition left out.
struct NamedVersion {
  const char* name;
  Version version;
};
std::vector<NamedVersion> fast_versions([[maybe_unused]] const Path& path) {
  std::vector<NamedVersion> all;
#if defined(OTR_KERNELS_AVX2)
  if (best_simd_level() >= SimdLevel::kAvx2) all.push_back({"avx2", matmul_dense_avx2});
#endif
#if defined(OTR_KERNELS_AVX512)
  if (best_simd_level() >= SimdLevel::kAvx512) {
    all.push_back({"avx512", matmul_dense_avx512});
    if (path.is_rounded) all.push_back({"avx512 without the dot product of pairs", matmul_bf16_avx512});
  }
#endif
  all.push_back({"the one in use", matmul});
  return all;
}

TEST_CASE("Dense: every version gives the bits of the definition at every number of tokens") {
  constexpr size_t kMost = 33, kRows = 47;
  for (const Path& path : kPaths) {
    for (size_t columns : {63, 640}) {
      const PackedMatrix weights(path.kind, kRows, columns);
      const Product product(weights, kMost);
      const std::vector<float> truth = product.run(matmul_ref, path.is_rounded, 0, kMost);
      for (const NamedVersion& fast : fast_versions(path)) {
        for (size_t tokens = 1; tokens <= kMost; ++tokens) {
          CAPTURE(static_cast<int>(path.kind), path.is_rounded, columns, fast.name, tokens);
          REQUIRE(same_bits(product.run(fast.version, path.is_rounded, 0, tokens, 1 + tokens % 3), truth.data()));
        }
      }
    }
  }
}

TEST_CASE("Dense: every version gives the bits of the definition at odd widths and heights, and writes nothing beyond the rows") {
  for (const Path& path : kPaths) {
    for (size_t columns : {1, 2, 3, 4, 5, 31, 32, 33, 129, 577, 2051}) {  // the last in several parts for any kind
      for (size_t rows : {1, 15, 16, 17, 31, 33, 65}) {
        if (columns > 577 && rows != 33) continue;  // the definition takes its time
        const PackedMatrix weights(path.kind, rows, columns);
        const Product product(weights, 17);
        const std::vector<float> truth = product.run(matmul_ref, path.is_rounded, 0, 17);
        REQUIRE(truth[rows] == kUntouched);
        for (const NamedVersion& fast : fast_versions(path)) {
          CAPTURE(static_cast<int>(path.kind), path.is_rounded, columns, rows, fast.name);
          for (size_t tokens : {1, 3, 8, 17}) {
            REQUIRE(same_bits(product.run(fast.version, path.is_rounded, 0, tokens, 2), truth.data()));
          }
        }
      }
    }
  }
}

TEST_CASE("Dense: a token's bits do not depend on its neighbours, its place in a tile or chunk, or the threads") {
  constexpr size_t kTokens = 141;  // more than one chunk of 128 and an odd rest
  for (const Path& path : kPaths) {
    const PackedMatrix weights(path.kind, 81, 321);
    const Product product(weights, kTokens);
    for (const NamedVersion& fast : fast_versions(path)) {
      const std::vector<float> together = product.run(fast.version, path.is_rounded, 0, kTokens);
      for (size_t pieces : {2, 3, 5}) {
        REQUIRE(same_bits(product.run(fast.version, path.is_rounded, 0, kTokens, pieces), together.data()));
      }
      for (size_t t : {0, 5, 7, 127, 128, 140}) {
        for (size_t count : {1, 2, 11}) {
          if (t + count > kTokens) continue;
          CAPTURE(static_cast<int>(path.kind), path.is_rounded, fast.name, t, count);
          REQUIRE(same_bits(product.run(fast.version, path.is_rounded, t, t + count, 2), &together[t * product.stride()]));
        }
      }
    }
  }
}

TEST_CASE("Dense: accumulating is one addition after the sum") {
  for (const Path& path : kPaths) {
    const PackedMatrix weights(path.kind, 35, 1031);
    const Product product(weights, 19);
    for (const NamedVersion& fast : fast_versions(path)) {
      std::vector<float> expected = product.run(fast.version, path.is_rounded, 0, 19);
      for (float& value : expected) value = value == kUntouched ? kUntouched : kUntouched + value;
      REQUIRE(product.run(fast.version, path.is_rounded, 0, 19, 1, true) == expected);
    }
  }
}

// The largest error against double precision on the exact activations, as a share of the sum of the products' magnitudes, which no order of
// adding makes smaller.
double relative_error(const Product& product, const PackedMatrix& truth_weights, bool is_rounded) {
  const PackedMatrix& weights = product.weights;
  const std::vector<float> dst = product.run(matmul_ref, is_rounded, 0, product.tokens);
  double worst = 0;
  for (size_t t = 0; t < product.tokens; ++t) {
    for (size_t r = 0; r < weights.rows; ++r) {
      const std::vector<float> row = truth_weights.row(r);
      double sum = 0, magnitude = 0;
      for (size_t k = 0; k < weights.columns; ++k) {
        const double term = double{row[k]} * product.src[t * weights.columns + k];
        sum += term;
        magnitude += std::fabs(term);
      }
      worst = std::max(worst, std::fabs(dst[t * product.stride() + r] - sum) / magnitude);
    }
  }
  return worst;
}

TEST_CASE("Dense: the definition is the product of the weights' values, and the bound would notice one wrong bit of an exponent") {
  for (PackedKind kind : kDenseKinds) {
    const PackedMatrix weights(kind, 17, 575);
    const Product product(weights, 3);
    PackedMatrix wrong(kind, 17, 575);
    const size_t element_bytes = kind == PackedKind::kF32 ? 4 : 2;
    wrong.bytes.data()[(40 * kPackRows + 3) * element_bytes + element_bytes - 1] ^= std::byte{0x02};
    CAPTURE(static_cast<int>(kind));
    // Two chains of 288 additions, each of at most half a unit in the last place of a sum that grows like a random walk.
    constexpr double kBound = 1e-6;
    REQUIRE(relative_error(product, weights, false) < kBound);
    REQUIRE(relative_error(product, wrong, false) > kBound);
  }
}

TEST_CASE("Dense: activations rounded to bf16 cost at most half a unit of their 8 bits, and not nothing") {
  const PackedMatrix weights(PackedKind::kBF16, 33, 575);
  const Product product(weights, 5);
  const double error = relative_error(product, weights, true);
  REQUIRE(error < 0x1p-9);   // each activation by at most 2^-9 of itself
  REQUIRE(error > 0x1p-15);  // 575 of them do not cancel so well: then they were not rounded
}

TEST_CASE("Dense: rounding to bf16 takes the nearest, the even one of two, and keeps what is not a number") {
  const float infinity = std::numeric_limits<float>::infinity();
  struct Case {
    float value;
    uint16_t bits;
  };
  const Case cases[] = {{0.0f, 0x0000},
                        {-0.0f, 0x8000},
                        {1.0f, 0x3f80},
                        {0x1.01p0f, 0x3f80},  // half way: the even one below
                        {0x1.03p0f, 0x3f82},  // half way: the even one above
                        {0x1.010002p0f, 0x3f81},
                        {-0x1.02ffp0f, 0xbf81},
                        {0x1.fffffep127f, 0x7f80},  // beyond the largest bf16
                        {0x1.fep127f, 0x7f7f},
                        {0x1p-126f, 0x0080},
                        {0x1.fffffcp-127f, 0x0000},  // subnormal
                        {-0x1p-149f, 0x8000},
                        {infinity, 0x7f80},
                        {-infinity, 0xff80},
                        {std::bit_cast<float>(0x7f800001u), 0x7fc0},
                        {std::bit_cast<float>(0xffffffffu), 0xffff}};
  constexpr size_t kCases = std::size(cases);
  std::vector<float> src(kCases);
  for (size_t i = 0; i < kCases; ++i) src[i] = cases[i].value;
  for (SimdLevel level : levels()) {
    const AtLevel at(level);
    AlignedBytes panel(bf16_panel_bytes(1, kCases));
    round_activations({src.data(), kCases, panel.data(), kCases}, 0, 1);
    for (size_t i = 0; i < kBf16PerLine; ++i) {
      uint16_t bits;
      std::memcpy(&bits, panel.data() + i * 2, 2);
      CAPTURE(simd_level_name(level), i);
      REQUIRE(bits == (i < kCases ? cases[i].bits : 0));
    }
  }
}

TEST_CASE("Dense: rounding gives the definition's bytes at every level, for any width and split") {
  std::mt19937 random(5);
  for (size_t width : {1, 7, 8, 9, 16, 31, 32, 33, 100, 577}) {
    std::vector<float> src(7 * width);
    for (float& value : src) value = std::bit_cast<float>(static_cast<uint32_t>(random()));  // subnormals and NaNs among them
    AlignedBytes truth(bf16_panel_bytes(7, width));
    round_activations_ref({src.data(), width, truth.data(), width}, 0, 7);
    for (SimdLevel level : levels()) {
      const AtLevel at(level);
      AlignedBytes panel(bf16_panel_bytes(7, width));
      round_activations({src.data(), width, panel.data(), width}, 0, 3);
      round_activations({src.data(), width, panel.data(), width}, 3, 7);
      CAPTURE(width, simd_level_name(level));
      REQUIRE(std::memcmp(panel.data(), truth.data(), truth.size()) == 0);
    }
  }
}

TEST_CASE("Dense: an infinite or undefined activation or weight spoils its own token or row alone, alike at every level") {
  for (const Path& path : kPaths) {
    for (float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      PackedMatrix weights(path.kind, 17, 67);
      Product product(weights, 9);
      const std::vector<float> good = product.run(matmul_ref, path.is_rounded, 0, 9);
      product.src[4 * 67 + 33] = bad;
      // Row 5, k = 66: the odd width's last.
      const uint32_t bits = std::bit_cast<uint32_t>(bad);
      const uint16_t half = static_cast<uint16_t>(path.kind == PackedKind::kF16 ? float_to_f16(bad) : bits >> 16);
      if (path.kind == PackedKind::kF32) {
        std::memcpy(weights.bytes.data() + (66 * kPackRows + 5) * 4, &bits, 4);
      } else {
        const size_t at = path.kind == PackedKind::kF16 ? (66 * kPackRows + 5) * 2 : (33 * kPackRows + 5) * 4;
        std::memcpy(weights.bytes.data() + at, &half, 2);
      }
      std::vector<NamedVersion> versions = fast_versions(path);
      versions.push_back({"definition", matmul_ref});
      for (const NamedVersion& version : versions) {
        const std::vector<float> dst = product.run(version.version, path.is_rounded, 0, 9);
        for (size_t t = 0; t < 9; ++t) {
          for (size_t r = 0; r < 17; ++r) {
            const size_t i = t * product.stride() + r;
            CAPTURE(static_cast<int>(path.kind), path.is_rounded, version.name, t, r);
            if (t == 4 || r == 5) {
              REQUIRE_FALSE(std::isfinite(dst[i]));
            } else {
              REQUIRE(std::memcmp(&dst[i], &good[i], 4) == 0);
            }
          }
        }
      }
    }
  }
}

#if defined(__SSE__)
// As inside a thread team's region.
class FlushSubnormals {
 public:
  FlushSubnormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
  ~FlushSubnormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
};

// Weights and activations so small that many are subnormal, and most products and sums too.
Product tiny_product(const PackedMatrix& weights, size_t tokens) {
  Product product(weights, tokens);
  for (size_t i = 0; i < product.src.size(); ++i) product.src[i] *= i % 3 == 0 ? 0x1p-127f : 0x1p-118f;
  return product;
}

TEST_CASE("Dense: subnormals, in operands, products and sums, give the same bits at every level where a team flushes them") {
  const FlushSubnormals flush;
  for (const Path& path : kPaths) {
    PackedMatrix weights(path.kind, 33, 131);
    if (path.kind == PackedKind::kBF16) {  // some subnormal weights: activations this small leave none of their products
      for (size_t i = 0; i < weights.bytes.size() / 2; i += 7) weights.bytes.data()[i * 2 + 1] &= std::byte{0x80};
    }
    const Product product = tiny_product(weights, 9);
    const std::vector<float> truth = product.run(matmul_ref, path.is_rounded, 0, 9);
    REQUIRE(std::count(truth.begin(), truth.end(), 0.0f) > 0);
    REQUIRE(std::count_if(truth.begin(), truth.end(), [](float x) { return x != 0 && x != kUntouched; }) > 0);
    for (const NamedVersion& fast : fast_versions(path)) {
      CAPTURE(static_cast<int>(path.kind), path.is_rounded, fast.name);
      REQUIRE(same_bits(product.run(fast.version, path.is_rounded, 0, 9), truth.data()));
    }
  }
}

TEST_CASE("Dense: where nothing flushes subnormals, versions differ by no more than what flushing loses") {
  for (const Path& path : kPaths) {
    const PackedMatrix weights(path.kind, 33, 131);
    const Product product = tiny_product(weights, 9);
    const std::vector<float> truth = product.run(matmul_ref, path.is_rounded, 0, 9);
    for (const NamedVersion& fast : fast_versions(path)) {
      CAPTURE(static_cast<int>(path.kind), path.is_rounded, fast.name);
      const std::vector<float> dst = product.run(fast.version, path.is_rounded, 0, 9);
      for (size_t i = 0; i < dst.size(); ++i) {
        // The processor's dot product of pairs sets each of 132 sums below 2^-126 to zero, and the rounding to bf16 is the same for all.
        REQUIRE(std::fabs(dst[i] - truth[i]) <= (path.is_rounded ? 132 * 0x1p-126f : 0));
      }
    }
  }
}
#endif

}  // namespace
}  // namespace outrigger
