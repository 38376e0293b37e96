// Appending to the key-value cache: what is stored where, and the same bytes at every level.
#include "src/kernels/append_kv.h"

#include <limits>

#include "tests/kernels/attention_case.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

uint16_t half_at(const std::vector<std::byte>& cache, size_t element) {
  uint16_t half;
  std::memcpy(&half, &cache[element * sizeof half], sizeof half);
  return half;
}

Sequence with_extremes(const AttentionShape& shape) {
  Sequence sequence(shape);
  sequence.k[3] = 70000;
  sequence.k[4] = -65519;
  sequence.v[5] = 1e-6f;
  sequence.v[6] = 1e-30f;
  sequence.v[7] = 65520;
  return sequence;
}

TEST_CASE("AppendKv: float16 is rounded to nearest, large values become infinity, and keys are interleaved") {
  Sequence sequence = with_extremes({37, 2, 2, 100});
  const AtLevel at(SimdLevel::kNone);
  sequence.append(0, 37);
  REQUIRE(half_at(sequence.k_cache, 3 * kKvInterleave) == 0x7c00);
  REQUIRE(half_at(sequence.k_cache, 4 * kKvInterleave) == 0xfbff);
  REQUIRE(half_at(sequence.v_cache, 7) == 0x7c00);
  const size_t second_head = sequence.capacity * 100;
  REQUIRE(half_at(sequence.k_cache, second_head + key_index(35, 99, 100)) == float_to_f16(sequence.k[35 * 200 + 199]));
  REQUIRE(half_at(sequence.v_cache, second_head + 35 * 100 + 99) == float_to_f16(sequence.v[35 * 200 + 199]));
  REQUIRE(half_at(sequence.k_cache, second_head + key_index(37, 0, 100)) == 0x7f7f);  // beyond what was appended
}

TEST_CASE("AppendKv: q8_0 rounds to the nearest of 127 steps, halves away from zero, and keeps neighbours of a key side by side") {
  const AtLevel at(SimdLevel::kNone);
  Sequence sequence({20, 2, 2, 64, KvType::kQ8_0});
  float* const k = &sequence.k[17 * 128 + 64];  // position 17 of the second head
  for (size_t d = 0; d < 32; ++d) k[d] = static_cast<float>(d) - 16.5f;
  k[5] = 127;
  sequence.append(0, 20);
  const std::byte* block = sequence.k_cache.data() + kv_head_offset(KvType::kQ8_0, 64, sequence.capacity, 1) + 17 * 64;
  REQUIRE(q8_block_bytes(64) == 17 * 64);
  const auto code = [&](size_t d) { return static_cast<int>(static_cast<int8_t>(block[64 + d / 2 * 32 + 2 + d % 2])); };
  for (size_t d = 0; d < 32; ++d) {
    CAPTURE(d);
    REQUIRE(code(d) == (d == 5 ? 127 : d < 17 ? static_cast<int>(d) - 17 : static_cast<int>(d) - 16));
  }
  uint16_t scale;
  std::memcpy(&scale, block + 2, sizeof scale);
  REQUIRE(scale == 0x3c00);  // 1
}

TEST_CASE("AppendKv: q8_0 takes groups without a scale for zero, and marks those that are not finite") {
  for (const SimdLevel level : levels()) {
    const AtLevel at(level);
    CAPTURE(simd_level_name(level));
    Sequence sequence({1, 1, 1, 160, KvType::kQ8_0});
    std::fill(sequence.v.begin(), sequence.v.end(), 1.0f);
    std::fill_n(sequence.v.begin(), 32, 0.0f);
    std::fill_n(sequence.v.begin() + 32, 32, 1e-38f);
    sequence.v[64 + 7] = -std::numeric_limits<float>::infinity();
    sequence.v[96 + 31] = std::numeric_limits<float>::quiet_NaN();
    sequence.v[128] = 1e30f;
    sequence.append(0, 1);
    const auto scale = [&](size_t group) { return half_at(sequence.v_cache, group * 16); };
    const auto code = [&](size_t d) { return static_cast<int>(static_cast<int8_t>(sequence.v_cache[160 + d])); };
    REQUIRE(scale(0) == 0);
    REQUIRE(scale(1) == 0);
    REQUIRE(scale(2) == 0x7e00);
    REQUIRE(scale(3) == 0x7e00);
    REQUIRE(scale(4) == 0x7c00);
    for (size_t d = 0; d < 160; ++d) REQUIRE(code(d) == (d == 128 ? 127 : 0));
  }
}

TEST_CASE("AppendKv: every level stores the definition's bytes, in one call or many") {
  for (const KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8_0}) {
    for (const size_t head_dim : {8, 16, 32, 64, 80, 96, 100, 128, 256}) {
      if (!kv_type_fits(type, head_dim)) continue;
      const Sequence base = with_extremes({37, 2, 2, head_dim, type});
      Sequence truth = base;
      {
        const AtLevel at(SimdLevel::kNone);
        truth.append(0, 20);
        truth.append(20, 37);
      }
      for (const SimdLevel level : levels()) {
        const AtLevel at(level);
        Sequence sequence = base;
        sequence.append(0, 37);
        CAPTURE(head_dim, static_cast<int>(type), simd_level_name(level));
        REQUIRE(sequence.k_cache == truth.k_cache);
        REQUIRE(sequence.v_cache == truth.v_cache);
      }
    }
  }
}

}  // namespace
}  // namespace outrigger
