// Appending to the key-value cache: what is stored where, and the same bytes at every level.
#include "src/kernels/append_kv.h"

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

TEST_CASE("AppendKv: every level stores the definition's bytes, in one call or many") {
  for (const KvType type : {KvType::kF16, KvType::kF32}) {
    for (const size_t head_dim : {8, 16, 32, 64, 80, 96, 100, 128, 256}) {
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
