// What the files of attention's kernels share on the host: which version is launched, and how.
#ifndef OUTRIGGER_CUDA_KERNELS_ATTENTION_LAUNCH_H_
#define OUTRIGGER_CUDA_KERNELS_ATTENTION_LAUNCH_H_

#include <span>
#include <type_traits>

#include "cuda/kernels/attention_job.h"
#include "cuda/kernels/attention_store.h"

namespace outrigger::cuda {

struct AttentionVersion {
  void (*kernel)(AttentionJob);
  uint32_t rows, threads;  ///< of a block
};

/// What f(std::type_identity<Store>()) gives for the store of the cache.
template <typename F>
auto with_store(const AttentionArgs& args, F f) {
  if (args.type == KvType::kQ8_0) return f(std::type_identity<CodeStore>());
  const bool is_float = args.type == KvType::kF32;
  if (args.head_dim % 2 != 0)
    return is_float ? f(std::type_identity<FloatStore<float, 1>>()) : f(std::type_identity<FloatStore<uint16_t, 1>>());
  return is_float ? f(std::type_identity<FloatStore<float, 2>>()) : f(std::type_identity<FloatStore<uint16_t, 2>>());
}

/// For tokens that are a tree's, fewest rows last.
std::span<const AttentionVersion> tree_versions(const AttentionArgs& args);

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_ATTENTION_LAUNCH_H_
