// Attention: a block has up to 16 rows (pairs of a token and a query head) of one key-value head, and one part of the positions or, where
// there are blocks enough, all parts in order. Results of single parts are folded by a second kernel.
//
// The order of every sum is that of src/kernels: a score is one thread's chain over the elements, an output one thread's over the
// positions.
#include "cuda/kernels/attention_launch.h"
#include "cuda/kernels/attention_results.h"
#include "cuda/kernels/attention_work.h"
#include "cuda/kernels/exp.h"
#include "cuda/kernels/ops.h"

namespace outrigger::cuda {
namespace {

/// Dynamic shared memory of a block, so that with what is declared it is at most 48 KiB.
constexpr uint64_t kMostSharedBytes = 47 << 10;
constexpr uint32_t kFoldThreads = 128;

// Registers go before more blocks on a multiprocessor, but for the largest blocks, which come in numbers. 0 leaves it to the compiler.
template <typename Store, uint32_t kRows, uint32_t kGroups>
OTR_KERNEL_OF(kPartThreads* kGroups, kGroups == 1 ? 1 : 0)
void attend_kernel(AttentionJob job) {
  AttentionWork<Store, kRows, kGroups>(job).run();
}

/// A block folds one row's parts: element d of the output a thread, and every thread the sum of the weights.
OTR_KERNEL_OF(kFoldThreads) void fold_kernel(AttentionJob job) {
  OTR_SHARED float maxima[kFoldThreads], earlier[kFoldThreads], later[kFoldThreads];
  const AttentionArgs& args = job.args;
  const uint32_t row = block_x(), kv_head = block_y(), thread = thread_index(), head_dim = static_cast<uint32_t>(args.head_dim);
  const uint32_t parts = (job.positions(row, args.tree != nullptr) + kPart - 1) / kPart;
  float* const dst = args.dst + job.row_offset(kv_head, row, args.dst_stride);
  for (uint32_t first_d = 0; first_d < head_dim; first_d += kFoldThreads) {
    const uint32_t d = first_d + thread < head_dim ? first_d + thread : head_dim - 1;
    const float* const first = job.result(0, kv_head, row);
    float running = first[0], total = first[1], sum = first[kResultHead + d];
    for (uint32_t begin = 1; begin < parts; begin += kFoldThreads) {
      const uint32_t count = parts - begin < kFoldThreads ? parts - begin : kFoldThreads;
      if (thread < count) maxima[thread] = job.result(begin + thread, kv_head, row)[0];
      sync_block();
      float before = running, at = running;
      for (uint32_t i = 0; i < count; ++i) {
        if (i == thread) before = running;
        running = fmaxf(running, maxima[i]);
        if (i == thread) at = running;
      }
      if (thread < count) earlier[thread] = exp_of(before - at), later[thread] = exp_of(maxima[thread] - at);
      sync_block();
      for (uint32_t i = 0; i < count; ++i) {
        const float* const from = job.result(begin + i, kv_head, row);
        total = fmaf(total, earlier[i], from[1] * later[i]);
        sum = fmaf(sum, earlier[i], from[kResultHead + d] * later[i]);
      }
    }
    if (first_d + thread < head_dim) dst[d] = sum * (1 / total);
  }
}

template <typename Store>
constexpr AttentionVersion kVersions[] = {
    {attend_kernel<Store, 8, 2>, 16, 2 * kPartThreads}, {attend_kernel<Store, 8, 1>, 8, kPartThreads},
    {attend_kernel<Store, 4, 1>, 4, kPartThreads},      {attend_kernel<Store, 2, 1>, 2, kPartThreads},
    {attend_kernel<Store, 1, 1>, 1, kPartThreads},
};

std::span<const AttentionVersion> versions(const AttentionArgs& args) {
  if (args.tree != nullptr) return tree_versions(args);
  return with_store(args, [](auto store) { return std::span<const AttentionVersion>(kVersions<typename decltype(store)::type>); });
}

uint64_t shared_bytes(const AttentionArgs& args, const AttentionVersion& version) {
  const uint64_t query_words = (version.rows * uint64_t{args.head_dim} + 3) / 4 * 4;
  return (version.rows * kPart + query_words) * sizeof(float) + (version.rows <= kFewRows ? kTileBytes : 0);
}

/// Rows of a block: more share each reading of the cache, while one token's are spread over more blocks. As many as fit its memory; beyond
/// 7000 elements a head not even one does, and the launch fails.
const AttentionVersion& choose_version(const AttentionArgs& args, uint64_t rows) {
  const uint64_t wanted = rows <= 2 ? rows : rows <= 8 ? kFewRows : rows <= 64 ? 8 : 16;
  const std::span<const AttentionVersion> all = versions(args);
  size_t i = 0;
  while (i + 1 < all.size() && (all[i].rows > wanted || shared_bytes(args, all[i]) > kMostSharedBytes)) ++i;
  return all[i];
}

}  // namespace

uint64_t attention_scratch_on_device(size_t head_dim) { return kResults * result_floats(head_dim) * sizeof(float); }

CudaCode launch_op(const Launcher& launcher, const AttentionArgs& args) {
  AttentionJob job{args, varying(launcher, args.first_position)};
  const uint64_t rows = args.tokens * (args.heads / args.kv_heads), heads = args.kv_heads;
  const AttentionVersion& version = choose_version(args, rows);
  job.group = static_cast<uint32_t>(args.heads / args.kv_heads), job.rows = static_cast<uint32_t>(rows);
  job.row_blocks = blocks_of(rows, version.rows);
  job.result_floats = static_cast<uint32_t>(result_floats(args.head_dim));
  const size_t positions = launcher.varying_at != nullptr ? args.capacity : args.first_position + args.tokens;
  const uint64_t parts = parts_of(positions);
  // Four blocks for each multiprocessor keep it busy without being cut.
  const bool is_split =
      parts > 1 && has_room_for_results(args, positions) && job.row_blocks * heads < 4 * uint64_t{launcher.multiprocessors};
  job.parts = is_split ? static_cast<uint32_t>(parts) : 0;
  job.results = reinterpret_cast<float*>(args.scratch);
  const LaunchSize size{{job.row_blocks * (is_split ? job.parts : 1), static_cast<uint32_t>(heads)},
                        version.threads,
                        static_cast<uint32_t>(shared_bytes(args, version))};
  if (const CudaCode code = launch(launcher, version.kernel, size, job); code != kCudaOk || !is_split) return code;
  return launch(launcher, fold_kernel, {{static_cast<uint32_t>(rows), static_cast<uint32_t>(heads)}, kFoldThreads}, job);
}

}  // namespace outrigger::cuda
