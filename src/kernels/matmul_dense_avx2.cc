// Matrix product of float weights for AVX2.
#include "src/kernels/avx2.h"
#include "src/kernels/bf16_activations.h"
#include "src/kernels/matmul_dense_tiles.h"
#include "src/kernels/unroll.h"

namespace outrigger {
namespace {

// The 16 rows of a row block, in two registers.
constexpr int kHalves = 2;
// Tokens of a tile: both chains' sums of 3 tokens are 12 of the 16 registers.
constexpr int kMostTokens = 3;

// A Kind says how weights meet activations: kStepBytes of weights a step, in which each sum takes kPasses additions; load<pass>(from,
// chain, half), where `from` is that of an even step and chain 1 the odd one after it; broadcast<pass>(src).

// float32 activations: a step is one k.
struct FloatWords {
  static constexpr int kPasses = 1;
  template <int kPass>
  static __m256 broadcast(const std::byte* src) {
    return _mm256_set1_ps(load_float(src));
  }
};

struct F32 : FloatWords {
  static constexpr size_t kStepBytes = 64;
  template <int kPass>
  static __m256 load(const std::byte* from, int chain, int half) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(from + chain * 64 + half * 32));
  }
};

struct F16 : FloatWords {
  static constexpr size_t kStepBytes = 32;
  template <int kPass>
  static __m256 load(const std::byte* from, int chain, int half) {
    return load_halves(from + chain * 32 + half * 16);
  }
};

// A lane's 32 bits are an even k and, above it, the odd one.
inline __m256 even_bf16(__m256i pair) { return _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16)); }
inline __m256 odd_bf16(__m256i pair) {
  return _mm256_castsi256_ps(_mm256_and_si256(pair, _mm256_set1_epi32(static_cast<int>(0xffff0000))));
}

struct BF16 : FloatWords {
  static constexpr size_t kStepBytes = 32;
  template <int kPass>
  static __m256 load(const std::byte* from, int chain, int half) {
    const __m256i pair = load_bytes(from + half * 32);
    return chain == 0 ? even_bf16(pair) : odd_bf16(pair);
  }
};

// bf16 activations: a step is a pair of k, the odd one added first.
struct BF16Pairs {
  static constexpr int kPasses = 2;
  static constexpr size_t kStepBytes = 64;
  template <int kPass>
  static __m256 load(const std::byte* from, int chain, int half) {
    const __m256i pair = load_bytes(from + chain * 64 + half * 32);
    return kPass == 0 ? odd_bf16(pair) : even_bf16(pair);
  }
  template <int kPass>
  static __m256 broadcast(const std::byte* src) {
    const __m256i pair = _mm256_castps_si256(_mm256_set1_ps(load_float(src)));
    return kPass == 0 ? odd_bf16(pair) : even_bf16(pair);
  }
};

template <typename Kind, int kTokens>
__attribute__((always_inline)) inline void add_step(const std::byte* weights, const std::byte* src, size_t stride, int chain,
                                                    __m256 (&sums)[kHalves * kTokens]) {
  OTR_UNROLLED(Kind::kPasses, pass, {
    __m256 loaded[kHalves];
    OTR_UNROLLED(kHalves, h, { loaded[h] = Kind::template load<pass>(weights, chain, h); });
    OTR_UNROLLED(kTokens, t, {
      const __m256 word = Kind::template broadcast<pass>(src + t * stride);
      OTR_UNROLLED(kHalves, h, { sums[t * kHalves + h] = _mm256_fmadd_ps(loaded[h], word, sums[t * kHalves + h]); });
    });
  });
}

template <typename Kind, int kTokens>
void run_tile(const DenseTile& tile) {
  constexpr int kSums = kHalves * kTokens;
  constexpr size_t kTwoSteps = kDenseChains * Kind::kStepBytes;
  __m256 even[kSums], odd[kSums];
  OTR_UNROLLED(kSums, i, {
    float* const carry = tile.carry + (i / kHalves) * kDenseChains * kPackRows + (i % kHalves) * kLanes;
    even[i] = tile.is_first_part ? _mm256_setzero_ps() : _mm256_loadu_ps(carry);
    odd[i] = tile.is_first_part ? _mm256_setzero_ps() : _mm256_loadu_ps(carry + kPackRows);
  });
  const std::byte* weights = tile.weights;
  const std::byte* src = tile.src;
  const size_t stride = tile.src_stride_bytes;
  const ptrdiff_t ahead = tile.ahead[0] ? tile.ahead[0] - weights : 0;
  for (size_t step = 1; step < tile.steps; step += kDenseChains, weights += kTwoSteps, src += kDenseChains * 4) {
    if (ahead != 0) {
      OTR_UNROLLED(kTwoSteps / 64, i, { _mm_prefetch(weights + ahead + i * 64, _MM_HINT_T1); });
    }
    add_step<Kind, kTokens>(weights, src, stride, 0, even);
    add_step<Kind, kTokens>(weights, src + 4, stride, 1, odd);
  }
  if (tile.steps % kDenseChains != 0) add_step<Kind, kTokens>(weights, src, stride, 0, even);

  if (!tile.is_last_part) {
    OTR_UNROLLED(kSums, i, {
      float* const carry = tile.carry + (i / kHalves) * kDenseChains * kPackRows + (i % kHalves) * kLanes;
      _mm256_storeu_ps(carry, even[i]);
      _mm256_storeu_ps(carry + kPackRows, odd[i]);
    });
    return;
  }
  OTR_UNROLLED(kHalves, h, {
    const size_t first_row = static_cast<size_t>(h) * kLanes;
    if (tile.live_rows <= first_row) return;
    const __m256i live = lanes_below(tile.live_rows - first_row);
    OTR_UNROLLED(kTokens, t, {
      float* const dst = tile.dst + t * tile.dst_stride + first_row;
      const __m256 sum = _mm256_add_ps(even[t * kHalves + h], odd[t * kHalves + h]);
      _mm256_maskstore_ps(dst, live, tile.accumulate ? _mm256_add_ps(_mm256_maskload_ps(dst, live), sum) : sum);
    });
  });
}

template <typename Kind>
void run(const MatmulArgs& args, size_t steps, const std::byte* src, size_t src_stride_bytes, size_t block_begin, size_t block_end) {
  using Run = void (*)(const DenseTile&);
  static constexpr Run kRuns[kMostTokens] = {run_tile<Kind, 1>, run_tile<Kind, 2>, run_tile<Kind, 3>};
  const DenseShape shape = {Kind::kStepBytes, steps, src, src_stride_bytes, static_cast<size_t>(-1), {kMostTokens, kMostTokens}};
  for_each_dense_tile(args, shape, block_begin, block_end, [](const DenseTile& tile, size_t, size_t tokens) { kRuns[tokens - 1](tile); });
}

template <typename Kind>
void run_float(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  run<Kind>(args, args.columns, reinterpret_cast<const std::byte*>(args.src), args.src_stride * 4, block_begin, block_end);
}

}  // namespace

void matmul_dense_avx2(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  switch (args.kind) {
    case PackedKind::kF32:
      return run_float<F32>(args, block_begin, block_end);
    case PackedKind::kF16:
      return run_float<F16>(args, block_begin, block_end);
    case PackedKind::kBF16:
      if (args.panel == nullptr) return run_float<BF16>(args, block_begin, block_end);
      return run<BF16Pairs>(args, bf16_pairs(args.columns), args.panel, bf16_row_bytes(args.columns), block_begin, block_end);
    default:
      break;  // is_dense() is a precondition
  }
}

}  // namespace outrigger
