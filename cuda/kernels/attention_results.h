// Room for the results of attention's parts.
#ifndef OUTRIGGER_CUDA_KERNELS_ATTENTION_RESULTS_H_
#define OUTRIGGER_CUDA_KERNELS_ATTENTION_RESULTS_H_

#include "src/kernels/attention_rows.h"

namespace outrigger::cuda {

/// Results of a row and a part that the scratch holds: of 32 heads at 262144 positions, 9 MiB with 128 elements a head.
inline constexpr uint64_t kResults = 16384;

/// Whether it holds those of all parts of so many positions. Where it does not, blocks walk through the parts one after the other.
inline bool has_room_for_results(const AttentionArgs& args, size_t positions) {
  return args.tokens * args.heads * parts_of(positions) <= kResults;
}

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_ATTENTION_RESULTS_H_
