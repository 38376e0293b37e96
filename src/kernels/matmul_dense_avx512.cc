// Matrix product of float weights for AVX-512.
#include "src/kernels/matmul_dense_avx512.h"

#include "src/kernels/bf16_activations.h"
#include "src/kernels/simd.h"

namespace outrigger {
namespace {

struct FloatSums {
  using Register = __m512;
  static constexpr int kMostOfOne = 7, kMostOfTwo = 7;
  static constexpr size_t kPairTokens = 4;
  static void add(__m512& sum, __m512 weights, __m512 word) { sum = _mm512_fmadd_ps(weights, word, sum); }
};

// float32 activations: a step is one k.
struct FloatWords : FloatSums {
  static constexpr int kPasses = 1;
  template <int kPass>
  static __m512 broadcast(const std::byte* src) {
    return _mm512_set1_ps(load_float(src));
  }
};

struct F32 : FloatWords {
  static constexpr size_t kStepBytes = 64;
  template <int kPass>
  static __m512 load(const std::byte* from, int chain) {
    return _mm512_loadu_ps(from + chain * 64);
  }
};

struct F16 : FloatWords {
  static constexpr size_t kStepBytes = 32;
  template <int kPass>
  static __m512 load(const std::byte* from, int chain) {
    return load_halves(from + chain * 32);
  }
};

// A lane's 32 bits are an even k and, above it, the odd one.
inline __m512 even_bf16(__m512i pair) { return _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16)); }
inline __m512 odd_bf16(__m512i pair) {
  return _mm512_castsi512_ps(_mm512_and_si512(pair, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
}

struct BF16 : FloatWords {
  static constexpr size_t kStepBytes = 32;
  template <int kPass>
  static __m512 load(const std::byte* from, int chain) {
    const __m512i pair = _mm512_loadu_si512(from);
    return chain == 0 ? even_bf16(pair) : odd_bf16(pair);
  }
};

// bf16 activations: a step is a pair of k, the odd one added first, as matmul_bf16_dot() has it.
struct BF16Pairs : FloatSums {
  static constexpr int kPasses = 2;
  static constexpr size_t kStepBytes = 64;
  template <int kPass>
  static __m512 load(const std::byte* from, int chain) {
    const __m512i pair = _mm512_loadu_si512(from + chain * 64);
    return kPass == 0 ? odd_bf16(pair) : even_bf16(pair);
  }
  template <int kPass>
  static __m512 broadcast(const std::byte* src) {
    const __m512i pair = _mm512_castps_si512(_mm512_set1_ps(load_float(src)));
    return kPass == 0 ? odd_bf16(pair) : even_bf16(pair);
  }
};

template <typename Kind>
void run_float(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  run_dense<Kind>(args, args.columns, reinterpret_cast<const std::byte*>(args.src), args.src_stride * 4, block_begin, block_end);
}

}  // namespace

void matmul_bf16_avx512(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  run_dense<BF16Pairs>(args, bf16_pairs(args.columns), args.panel, bf16_row_bytes(args.columns), block_begin, block_end);
}

void matmul_dense_avx512(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  switch (args.kind) {
    case PackedKind::kF32:
      return run_float<F32>(args, block_begin, block_end);
    case PackedKind::kF16:
      return run_float<F16>(args, block_begin, block_end);
    case PackedKind::kBF16:
      if (args.panel == nullptr) return run_float<BF16>(args, block_begin, block_end);
      return (has_bf16_dot() ? matmul_bf16_dot : matmul_bf16_avx512)(args, block_begin, block_end);
    default:
      break;  // is_dense() is a precondition
  }
}

}  // namespace outrigger
