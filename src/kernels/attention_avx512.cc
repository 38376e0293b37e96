// Attention for AVX-512.
#include "src/kernels/attention_vector.h"
#include "src/kernels/avx512.h"
#include "src/kernels/exp_avx512.h"

namespace outrigger {
namespace {

struct Avx512 {
  using Float = __m512;
  using Int = __m512i;
  static constexpr size_t kLanes = outrigger::kLanes;
  // Sums in registers: 8 rows by 2 vectors of positions; 6 rows by 4 vectors of elements, 24 of 32 with 4 for the values.
  static constexpr int kScoreRows = 8, kValueRows = 6, kValueColumns = 4, kCodeValueRows = 12;

  static Float zero() { return _mm512_setzero_ps(); }
  static Float set1(float x) { return _mm512_set1_ps(x); }
  static Float load(const float* src) { return _mm512_loadu_ps(src); }
  static Float load_some(const float* src, size_t count) { return _mm512_maskz_loadu_ps(lanes_below(count), src); }
  static Float load_kv(const uint16_t* src) { return load_halves(src); }
  static Float load_kv(const float* src) { return load(src); }
  static Float load_some_kv(const float* src, size_t count) { return load_some(src, count); }
  static Float load_some_kv(const uint16_t* src, size_t count) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes_below(count), src));
  }
  static void store(float* dst, Float x) { _mm512_storeu_ps(dst, x); }
  static void store_some(float* dst, size_t count, Float x) { _mm512_mask_storeu_ps(dst, lanes_below(count), x); }
  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static Float max(Float a, Float b) { return _mm512_max_ps(a, b); }
  static Float exp(Float x) { return exp16(x); }
  /// The first `count` lanes of a, the others of b.
  static Float first(size_t count, Float a, Float b) { return _mm512_mask_mov_ps(b, lanes_below(count), a); }
  static float reduce_max(Float x) { return _mm512_reduce_max_ps(x); }
  static float reduce_add(Float x) { return sum_of_lanes(x); }

  // Of q8_0.
  static uint32_t most_bits(const float* src, size_t count) { return outrigger::most_bits(src, count); }
  /// 16 floats times `by`, rounded to nearest.
  static void round_to_codes(const float* src, float by, int16_t* dst) {
    const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(load(src), set1(by)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), _mm512_cvtepi32_epi16(rounded));
  }
  static Float load_codes(const void* src) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(src))));
  }
  static Int load_code_pairs(const void* src) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256(static_cast<const __m256i*>(src))); }
  static Int zero_int() { return _mm512_setzero_si512(); }
  /// Adds to each lane a pair's products with the pair of 16-bit integers at `pair`. gcc 12 does not fold the broadcast into the
  /// instruction, and of its own intrinsic for it copies every sum.
  static Int add_pairs(Int sum, Int codes, const std::byte* pair) {
    using Pair = const int32_t __attribute__((may_alias));
    asm("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(codes), "m"(*reinterpret_cast<Pair*>(pair)));
    return sum;
  }
  static Float to_float(Int x) { return _mm512_cvtepi32_ps(x); }
};

}  // namespace

void attention_avx512(const AttentionArgs& args, const AttentionTask& task) {
  if (args.type == KvType::kF32) return run_attention<AttentionWork<Avx512, FloatTiles<Avx512, float>>>(args, task);
  if (args.type == KvType::kQ8_0) return run_attention<AttentionWork<Avx512, CodeTiles<Avx512>>>(args, task);
  run_attention<AttentionWork<Avx512, FloatTiles<Avx512, uint16_t>>>(args, task);
}

}  // namespace outrigger
