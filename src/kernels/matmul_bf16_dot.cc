// Matrix product of bf16 weights with bf16 activations, by the dot product of pairs that some AVX-512 processors have.
#include "src/kernels/bf16_activations.h"
#include "src/kernels/matmul_dense_avx512.h"

namespace outrigger {
namespace {

// The instruction adds the odd k's product to the sum, then the even one's, each as a fused multiply-add that rounds to nearest: Intel
// documents it so, and Zen 5 gives those bits. It takes subnormals for zeros whatever the thread's mode is.
struct DotPairs {
  using Register = __m512i;
  static constexpr int kMostOfOne = 10, kMostOfTwo = 7;
  static constexpr size_t kPairTokens = 11;
  static constexpr int kPasses = 1;
  static constexpr size_t kStepBytes = 64;
  template <int kPass>
  static __m512i load(const std::byte* from, int chain) {
    return _mm512_loadu_si512(from + chain * 64);
  }
  template <int kPass>
  static __m512i broadcast(const std::byte* src) {
    return _mm512_castps_si512(_mm512_set1_ps(load_float(src)));
  }
  static void add(__m512& sum, __m512i weights, __m512i word) {
    sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(weights), reinterpret_cast<__m512bh>(word));
  }
};

}  // namespace

void matmul_bf16_dot(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  run_dense<DotPairs>(args, bf16_pairs(args.columns), args.panel, bf16_row_bytes(args.columns), block_begin, block_end);
}

}  // namespace outrigger
