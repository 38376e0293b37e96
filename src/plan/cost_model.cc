// Cost model: lanes that work side by side, and what they cannot hide from each other.
#include "src/plan/cost_model.h"

#include <algorithm>
#include <cmath>

#include "src/plan/correction_cost.h"
#include "src/plan/memory_model.h"

namespace outrigger {
namespace {

// A read request, and what waits for it starting again: the request 30-80 us on solid-state disks, the other 2-10 us.
constexpr double kUnitOverheadS = 60e-6;
// A row of an embedding: mostly from the page cache, where it takes 2 us; from the disk itself 80.
constexpr double kRowReadS = 20e-6;
// What is brought over the link, and keys and values, are not all equal, nor is the work between them: the share of the shorter lane that
// is not hidden, with two slots.
constexpr double kUnevenness = 0.1;

// What fewer reads than were in flight when the disk was measured get of its rate: on a virtio disk 1.04 GB/s for one of 1 MiB and 3.1 for
// four; between them the first is worth most.
constexpr double kRateOfReads[kMostReads] = {0.4, 0.7, 0.9, 1};
static_assert(kKvReads <= kMostReads);

// The same of a mean of steps that have some more, some fewer in flight.
double rate_of_reads(double reads) {
  const double within = std::clamp(reads, 1.0, static_cast<double>(kMostReads)) - 1;
  const auto below = std::min(static_cast<uint32_t>(within), kMostReads - 2);
  return kRateOfReads[below] + (kRateOfReads[below + 1] - kRateOfReads[below]) * (within - below);
}

// While the host does nothing else.
double disk_rate_alone(const MachineProfile& machine) {
  const double busy = machine.disk_bytes_busy.per_s, alone = machine.disk_bytes.per_s;
  return alone > 0 ? std::max(alone, busy) : busy > 0 ? busy : kUnknownDiskBytesPerS;
}

// While it computes.
double disk_rate(const MachineProfile& machine) {
  return machine.disk_bytes_busy.per_s > 0 ? machine.disk_bytes_busy.per_s : disk_rate_alone(machine);
}

double units(uint64_t packed_bytes, uint64_t slot_bytes) {
  return packed_bytes == 0 ? 0 : std::ceil(static_cast<double>(packed_bytes) / static_cast<double>(slot_bytes));
}

}  // namespace

CostModel::CostModel(const StepShape& shape, const MachineProfile& machine, const Workload& workload)
    : kv_bytes_per_position_(static_cast<double>(kv_bytes_per_token(shape, workload.kv_type))),
      attention_flops_(shape.attention_flops_per_token_per_position),
      activation_flops_(shape.activation_flops_per_token),
      kv_layers_(shape.kv_layers),
      kv_(kv_spill_shape(shape, workload.kv_type,
                         workload.context_tokens > 0 ? workload.context_tokens : uint64_t{workload.prompt_tokens} + workload.new_tokens)),
      host_(machine),
      attention_(machine.host_attention_flops.per_s),
      disk_(disk_rate(machine)),
      disk_alone_(disk_rate_alone(machine)),
      overhead_s_(machine.host_step_overhead_us * 1e-6),
      residual_bytes_(static_cast<double>(shape.residual_read_bytes_per_token)),
      expert_repetition_(workload.expert_repetition),
      workload_(workload),
      device_(shape, machine, workload) {
  bool is_of_branch = false;  // the matrix before, of the same window
  for (const MatrixShape& matrix : shape.matrices) {
    const bool adds = matrix.adds_to_window && matrix.used_share > 0;
    if (adds && !is_of_branch) overhead_s_ += kBranchWindowS;
    is_of_branch = adds;
    if (matrix.use == MatrixUse::kRowLookup) continue;
    if (matrix.use == MatrixUse::kRouted) {
      expert_ += product_work(matrix, matrix.rows, matrix.expert_packed_bytes());
      expert_file_bytes_ += static_cast<double>(matrix.expert_file_bytes());
      experts_ = std::max<double>(experts_, matrix.experts);
      continue;
    }
    (matrix.use == MatrixUse::kLogits ? heads_ : layers_) += product_work(matrix, matrix.rows, matrix.packed_bytes);
  }
  used_experts_ = std::min<double>(shape.used_experts, experts_);
  expert_layers_ = experts_ > 0 ? expert_count(shape) / experts_ : 0;
}

double CostModel::attention_s(const StepWork& work) const {
  return std::max(attention_flops_ * positions_seen(work) / attention_, kv_bytes_per_position_ * positions_read(work) / host_.stream()) +
         work.tokens * activation_flops_ / attention_;
}

double CostModel::row_reads_s(uint32_t tokens, uint32_t row_reads) const { return static_cast<double>(tokens) * row_reads * kRowReadS; }

double CostModel::fetch_s(uint64_t file_bytes, uint32_t reads) const {
  return read_s(static_cast<double>(file_bytes), reads) + kUnitOverheadS;
}

// As long as the host computes the disk reads at the rate that it has then; where that takes all of the reading, at that rate altogether.
double CostModel::disk_slowdown(double host_s, double disk_s) const {
  const double slowest = disk_alone_ / disk_;
  return disk_s > 0 ? 1 + std::min(host_s / disk_s, slowest) * (1 - 1 / slowest) : 1;
}

double CostModel::read_s(double file_bytes, uint32_t reads) const {
  return file_bytes / (disk_alone_ * kRateOfReads[std::clamp(reads, 1u, kMostReads) - 1]);
}

double CostModel::disk_s(uint64_t file_bytes, uint64_t packed_bytes, const StreamLoad& load) const {
  return read_s(static_cast<double>(file_bytes), load.reads) + units(packed_bytes, load.slot_bytes) * kUnitOverheadS;
}

double CostModel::kv_fetch_s(const StepWork& work) const {
  const KvMove move = most_moved(kv_.runs, kv_.extent(work.position, work.tokens_each()).prefix);
  if (move.ranges == 0) return 0;
  const double reads = std::max(move.ranges, move.bytes / static_cast<double>(kKvReadBytes));
  const auto in_flight = static_cast<uint32_t>(std::min<double>(reads, kKvReads));
  return work.sequences * (move.bytes / (disk_ * kRateOfReads[in_flight - 1]) + reads * kUnitOverheadS / in_flight);
}

// A disk of whose writing nothing is known is taken to write as it reads.
double CostModel::kv_store_s(const StepWork& work) const {
  const KvExtent extent = kv_.extent(work.position, work.tokens_each());
  const KvMove move = most_moved(kv_.runs, extent.end - extent.begin);
  return work.sequences * (move.bytes / (disk_ * kRateOfReads[0]) + move.ranges * kUnitOverheadS);
}

double CostModel::step_overhead_s(uint32_t tokens, double corrected_bytes) const {
  return overhead_s_ + tokens * kScatteredReadCost * std::max(0.0, residual_bytes_ - corrected_bytes) / host_.stream();
}

double CostModel::handoff_s(bool by_words) const { return by_words ? 0 : kHandoffS; }

double CostModel::take_over_s(double bytes, bool by_words) const { return (by_words ? 0 : kTakeOverS) + device_.add_s(bytes); }

double CostModel::correction_s(const CorrectedWindows& windows, double tokens, bool beside_link) const {
  return host_.product_s(windows.here, tokens, beside_link) + tokens * kScatteredReadCost * windows.residual_bytes / host_.stream();
}

CorrectionTime CostModel::corrections(const DeviceSums& sums, double tokens, bool beside_link) const {
  const bool by_words = device_.hands_words(tokens, beside_link);
  CorrectionTime all;
  for (const CorrectedWindows& windows : sums.corrected) {
    if (windows.count == 0) continue;
    const double host = correction_s(windows, tokens, beside_link),
                 add = windows.count * take_over_s(tokens * windows.result_bytes / windows.count, by_words);
    const double input = windows.count * device_.input_s(tokens * windows.input_bytes / windows.count, by_words),
                 result = windows.count * device_.result_s(tokens * windows.result_bytes / windows.count, by_words);
    all.host_s += host, all.input_s += input, all.result_s += result, all.add_s += add;
    const double there = device_.work_s(windows.there, tokens, 0);
    all.waited_s += add + std::max(0.0, input + host + result + windows.count * handoff_s(by_words) - there);
  }
  return all;
}

// Of a layer's `needed` experts those that have to be read: of one token's as texts repeat them, and of all experts those that have no
// room, since a step that goes through all finds as many as there are slots, however often each was used. In between the exponent falls
// off in proportion.
double CostModel::missing_share(double needed, double absent_share) const {
  const double beyond = experts_ > used_experts_ ? (experts_ - needed) / (experts_ - used_experts_) : 0;
  return std::pow(absent_share, 1 + (expert_repetition_ - 1) * beyond);
}

// Experts are read once their layer's router has spoken, so nothing of them overlaps with the rest of the step; what does is the reading of
// some with the computing of those that are there, and of many with the packing and computing of those that came before. A step's tokens
// are taken to be routed apart from each other. However many reads an expert takes the disk has no more of the rate than for one of them:
// of 1.66 MB 1.28 ms in 1 to 26 reads, where several experts at once come at three times that rate. So reads in flight are the experts that
// a layer waits for, where it waits for any; they come about together, and nothing hides their products.
ExpertTime CostModel::experts(const StepWork& work, double absent_share, uint32_t reads) const {
  ExpertTime time;
  if (experts_ == 0) return time;
  const double tokens = work.tokens, needed = experts_ * (1 - std::pow(1 - used_experts_ / experts_, tokens)),
               missing = missing_share(needed, absent_share), absent = needed * missing;
  time.host_s = needed * host_.partly_streamed_product_s(expert_, tokens * used_experts_ / needed, missing, false);
  time.total_s = time.host_s;
  if (absent == 0) return time;
  const double waiting = 1 - std::pow(1 - missing, needed);  // share of the layers
  const double in_flight = std::min<double>(absent / waiting, reads);
  const double beside_s = waiting * time.host_s * (1 - in_flight / needed);
  const double reading = absent * expert_file_bytes_ / (disk_alone_ * rate_of_reads(in_flight));
  time.disk_s = reading * disk_slowdown(beside_s, reading) + expert_layers_ * std::min(absent, 1.0) * kUnitOverheadS;
  time.total_s += time.disk_s - std::min(beside_s, time.disk_s);
  time.bytes = absent * expert_file_bytes_;
  return time;
}

// The longer lane, what is left bare of the shorter one, and the product with the last slot, which nothing is left to hide. A disk shares
// itself among all that it was asked for, so that units asked for one after the other come about together, and while the first of them is
// computed nothing is asked for: what is computed with one slot of a ring full is not hidden. Through 3 slots of 2 MiB, 64 MB in 55 ms,
// work of 9, 19 and 28 ms between the units made 58 to 62, 62 and 66 to 69.
// `elsewhere`: what the host waits for meanwhile.
double CostModel::overlapped_s(double host, double elsewhere, double weights, double kv, const StreamLoad& load) const {
  const double disk = weights + kv, waiting_host = host + elsewhere;
  if (disk == 0) return waiting_host;
  const double bare = std::min(waiting_host, weights) / std::max(load.slots, kLeastSlots) + kUnevenness * std::min(waiting_host, kv);
  const double last_slot = host * std::min(1.0, static_cast<double>(load.slot_bytes) / (layers_.bytes() + heads_.bytes()));
  return std::max(waiting_host, disk) + bare + std::min(disk, last_slot);
}

StepTime CostModel::step(const StepWork& work, const StreamLoad& load, const DeviceLoad* device) const {
  const double tokens = work.tokens, rows = work.logit_rows;
  const DeviceSums there = device != nullptr ? device->sums(work.tokens) : DeviceSums();
  const DeviceTime other = device != nullptr ? device_.time(*device, work) : DeviceTime();
  const bool beside_link = other.upload_s > 0;
  const CorrectionTime corrections = this->corrections(there, tokens, beside_link);
  const double elsewhere = other.device_s + other.up_s + other.down_s + corrections.waited_s;
  const double host_attention = attention_s(work) * (1 - there.layers.attention_layers / kv_layers_);
  const auto host_products = [&](ProductWork all, const WorkSums& on_device, uint64_t streamed_bytes, double of_tokens) {
    all -= on_device.products;
    if (!(all.bytes() > 0)) return 0.0;
    return host_.partly_streamed_product_s(all, of_tokens, std::min(1.0, static_cast<double>(streamed_bytes) / all.bytes()), beside_link);
  };
  WorkSums elsewhere_work = there.layers;  // on the device, or beside it
  double corrected_bytes = 0;
  for (const CorrectedWindows& windows : there.corrected) {
    elsewhere_work.products += windows.here;
    corrected_bytes += windows.residual_bytes;
  }
  const double host_layers =
      host_products(layers_, elsewhere_work, load.layer_packed, tokens) + host_attention + step_overhead_s(work.tokens, corrected_bytes);
  const double host_heads = rows > 0 ? host_products(heads_, there.heads, load.head_packed, rows) : 0;

  const double fetch = load.kv_spilled_layers > 0 ? kv_fetch_s(work) : 0, store = load.kv_spilled_layers > 0 ? kv_store_s(work) : 0;
  const double kv = load.kv_spilled_layers * (fetch + store);
  const double disk_layers = disk_s(load.layer_file, load.layer_packed, load);
  const double disk_heads = rows > 0 ? disk_s(load.head_file, load.head_packed, load) : 0;
  const double row_reads = row_reads_s(work.tokens, load.row_reads);

  StepTime time;
  time.host_s = host_layers + host_heads;
  const double weights = (disk_layers + disk_heads) * disk_slowdown(time.host_s, disk_layers + disk_heads), reading = weights + kv;
  time.disk_s = reading + row_reads;
  time.h2d_s = other.upload_s + other.up_s;
  time.device_s = other.device_s;
  time.d2h_s = other.down_s;
  time.total_s = overlapped_s(time.host_s, elsewhere, weights, kv, load);
  // While one part of the step computes, no more of the other part can be read ahead than the ring holds, and no keys and values at all.
  const double ring = load.slot_bytes > 0 ? load.slots * disk_s(load.slot_bytes, load.slot_bytes, load) : 0;
  time.total_s = std::max({time.total_s, host_layers + disk_heads - ring, host_heads + disk_layers + kv - ring, host_heads + kv,
                           other.disk_gap_s + disk_layers + kv - ring});
  if (other.upload_s > 0) {  // the same of the link
    const double gap = other.link_gap_s + host_.product_s(there.link_gap_host.products, tokens, beside_link);
    time.total_s = std::max({time.total_s, time.h2d_s, gap + other.upload_s - other.ring_s});
    time.total_s +=
        kUnevenness / (device->slots - 1) * std::min(time.host_s + elsewhere, other.upload_s) + std::min(other.upload_s, other.last_slot_s);
  }
  time.total_s += row_reads;
  // Nothing hides the first layer's fetch from a step that begins with it, nor the last one's store; between them there are two slots,
  // whatever the ring has.
  time.total_s += fetch + store + kUnevenness * std::min(host_layers, kv);
  time.host_s += corrections.host_s;
  time.d2h_s += corrections.input_s;
  time.h2d_s += corrections.result_s;
  time.device_s += corrections.add_s;
  const ExpertTime experts = this->experts(work, load.absent_experts, load.reads);
  time.host_s += experts.host_s;
  time.disk_s += experts.disk_s;
  time.total_s += experts.total_s;
  time.expert_bytes = experts.bytes;
  return time;
}

double CostModel::steps(uint32_t step_tokens) const {
  return std::ceil(static_cast<double>(workload_.prompt_tokens) / step_tokens) +
         static_cast<double>(workload_.new_tokens) / decode_work(step_tokens).tokens;
}

StepWork CostModel::decode_work(uint32_t step_tokens) const {
  const uint32_t sequences = std::min(workload_.batch, step_tokens);
  return {sequences, workload_.prompt_tokens + workload_.new_tokens / 2.0, sequences, sequences};
}

StepWork CostModel::prefill_work(uint32_t step_tokens) const {
  const uint32_t prompt = workload_.prompt_tokens, tokens = std::min(step_tokens, std::max(prompt, 1u));
  return {tokens, static_cast<double>(prompt - std::min(tokens, prompt)), std::min(workload_.logit_rows, tokens)};
}

WorkloadTime CostModel::workload(uint32_t step_tokens, const StreamLoad& load, const DeviceLoad* device) const {
  WorkloadTime time;
  const uint32_t prompt = workload_.prompt_tokens;
  if (prompt > 0) {
    const uint32_t full = (prompt - 1) / step_tokens, last = prompt - full * step_tokens;
    const double half = step_tokens / 2.0;
    if (full > 0) {
      const uint32_t rows = workload_.logit_rows > 1 ? std::min(workload_.logit_rows, step_tokens) : 0;
      time.prefill_s = full * step({step_tokens, (full - 1) * half, rows}, load, device).total_s;  // at the mean position of these chunks
    }
    time.prefill_s += step({last, static_cast<double>(full) * step_tokens, std::min(workload_.logit_rows, last)}, load, device).total_s;
  }
  const StepWork decode = decode_work(step_tokens);
  time.decode_s = step(decode, load, device).total_s / decode.tokens;
  time.total_s = time.prefill_s + workload_.new_tokens * time.decode_s;
  return time;
}

}  // namespace outrigger
