// The launchers of a quantised kind's products; included by the files that make them for their kinds.
#ifndef OUTRIGGER_CUDA_KERNELS_MATMUL_OF_KIND_H_
#define OUTRIGGER_CUDA_KERNELS_MATMUL_OF_KIND_H_

#include "cuda/kernels/matmul_plain.h"
#include "cuda/kernels/matmul_tile.h"
#include "cuda/kernels/matmul_wide.h"

namespace outrigger::cuda {

template <typename Shape>
CudaCode launch_tile(const Launcher& launcher, const GridSize& grid, std::span<const MatmulArgs> all) {
  const LaunchSize size{grid, Shape::kThreads, static_cast<uint32_t>(2 * sizeof(ChunkResults<Shape>))};
  return launch(launcher, matmul_tile_kernel<Shape>, size, MatmulGroup(all, kWarpRows));
}

template <PackedKind kKind, uint32_t kTokens>
CudaCode launch_tiles(const Launcher& launcher, std::span<const MatmulArgs> all) {
  const GridSize grid{blocks_of(all[0].tokens, kTokenTile), strips_of(all, kWarpRows)};
  if constexpr (kTokens <= 4) {  // the results of 8 tokens by 16 warps need more shared memory than every card has
    if (grid.x * grid.y <= launcher.multiprocessors) return launch_tile<TileShape<kKind, kTokens, kFewWarps>>(launcher, grid, all);
  }
  return launch_tile<TileShape<kKind, kTokens, kManyWarps>>(launcher, grid, all);
}

template <PackedKind kKind>
CudaCode launch_int8_products(const Launcher& launcher, std::span<const MatmulArgs> all) {
  const MatmulArgs& first = all[0];
  if (first.tokens == 1) return launch_tiles<kKind, 1>(launcher, all);
  if (first.tokens == 2) return launch_tiles<kKind, 2>(launcher, all);
  if (first.tokens <= 4) return launch_tiles<kKind, 4>(launcher, all);
  // Wide blocks are few: where they leave multiprocessors idle, tiles that share the weights in the second-level cache are faster. Either
  // way the bits are the same.
  const GridSize wide{blocks_of(first.tokens, kWideTokens), strips_of(all, kWideRows)};
  const bool is_aligned = reinterpret_cast<uintptr_t>(first.panel) % sizeof(U4) == 0;
  if (first.tokens <= kTokenTile || wide.x * wide.y < launcher.multiprocessors || !is_aligned) return launch_tiles<kKind, 8>(launcher, all);
  return launch(launcher, matmul_wide_kernel<kKind>, {wide, kWideThreads}, MatmulGroup(all, kWideRows));
}

template <PackedKind kKind>
CudaCode launch_plain_product(const Launcher& launcher, const MatmulArgs& args) {
  const LaunchSize size{{blocks_of(args.tokens, kPlainTokens), blocks_of(args.rows, kPlainWarps * kWarpRows)}, kPlainWarps * kWarp};
  return launch(launcher, matmul_plain_kernel<kKind>, size, MatmulCall(args));
}

#define OTR_PRODUCTS_OF(kind)                                                                             \
  template CudaCode launch_int8_products<PackedKind::kind>(const Launcher&, std::span<const MatmulArgs>); \
  template CudaCode launch_plain_product<PackedKind::kind>(const Launcher&, const MatmulArgs&)

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_MATMUL_OF_KIND_H_
