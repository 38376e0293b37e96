// Host rates: memory or arithmetic, and packing.
#include "src/plan/host_rates.h"

#include <algorithm>

namespace outrigger {
namespace {

// One token's product takes as long as two tokens': weights are unpacked once for each pass over them. In cache, of 1, 2, 4 and 8 tokens: Q4_1 10, 13, 22 and 45 us,
// F16 36, 45, 82 and 175, BF16 26, 28, 46 and 87.
constexpr double kLeastTokens = 2;

double known_or(const Rate& rate, double otherwise) { return rate.per_s > 0 ? rate.per_s : otherwise; }

}  // namespace

HostRates::HostRates(const MachineProfile& machine)
    : stream_(machine.host_stream_bytes.per_s), busy_stream_(std::min(stream_, known_or(machine.host_stream_bytes_busy, stream_))) {
  // A 32-bit multiply-add in the time of four of 8 bits, and two of 16.
  constexpr double kFloatShare = 0.25, kBf16Share = 0.5;
  many_.int8 = machine.host_int8_ops.per_s, few_.int8 = machine.host_small_batch_ops.per_s;
  many_.float32 = known_or(machine.host_float_ops, kFloatShare * many_.int8);
  few_.float32 = known_or(machine.host_float_small_batch_ops, kFloatShare * few_.int8);
  many_.bf16 = known_or(machine.host_bf16_ops, kBf16Share * many_.int8);
  few_.bf16 = known_or(machine.host_bf16_small_batch_ops, kBf16Share * few_.int8);
  repack_ = machine.host_repack_bytes.per_s;
  float_repack_ = known_or(machine.host_float_repack_bytes, repack_);
  unpack_ = std::min(busy_stream_, machine.threads * repack_);
  float_unpack_ = std::min(busy_stream_, machine.threads * float_repack_);
}

double HostRates::arithmetic_s(const ProductWork& work, double tokens) const {
  const Rates& rates = tokens <= kSmallBatchTokens ? few_ : many_;
  return 2 * std::max(tokens, kLeastTokens) * (work.int8 / rates.int8 + work.float32 / rates.float32 + work.bf16 / rates.bf16);
}

double HostRates::unpack_s(const ProductWork& work) const {
  return (work.bytes - work.float_bytes - work.ready_bytes) / unpack_ + work.float_bytes / float_unpack_ + work.ready_bytes / busy_stream_;
}

double HostRates::lone_repack_s(const ProductWork& work) const {
  return (work.bytes - work.float_bytes - work.ready_bytes) / repack_ + work.float_bytes / float_repack_;
}

double HostRates::product_s(const ProductWork& work, double tokens, bool beside_link) const {
  return std::max(work.bytes / (beside_link ? busy_stream_ : stream_), arithmetic_s(work, tokens));
}

// What streams is multiplied with in the cache that it was packed into: packing and arithmetic add up there, where for weights in memory
// the longer of reading and arithmetic counts.
double HostRates::partly_streamed_product_s(const ProductWork& work, double tokens, double streamed, bool beside_link) const {
  const double arithmetic = arithmetic_s(work, tokens), resident = 1 - streamed;
  return std::max(resident * work.bytes / (beside_link ? busy_stream_ : stream_), resident * arithmetic) + streamed * (arithmetic + unpack_s(work));
}

}  // namespace outrigger
