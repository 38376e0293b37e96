// Attention for AVX2.
#include "src/kernels/attention_vector.h"
#include "src/kernels/avx2.h"
#include "src/kernels/exp_avx2.h"

namespace outrigger {
namespace {

struct Avx2 {
  using Float = __m256;
  using Int = __m256i;
  static constexpr size_t kLanes = outrigger::kLanes;
  // Sums in registers: 4 rows by 2 vectors of positions; 4 rows by 2 vectors of elements, 8 of 16 with room for the operands.
  static constexpr int kScoreRows = 4, kValueRows = 4, kValueColumns = 2, kCodeValueRows = 4;

  static Float zero() { return _mm256_setzero_ps(); }
  static Float set1(float x) { return _mm256_set1_ps(x); }
  static Float load(const float* src) { return _mm256_loadu_ps(src); }
  static Float load_some(const float* src, size_t count) { return _mm256_maskload_ps(src, lanes_below(count)); }
  static Float load_kv(const uint16_t* src) { return load_halves(src); }
  static Float load_kv(const float* src) { return load(src); }
  static Float load_some_kv(const float* src, size_t count) { return load_some(src, count); }
  static Float load_some_kv(const uint16_t* src, size_t count) {
    if (count >= kLanes) return load_halves(src);
    uint16_t halves[kLanes] = {};
    std::memcpy(halves, src, count * sizeof(uint16_t));
    return load_halves(halves);
  }
  static void store(float* dst, Float x) { _mm256_storeu_ps(dst, x); }
  static void store_some(float* dst, size_t count, Float x) { _mm256_maskstore_ps(dst, lanes_below(count), x); }
  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static Float max(Float a, Float b) { return _mm256_max_ps(a, b); }
  static Float exp(Float x) { return exp8(x); }
  /// The first `count` lanes of a, the others of b.
  static Float first(size_t count, Float a, Float b) { return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(lanes_below(count))); }
  static float reduce_max(Float x) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
  }
  static float reduce_add(Float x) { return sum_of_lanes(x); }

  // Of q8_0.
  static uint32_t most_bits(const float* src, size_t count) { return outrigger::most_bits(src, count); }
  /// 16 floats times `by`, rounded to nearest.
  static void round_to_codes(const float* src, float by, int16_t* dst) {
    const __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(load(src), set1(by)));
    const __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(load(src + kLanes), set1(by)));
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);  // packing works within halves
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), packed);
  }
  static Float load_codes(const void* src) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(src))));
  }
  static Int load_code_pairs(const void* src) { return _mm256_cvtepi8_epi16(_mm_loadu_si128(static_cast<const __m128i*>(src))); }
  static Int zero_int() { return _mm256_setzero_si256(); }
  /// Adds to each lane a pair's products with the pair of 16-bit integers at `pair`.
  static Int add_pairs(Int sum, Int codes, const std::byte* pair) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(codes, _mm256_set1_epi32(load_int(pair))));
  }
  static Float to_float(Int x) { return _mm256_cvtepi32_ps(x); }
};

}  // namespace

void attention_avx2(const AttentionArgs& args, const AttentionTask& task) {
  if (args.type == KvType::kF32) return run_attention<AttentionWork<Avx2, FloatTiles<Avx2, float>>>(args, task);
  if (args.type == KvType::kQ8_0) return run_attention<AttentionWork<Avx2, CodeTiles<Avx2>>>(args, task);
  run_attention<AttentionWork<Avx2, FloatTiles<Avx2, uint16_t>>>(args, task);
}

}  // namespace outrigger
