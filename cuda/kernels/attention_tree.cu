// Attention of a tree's tokens: as of a chain's before the root; behind it each row goes along its own path, whose places it looks up.
//
// A step has at most 32 such tokens, so that what the looking up costs is little beside the positions before them. Kernels of their own
// leave those of chains as they are.
#include "cuda/kernels/attention_launch.h"
#include "cuda/kernels/attention_work.h"

namespace outrigger::cuda {
namespace {

template <typename Store, uint32_t kRows>
OTR_KERNEL_OF(kPartThreads, 1)
void attend_tree_kernel(AttentionJob job) {
  AttentionWork<Store, kRows, 1, true>(job).run();
}

template <typename Store>
constexpr AttentionVersion kVersions[] = {
    {attend_tree_kernel<Store, 8>, 8, kPartThreads},
    {attend_tree_kernel<Store, 1>, 1, kPartThreads},
};

}  // namespace

std::span<const AttentionVersion> tree_versions(const AttentionArgs& args) {
  return with_store(args, [](auto store) { return std::span<const AttentionVersion>(kVersions<typename decltype(store)::type>); });
}

}  // namespace outrigger::cuda
