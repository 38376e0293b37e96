// Host rates: memory or arithmetic, and packing.
#include "src/plan/host_rates.h"

#include <algorithm>

namespace outrigger {
namespace {

// One token's product takes as long as two tokens': weights are unpacked once for each pass over them. In cache, of 1, 2, 4 and 8 tokens:
// Q4_1 10, 13, 22 and 45 us, F16 36, 45, 82 and 175, BF16 26, 28, 46 and 87. With weights in memory the longer of the two, reading or
// arithmetic, is all: Q4_1 of 20 MiB 702, 758, 733, 901 and 1722 us of 1, 2, 4, 8 and 16 tokens.
constexpr double kLeastTokens = 2;

double known_or(const Rate& rate, double otherwise) { return rate.per_s > 0 ? rate.per_s : otherwise; }

double arithmetic_s(double weights, double many, double few, double tokens) {
  return 2 * std::max(tokens, kLeastTokens) * weights / (tokens <= kSmallBatchTokens ? few : many);
}

}  // namespace

HostRates::HostRates(const MachineProfile& machine)
    : stream_(machine.host_stream_bytes.per_s), busy_stream_(std::min(stream_, known_or(machine.host_stream_bytes_busy, stream_))) {
  // A 32-bit multiply-add in the time of four of 8 bits, and two of 16.
  constexpr double kFloatShare = 0.25, kBf16Share = 0.5;
  // Measured a moment apart, few tokens may come out as the faster ones; then steps of eight would seem to be all that is needed, of which
  // many texts or drafts have no room.
  const double many = machine.host_int8_ops.per_s, few = std::min(many, machine.host_small_batch_ops.per_s),
               repack = machine.host_repack_bytes.per_s;
  const auto unpack = [&](double a_thread) { return std::min(busy_stream_, machine.threads * a_thread); };
  const double float_repack = known_or(machine.host_float_repack_bytes, repack);
  int8_ = {many, few, unpack(repack)};
  const auto of = [](double of_many, double of_few, double unpacked) { return Kind{of_many, std::min(of_many, of_few), unpacked}; };
  float32_ = of(known_or(machine.host_float_ops, kFloatShare * many), known_or(machine.host_float_small_batch_ops, kFloatShare * few),
                unpack(float_repack));
  bf16_ = of(known_or(machine.host_bf16_ops, kBf16Share * many), known_or(machine.host_bf16_small_batch_ops, kBf16Share * few),
             unpack(float_repack));
}

double HostRates::part_s(const ProductWork::Part& part, const Kind& kind, double tokens, double streamed, bool beside_link) const {
  if (part.bytes == 0 && part.weights == 0) return 0;  // most models have one kind
  const double arithmetic = arithmetic_s(part.weights, kind.many, kind.few, tokens), resident = 1 - streamed;
  const double unpack = (part.bytes - part.ready_bytes) / kind.unpack + part.ready_bytes / busy_stream_;
  return resident * std::max(part.bytes / (beside_link ? busy_stream_ : stream_), arithmetic) + streamed * (unpack + arithmetic);
}

// The second pass over weights finds them in the second-level cache, and nothing is read meanwhile.
double HostRates::partly_streamed_product_s(const ProductWork& work, double tokens, double streamed, bool beside_link) const {
  return part_s(work.int8, int8_, tokens, streamed, beside_link) + part_s(work.float32, float32_, tokens, streamed, beside_link) +
         part_s(work.bf16, bf16_, tokens, streamed, beside_link) + arithmetic_s(work.int8_again, int8_.many, int8_.few, tokens);
}

}  // namespace outrigger
