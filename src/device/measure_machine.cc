// measure_machine: the kernels that steps are made of, on matrices of the sizes that matter.
#include <outrigger/machine_profile.h>

#include <cmath>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/base/prefetch.h"
#include "src/base/thread_team.h"
#include "src/device/cpu_backend.h"
#include "src/device/host_product.h"
#include "src/device/measure_busy.h"
#include "src/device/measure_device.h"
#include "src/device/measure_disk.h"
#include "src/device/samples.h"
#include "src/kernels/attention.h"
#include "src/tensor/packed.h"
#include "src/tensor/stream_layout.h"

namespace outrigger {
namespace {

// What a decode step does. Weights that would be sure to be in no cache take 160 MiB, which a small budget does not have; of these here a
// large third-level cache keeps a part from run to run, and the rate would be twice memory's.
Result<HostProduct> stream_product(Backend& backend, ThreadTeam& team) {
  return HostProduct::create(backend, team, kMeasuredKind, 36864, 2048, 1);  // 45 MiB
}

Rate measure_stream(const HostProduct& product, ThreadTeam& team, double seconds) {
  const Samples samples = Samples::collect(static_cast<double>(product.weight_bytes()), seconds, [&] { product.run(team); },
                                           [&] { product.evict(team); });
  return samples.rate(
      formatted("one token's product with {} of Q4_1 weights, {} threads", format_bytes(product.weight_bytes()), team.threads()));
}

// A kind of product, and the shape of what is multiplied: weights that stay in the second-level cache, so that the figure is one of
// arithmetic.
struct Arithmetic {
  PackedKind kind;
  size_t rows_of_thread;
  const char *weights, *activations;
};
constexpr Arithmetic kInt8 = {kMeasuredKind, 1536, "Q4_1", "int8"},
                     kFloat32 = {PackedKind::kF16, 512, "F16", "float32"},
                     kBf16 = {PackedKind::kBF16, 512, "BF16", "bf16"};

Result<Rate> measure_ops(Backend& backend, ThreadTeam& team, const Arithmetic& of, size_t tokens, double seconds) {
  constexpr size_t kColumns = 576;
  OTR_ASSIGN(const HostProduct product, HostProduct::create(backend, team, of.kind, of.rows_of_thread * team.threads(), kColumns, tokens));
  // Starting a region would be a tenth of a short product. One region, since wherever threads meet on a busy machine one may have to wait a
  // time slice for another: eight meetings in a sample made this rate a thirtieth of what it is.
  const int runs = tokens < 64 ? 8 : 1;
  const Samples samples = Samples::collect(product.ops() * runs, seconds, [&] { product.run(team, runs); });
  return samples.rate(formatted("product of {} x {} {} weights a thread with {} tokens, {} activations, {} threads", of.rows_of_thread,
                                kColumns, of.weights, tokens, of.activations, team.threads()));
}

Result<Rate> measure_attention(Backend& backend, ThreadTeam& team, double seconds) {
  constexpr size_t kTokens = 32, kHeads = 8, kKvHeads = 4, kHeadDim = 64, kPositions = 1024;
  const uint64_t side = kKvHeads * kPositions * kHeadDim;
  OTR_ASSIGN(const DeviceMemory cache, backend.allocate(2 * side * sizeof(uint16_t)));
  OTR_ASSIGN(const DeviceMemory rows, backend.allocate(2 * kTokens * kHeads * kHeadDim * sizeof(float)));
  OTR_ASSIGN(const DeviceMemory spare, backend.allocate(attention_scratch_bytes(kHeadDim) * team.threads()));
  fill_weights(cache.data(), cache.bytes());
  const auto* const keys = reinterpret_cast<const uint16_t*>(cache.data());
  auto* const q = reinterpret_cast<float*>(rows.data());
  for (size_t i = 0; i < kTokens * kHeads * kHeadDim; ++i) q[i] = std::sin(static_cast<float>(i));

  AttentionArgs args{};
  args.q = q, args.q_stride = kHeads * kHeadDim;
  args.k_cache = keys, args.v_cache = keys + side;
  args.dst = q + kTokens * kHeads * kHeadDim, args.dst_stride = kHeads * kHeadDim;
  args.tokens = kTokens, args.heads = kHeads, args.kv_heads = kKvHeads, args.head_dim = kHeadDim;
  args.capacity = kPositions, args.first_position = kPositions - kTokens, args.scale = 0.125f;
  args.scratch = spare.data();
  // Scores and values: two operations each for every element of every head.
  const double positions = kTokens * (kPositions - kTokens) + kTokens * (kTokens + 1) / 2.0;
  const Samples samples = Samples::collect(4.0 * kHeads * kHeadDim * positions, seconds, [&] {
    team.run([&args](const TeamMember& member) { attention(args, member); });
  });
  return samples.rate(formatted("attention of {} tokens to {} positions, {} heads of {}, {} threads", kTokens, kPositions, kHeads,
                                kHeadDim, team.threads()));
}

// As steps do it: rows that no cache has, since the disk wrote them, some at a time into a buffer that stays in one. From the cache it
// would be twice as fast for Q4_1 (14.6 GB/s of two threads against 7.8).
Result<Rate> measure_repack(Backend& backend, ThreadTeam& team, DType type, double seconds) {
  constexpr uint64_t kColumns = 2048, kPieces = 10;  // of a thread: 1.25 MiB
  const PackedKind kind = *packed_kind(type);
  const std::optional<uint64_t> row = row_bytes(type, kColumns);
  if (!row) return Status(StatusCode::kInternal, formatted("no row size for {}", traits(type).name));
  const uint64_t rows = kUnpackBytes / packed_block_bytes(kind, kColumns) * kPackRows, piece_bytes = rows * *row,
                 buffer_bytes = packed_bytes(kind, rows, kColumns);
  OTR_ASSIGN(const DeviceMemory src, backend.allocate(team.threads() * kPieces * piece_bytes));
  OTR_ASSIGN(const DeviceMemory dst, backend.allocate(team.threads() * buffer_bytes));
  fill_weights(src.data(), src.bytes());
  auto pack = [&](const TeamMember& member) {
    const std::byte* piece = src.data() + member.index() * kPieces * piece_bytes;
    for (uint64_t i = 0; i < kPieces; ++i, piece += piece_bytes) {
      bring_near(piece, piece_bytes);
      pack_rows(type, piece, rows, kColumns, dst.data() + member.index() * buffer_bytes);
    }
  };
  const auto clean = [&] {
    team.run([&](const TeamMember& member) { evict(src.data() + member.index() * kPieces * piece_bytes, kPieces * piece_bytes); });
  };
  const Samples samples = Samples::collect(static_cast<double>(kPieces * buffer_bytes), seconds, [&] { team.run(pack); }, clean);
  return samples.rate(formatted("packing {} of {} rows from memory, each of {} threads", format_bytes(kPieces * buffer_bytes),
                                traits(type).name, team.threads()));
}

// A region and the barriers between the operators of thirty layers: what a step of a small model costs besides its arithmetic.
// The fastest of many: at a barrier a single thread that is kept from running, as on a busy machine, costs a thousand times the barrier.
double measure_overhead_us(ThreadTeam& team, double seconds) {
  constexpr int kBarriers = 200;
  const Samples samples = Samples::collect(1, seconds, [&team] {
    team.run([](const TeamMember& member) {
      for (int i = 0; i < kBarriers; ++i) member.barrier();
    });
  });
  return 1e6 / samples.fastest();
}

}  // namespace

Result<MachineProfile> measure_machine(const ProfileOptions& options) {
  if (!std::isfinite(options.seconds_per_lane) || options.seconds_per_lane < 0 || options.seconds_per_lane > 600) {
    return Status(StatusCode::kInvalidArgument, formatted("seconds_per_lane: got {}, need 0 to 600", options.seconds_per_lane));
  }
  const double seconds = options.seconds_per_lane;
  const std::unique_ptr<Backend> backend = make_cpu_backend();
  OTR_ASSIGN(const std::unique_ptr<Backend> device, open_backend(options.device));
  const bool has_device = !device->inventory().host_addressable;
  MachineProfile profile;
  if (!options.disk_path.empty()) {  // first: a wrong path should not take the time of the others to be found
    OTR_ASSIGN(profile.disk_bytes, measure_disk(*backend, options.disk_path, seconds));
  } else {
    profile.disk_bytes.how = "not measured";
  }
  profile.machine = machine_fingerprint();
  profile.threads = options.threads > 0 ? options.threads : static_cast<uint32_t>(usable_cores());
  OTR_ASSIGN(const std::unique_ptr<ThreadTeam> team, ThreadTeam::create(profile.threads));
  {
    OTR_ASSIGN(const HostProduct product, stream_product(*backend, *team));
    profile.host_stream_bytes = measure_stream(product, *team, seconds);
    const BusyLanes lanes = {options.disk_path, has_device ? device.get() : nullptr};
    OTR_TRY(measure_busy(*backend, *team, product, lanes, seconds, &profile));
  }
  constexpr size_t kMany = 128, kFew = 4;
  OTR_ASSIGN(profile.host_int8_ops, measure_ops(*backend, *team, kInt8, kMany, seconds));
  OTR_ASSIGN(profile.host_small_batch_ops, measure_ops(*backend, *team, kInt8, kFew, seconds));
  OTR_ASSIGN(profile.host_float_ops, measure_ops(*backend, *team, kFloat32, kMany, seconds / 2));
  OTR_ASSIGN(profile.host_float_small_batch_ops, measure_ops(*backend, *team, kFloat32, kFew, seconds / 2));
  OTR_ASSIGN(profile.host_bf16_ops, measure_ops(*backend, *team, kBf16, kMany, seconds / 2));
  OTR_ASSIGN(profile.host_bf16_small_batch_ops, measure_ops(*backend, *team, kBf16, kFew, seconds / 2));
  OTR_ASSIGN(profile.host_attention_flops, measure_attention(*backend, *team, seconds));
  OTR_ASSIGN(profile.host_repack_bytes, measure_repack(*backend, *team, kMeasuredType, seconds));
  OTR_ASSIGN(profile.host_float_repack_bytes, measure_repack(*backend, *team, DType::kF16, seconds / 2));
  profile.host_step_overhead_us = measure_overhead_us(*team, seconds / 4);
  if (has_device) OTR_TRY(measure_device(*device, seconds, &profile));
  return profile;
}

}  // namespace outrigger
