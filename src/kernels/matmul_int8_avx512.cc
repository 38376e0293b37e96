// Matrix product with int8 activations for AVX-512 VNNI.
#include "src/kernels/avx512.h"
#include "src/kernels/matmul_avx512.h"
#include "src/kernels/matmul_store_avx512.h"

namespace outrigger {
namespace {

// Ahead of the stream of weights, in bytes: the first tile of a row block is bound by computing, so the processor's own prefetching, which
// waits for misses, comes late. With it 8 tokens at 4096 x 4096 go from 44 to 78 % of the int8 rate. One or two tokens are bound by memory;
// they lose half their speed to it.
constexpr size_t kPrefetchBytes = 4608;
constexpr int kLeastPrefetchTokens = 4;

// acc[lane] += sum of the products of the lane's four weights with four activations, the same ones for all lanes. As assembly because
// gcc 12 does not fold the broadcast into the instruction: it spends a quarter of its time on separate ones.
inline __m512i dot_quad(__m512i acc, __m512i weights, const std::byte* activations) {
  using Quad = const int32_t __attribute__((may_alias));
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(weights), "m"(*reinterpret_cast<Quad*>(activations)));
  return acc;
}

// The 8 quads of a group's codes as unsigned bytes.
template <PackedKind kKind>
inline void load_codes(const std::byte* codes, __m512i (&weights)[8]) {
  if constexpr (kKind == PackedKind::kQ8_0) {
    OTR_UNROLLED(8, q, { weights[q] = _mm512_loadu_si512(codes + q * 64); });
  } else {
    const __m512i low = _mm512_set1_epi8(15);
    OTR_UNROLLED(4, q, {
      const __m512i both = _mm512_loadu_si512(codes + q * 64);
      weights[q] = _mm512_and_si512(both, low);
      weights[q + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    });
  }
}

// One group of k: 16 rows by kTokens tokens.
template <PackedKind kKind, int kTokens>
inline __attribute__((always_inline)) void add_group(const std::byte* scales, const std::byte* codes, const std::byte* record,
                                                     __m512 (&sums)[kTokens]) {
  __m512i weights[8];
  load_codes<kKind>(codes, weights);
  const __m512 scale = load_halves(scales), minimum = load_halves(scales + (kKind == PackedKind::kQ4_1 ? 32 : 0));
  const std::byte* words = record + kTokens * kGroup;
  __m512i dots[kTokens];
  OTR_UNROLLED(kTokens, t, {
    dots[t] = _mm512_setzero_si512();
    if constexpr (kKind != PackedKind::kQ4_1) {
      // Codes are stored with 8 or 128 added: the sum starts below zero by that times the sum of the activations.
      int32_t negative_sum;
      std::memcpy(&negative_sum, words + (2 * kTokens + t) * 4, 4);
      dots[t] = _mm512_slli_epi32(_mm512_set1_epi32(negative_sum), kKind == PackedKind::kQ8_0 ? 7 : 3);
    }
  });
  OTR_UNROLLED(8, q, { OTR_UNROLLED(kTokens, t, { dots[t] = dot_quad(dots[t], weights[q], record + t * kGroup + q * 4); }); });
  OTR_UNROLLED(kTokens, t, {
    const __m512 both_scales = _mm512_mul_ps(scale, _mm512_set1_ps(load_float(words + t * 4)));
    sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[t]), both_scales, sums[t]);
    if constexpr (kKind == PackedKind::kQ4_1) {
      sums[t] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(load_float(words + (kTokens + t) * 4)), sums[t]);
    }
  });
}

template <PackedKind kKind, int kTokens>
void run_tile(const MatmulTile& tile, const MatmulArgs& args) {
  constexpr size_t kCodeBytes = kKind == PackedKind::kQ8_0 ? 512 : 256;
  constexpr size_t kRecordBytes = kTokens * kTokenGroupBytes;
  // Q4_1 has a line of scales and minima for each group, the others one of scales for two.
  constexpr int kGroupsPerLine = kKind == PackedKind::kQ4_1 ? 1 : 2;
  constexpr size_t kStepBytes = 64 + kGroupsPerLine * kCodeBytes;

  __m512 sums[kTokens];
  OTR_UNROLLED(kTokens, t, { sums[t] = _mm512_setzero_ps(); });
  const std::byte* block = tile.block;
  const std::byte* record = tile.panel;
  const bool prefetch = kTokens >= kLeastPrefetchTokens && tile.is_first;
  const size_t groups = args.columns / kGroup;
  for (size_t g = 0; g < groups; g += kGroupsPerLine, block += kStepBytes) {
    if (prefetch) {
      for (size_t line = 0; line < kStepBytes; line += 64) _mm_prefetch(block + kPrefetchBytes + line, _MM_HINT_T1);
    }
    add_group<kKind, kTokens>(block, block + 64, record, sums);
    record += kRecordBytes;
    if constexpr (kGroupsPerLine == 2) {
      if (g + 1 == groups) break;  // an odd number of groups: the last line is half empty
      add_group<kKind, kTokens>(block + 32, block + 64 + kCodeBytes, record, sums);
      record += kRecordBytes;
    }
  }
  store_sums<kTokens>(sums, tile, args.dst_stride, args.accumulate);
}

template <PackedKind kKind>
void run_kind(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  using Run = void (*)(const MatmulTile&, const MatmulArgs&);
  static constexpr Run kRuns[kTokenTile] = {run_tile<kKind, 1>, run_tile<kKind, 2>, run_tile<kKind, 3>, run_tile<kKind, 4>,
                                            run_tile<kKind, 5>, run_tile<kKind, 6>, run_tile<kKind, 7>, run_tile<kKind, 8>};
  for_each_tile(args, block_begin, block_end, [&](const MatmulTile& tile, size_t tokens) { kRuns[tokens - 1](tile, args); });
}

}  // namespace

void matmul_int8_avx512(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  switch (args.kind) {
    case PackedKind::kQ8_0:
      return run_kind<PackedKind::kQ8_0>(args, block_begin, block_end);
    case PackedKind::kQ4_0:
      return run_kind<PackedKind::kQ4_0>(args, block_begin, block_end);
    case PackedKind::kQ4_1:
      return run_kind<PackedKind::kQ4_1>(args, block_begin, block_end);
    case PackedKind::kF32:
    case PackedKind::kF16:
    case PackedKind::kBF16:
      break;  // have no int8 path: a precondition
  }
}

}  // namespace outrigger
