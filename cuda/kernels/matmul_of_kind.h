// The launchers of a quantised kind's products; included by the files that make them for their kinds.
#ifndef OUTRIGGER_CUDA_KERNELS_MATMUL_OF_KIND_H_
#define OUTRIGGER_CUDA_KERNELS_MATMUL_OF_KIND_H_

#include "cuda/kernels/matmul_plain.h"
#include "cuda/kernels/matmul_tile.h"
#include "cuda/kernels/matmul_wide.h"

namespace outrigger::cuda {

template <PackedKind kKind, uint32_t kTokens>
CudaCode launch_tile(const Launcher& launcher, const MatmulArgs& args) {
  const LaunchSize size{{blocks_of(args.tokens, kTokenTile), blocks_of(args.rows, kWarpRows)},
                        TileShape<kKind, kTokens>::kThreads,
                        static_cast<uint32_t>(2 * sizeof(ChunkResults<kKind, kTokens>))};
  return launch(launcher, matmul_tile_kernel<kKind, kTokens>, size, MatmulCall(args));
}

template <PackedKind kKind>
CudaCode launch_int8_product(const Launcher& launcher, const MatmulArgs& args) {
  if (args.tokens == 1) return launch_tile<kKind, 1>(launcher, args);
  if (args.tokens == 2) return launch_tile<kKind, 2>(launcher, args);
  if (args.tokens <= 4) return launch_tile<kKind, 4>(launcher, args);
  // Wide blocks are few: where they leave multiprocessors idle, tiles that share the weights in the second-level cache are faster. Either
  // way the bits are the same.
  const GridSize wide{blocks_of(args.tokens, kWideTokens), blocks_of(args.rows, kWideWarps * kWarpRows)};
  const bool is_aligned = reinterpret_cast<uintptr_t>(args.panel) % sizeof(U4) == 0;
  if (args.tokens <= kTokenTile || wide.x * wide.y < launcher.multiprocessors || !is_aligned) return launch_tile<kKind, 8>(launcher, args);
  return launch(launcher, matmul_wide_kernel<kKind>, {wide, kWideThreads}, MatmulCall(args));
}

template <PackedKind kKind>
CudaCode launch_plain_product(const Launcher& launcher, const MatmulArgs& args) {
  const LaunchSize size{{blocks_of(args.tokens, kPlainTokens), blocks_of(args.rows, kPlainWarps * kWarpRows)}, kPlainWarps * kWarp};
  return launch(launcher, matmul_plain_kernel<kKind>, size, MatmulCall(args));
}

#define OTR_PRODUCTS_OF(kind)                                                                  \
  template CudaCode launch_int8_product<PackedKind::kind>(const Launcher&, const MatmulArgs&); \
  template CudaCode launch_plain_product<PackedKind::kind>(const Launcher&, const MatmulArgs&)

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_MATMUL_OF_KIND_H_
