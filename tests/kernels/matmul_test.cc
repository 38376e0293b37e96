// Matrix product: each version against the definition bit by bit, the definition against double precision on the weights' values, and what
// the bits may depend on.
#include "src/kernels/matmul.h"

#include <cmath>
#include <limits>

#include "src/kernels/activations.h"
#include "src/kernels/panel.h"
#include "src/tensor/packed_layout.h"
#include "tests/kernels/kernel_case.h"
#include "tests/support/catch.h"
#include "tests/support/few_cases.h"

namespace outrigger {
namespace {

constexpr float kUntouched = -12345.5f;

struct Product {
  const PackedMatrix& weights;
  std::vector<float> src;
  size_t tokens;

  Product(const PackedMatrix& weights, size_t tokens, unsigned seed = 7)
      : weights(weights), src(normal_floats(tokens * weights.columns, seed)), tokens(tokens) {}

  AlignedBytes panel(size_t token_begin, size_t token_end) const {
    AlignedBytes bytes(activation_panel_bytes(token_end - token_begin, weights.columns));
    quantize_activations_ref(
        {src.data() + token_begin * weights.columns, weights.columns, bytes.data(), token_end - token_begin, weights.columns}, 0,
        token_end - token_begin);
    return bytes;
  }

  // Tokens [token_begin, token_end) by `version`, in `pieces` calls over the row blocks; two elements beyond each row stay untouched.
  using Version = void (*)(const MatmulArgs&, size_t, size_t);
  std::vector<float> run(Version version, bool is_int8, size_t token_begin, size_t token_end, size_t pieces = 1,
                         bool accumulate = false) const {
    const AlignedBytes panel_bytes = panel(token_begin, token_end);
    const size_t stride = weights.rows + 2, blocks = matmul_blocks(weights.rows);
    std::vector<float> dst((token_end - token_begin) * stride, kUntouched);
    const MatmulArgs args = {weights.kind,
                             weights.bytes.data(),
                             weights.rows,
                             weights.columns,
                             src.data() + token_begin * weights.columns,
                             weights.columns,
                             is_int8 ? panel_bytes.data() : nullptr,
                             dst.data(),
                             stride,
                             token_end - token_begin,
                             accumulate};
    for (size_t i = 0; i < pieces; ++i) version(args, blocks * i / pieces, blocks * (i + 1) / pieces);
    return dst;
  }
};

// 1 if the same bits, so that a NaN equals itself.
bool same_bits(const float* a, const float* b, size_t count) { return std::memcmp(a, b, count * 4) == 0; }

std::vector<bool> paths(PackedKind kind) {
  return takes_int8_activations(kind) ? std::vector<bool>{false, true} : std::vector<bool>{false};
}

TEST_CASE("Matmul: every level gives the bits of the definition at every number of tokens") {
  constexpr size_t kMost = 33, kRows = 31;
  for (PackedKind kind : kAllKinds) {
    for (size_t columns : {96, 160, 512}) {
      if (columns != whole_columns(kind, columns) || (columns == 512 && whole_columns(kind, 1) != 256)) continue;
      const PackedMatrix weights(kind, kRows, columns);
      const Product product(weights, kMost);
      for (bool is_int8 : paths(kind)) {
        const std::vector<float> truth = product.run(matmul_ref, is_int8, 0, kMost);
        for (SimdLevel level : levels()) {
          const AtLevel at(level);
          for (size_t tokens = 1; tokens <= kMost; tokens += kIsSanitized ? 4 : 1) {
            CAPTURE(static_cast<int>(kind), columns, is_int8, simd_level_name(level), tokens);
            const std::vector<float> dst = product.run(matmul, is_int8, 0, tokens);
            REQUIRE(same_bits(dst.data(), truth.data(), dst.size()));
          }
        }
      }
    }
  }
}

TEST_CASE("Matmul: every level gives the bits of the definition at every shape, and writes nothing beyond the rows") {
  for (PackedKind kind : kAllKinds) {
    for (size_t columns : {32, 64, 96, 160, 256, 576, 768, 1536}) {
      if (columns != whole_columns(kind, columns)) continue;
      for (size_t rows : {1, 15, 16, 17, 31, 48, 577}) {
        if (rows * columns > 577 * 160 && rows > 48) continue;  // the definition takes its time
        if (kIsSanitized && (rows == 15 || rows == 31 || rows == 48 || columns > 256)) continue;
        const PackedMatrix weights(kind, rows, columns);
        const Product product(weights, 9);
        for (bool is_int8 : paths(kind)) {
          const std::vector<float> truth = product.run(matmul_ref, is_int8, 0, 9);
          REQUIRE(truth[rows] == kUntouched);
          for (SimdLevel level : levels()) {
            const AtLevel at(level);
            CAPTURE(static_cast<int>(kind), columns, rows, is_int8, simd_level_name(level));
            for (size_t tokens : {1, 2, 9}) {
              const std::vector<float> dst = product.run(matmul, is_int8, 0, tokens, 3);
              REQUIRE(same_bits(dst.data(), truth.data(), dst.size()));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("Matmul: a token's bits do not depend on its neighbours, its place in a tile or chunk, or the threads") {
  constexpr size_t kTokens = 141;  // more than one chunk of 128 and an odd rest
  for (PackedKind kind : kAllKinds) {
    const PackedMatrix weights(kind, 33, whole_columns(kind, 96));
    const Product product(weights, kTokens);
    const size_t stride = weights.rows + 2;
    for (bool is_int8 : paths(kind)) {
      for (SimdLevel level : levels()) {
        const AtLevel at(level);
        const std::vector<float> together = product.run(matmul, is_int8, 0, kTokens);
        for (size_t t : {0, 5, 7, 8, 127, 128, 140}) {
          CAPTURE(static_cast<int>(kind), is_int8, simd_level_name(level), t);
          REQUIRE(product.run(matmul, is_int8, t, t + 1, 2) == std::vector<float>(&together[t * stride], &together[(t + 1) * stride]));
        }
      }
    }
  }
}

TEST_CASE("Matmul: accumulating is one addition after the sum") {
  for (PackedKind kind : kAllKinds) {
    const PackedMatrix weights(kind, 19, whole_columns(kind, 64));
    const Product product(weights, 11);
    for (bool is_int8 : paths(kind)) {
      for (SimdLevel level : levels()) {
        const AtLevel at(level);
        std::vector<float> expected = product.run(matmul, is_int8, 0, 11);
        for (float& value : expected) value = value == kUntouched ? kUntouched : kUntouched + value;
        REQUIRE(product.run(matmul, is_int8, 0, 11, 1, true) == expected);
      }
    }
  }
}

// The values the int8 path multiplies with.
std::vector<float> quantised(const AlignedBytes& panel, size_t tokens, size_t width, size_t t) {
  std::vector<float> values(width);
  const PanelToken token(panel.data(), tokens, width, t);
  for (size_t k = 0; k < width; ++k) {
    int8_t code;
    float scale;
    std::memcpy(&code, token.codes(k / kGroup) + k % kGroup, 1);
    std::memcpy(&scale, token.scale(k / kGroup), 4);
    values[k] = static_cast<float>(code) * scale;
  }
  return values;
}

// The largest error of the definition, as a share of the sum of the products' magnitudes, which no order of adding makes smaller.
double relative_error(const Product& product, const PackedMatrix& truth_weights, bool is_int8) {
  const PackedMatrix& weights = product.weights;
  const std::vector<float> dst = product.run(matmul_ref, is_int8, 0, product.tokens);
  const AlignedBytes panel = product.panel(0, product.tokens);
  double worst = 0;
  for (size_t t = 0; t < product.tokens; ++t) {
    const std::vector<float> src = is_int8 ? quantised(panel, product.tokens, weights.columns, t)
                                           : std::vector<float>(&product.src[t * weights.columns], &product.src[(t + 1) * weights.columns]);
    for (size_t r = 0; r < weights.rows; ++r) {
      const std::vector<float> row = truth_weights.row(r);
      double sum = 0, magnitude = 0;
      for (size_t k = 0; k < weights.columns; ++k) {
        sum += double{row[k]} * src[k];
        magnitude += std::fabs(double{row[k]} * src[k]);
      }
      worst = std::max(worst, std::fabs(dst[t * (weights.rows + 2) + r] - sum) / magnitude);
    }
  }
  return worst;
}

TEST_CASE("Matmul: the definition is the product of the weights' values, and the bound would notice one wrong code") {
  for (PackedKind kind : kAllKinds) {
    const size_t columns = whole_columns(kind, 576);
    const PackedMatrix weights(kind, 17, columns);
    const Product product(weights, 3);
    PackedMatrix wrong(kind, 17, columns);
    // One byte of row 3, k = 40: in its middle nibble or its exponent, so that every kind changes by at least a step.
    const size_t at = kind == PackedKind::kF32                                ? (40 * 16 + 3) * 4 + 3
                      : kind == PackedKind::kF16 || kind == PackedKind::kBF16 ? (40 * 16 + 3) * 2 + 1
                                                                              : find_group_layout(kind)->codes_at(0) + 3 * 4;
    wrong.bytes.data()[at] ^= std::byte{0x22};
    for (bool is_int8 : paths(kind)) {
      CAPTURE(static_cast<int>(kind), is_int8);
      // 576 additions in float, each of at most half a unit in the last place of a sum that grows like a random walk.
      constexpr double kBound = 2e-6;
      REQUIRE(relative_error(product, weights, is_int8) < kBound);
      REQUIRE(relative_error(product, wrong, is_int8) > kBound);
    }
  }
}

// Blocks of one repeated byte, which makes the largest codes and scales of either sign, under float16 scales and minima of 1 or -1 and any
// exponent: where 16 bits saturate, they do here.
TEST_CASE("Matmul: every level gives the bits of the definition for the largest codes, scales and activations") {
  constexpr size_t kRows = 16, kTokens = 5;
  for (PackedKind kind : kAllKinds) {
    if (!takes_int8_activations(kind)) continue;
    const size_t columns = whole_columns(kind, 96), block = traits(file_type(kind)).block_bytes;
    for (int fill : {0x00, 0xff, 0x7f, 0x80, 0x0f, 0xf0, 0x1f, 0x55, 0xaa}) {
      std::vector<std::byte> file(kRows * *row_bytes(file_type(kind), columns), static_cast<std::byte>(fill));
      for (size_t i = 0; i < file.size() / block; ++i) {
        const std::byte one[2] = {std::byte{0}, static_cast<std::byte>(i % 2 ? 0x3c : 0xbc)};
        for (size_t place : float16_places(kind)) std::memcpy(&file[i * block + place], one, 2);
        if (kind == PackedKind::kMXFP4) file[i * block] = static_cast<std::byte>(i % 40 < 4 ? i % 40 : i % 40 + 100);
      }
      const PackedMatrix weights(kind, kRows, columns, file);
      Product product(weights, kTokens);
      for (size_t k = 0; k < columns; ++k) {
        const float all[kTokens] = {1, -1, k % 2 ? 1.0f : -1.0f, k / 4 % 2 ? 1.0f : -1.0f, k / 16 % 2 ? 1.0f : -1.0f};
        for (size_t t = 0; t < kTokens; ++t) product.src[t * columns + k] = all[t];
      }
      for (bool is_int8 : {false, true}) {
        const std::vector<float> truth = product.run(matmul_ref, is_int8, 0, kTokens);
        for (SimdLevel level : levels()) {
          const AtLevel at(level);
          CAPTURE(traits(file_type(kind)).name, fill, is_int8, simd_level_name(level));
          const std::vector<float> dst = product.run(matmul, is_int8, 0, kTokens);
          REQUIRE(same_bits(dst.data(), truth.data(), dst.size()));
        }
        // The first two tokens have sums without cancellation among the activations: where the float32 path is exact, so is this.
        for (size_t r = 0; r < kRows; ++r) {
          double sum = 0, magnitude = 0;
          const std::vector<float> row = weights.row(r);
          for (float value : row) sum += double{value}, magnitude += std::fabs(double{value});
          REQUIRE(std::fabs(truth[r] - sum) <= 1e-6 * magnitude);
        }
      }
    }
  }
}

TEST_CASE("Matmul: int8 activations cost less than 1 % of the product's magnitude") {
  const PackedMatrix weights(PackedKind::kQ4_1, 64, 576);
  const Product product(weights, 8);
  const std::vector<float> exact = product.run(matmul_ref, false, 0, 8), fast = product.run(matmul_ref, true, 0, 8);
  double error = 0, norm = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    error += std::pow(double{fast[i]} - exact[i], 2);
    norm += exact[i] == kUntouched ? 0 : std::pow(double{exact[i]}, 2);
  }
  REQUIRE(std::sqrt(error / norm) < 0.01);
  REQUIRE(std::sqrt(error / norm) > 0.0005);  // 8 bits cannot do better: then they were not used
}

TEST_CASE("Matmul: an infinite or undefined activation spoils its own token alone") {
  for (float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    for (PackedKind kind : kAllKinds) {
      const PackedMatrix weights(kind, 17, whole_columns(kind, 64));
      Product product(weights, 9);
      const std::vector<float> good = product.run(matmul_ref, takes_int8_activations(kind), 0, 9);
      product.src[4 * weights.columns + 33] = bad;
      for (SimdLevel level : levels()) {
        const AtLevel at(level);
        const std::vector<float> dst = product.run(matmul, takes_int8_activations(kind), 0, 9);
        const size_t stride = weights.rows + 2;
        for (size_t t = 0; t < 9; ++t) {
          if (t == 4) {
            for (size_t r = 0; r < weights.rows; ++r) REQUIRE_FALSE(std::isfinite(dst[t * stride + r]));
          } else {
            REQUIRE(same_bits(&dst[t * stride], &good[t * stride], stride));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace outrigger
