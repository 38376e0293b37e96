// DeviceSearch: candidates, their bytes, and the choice among them.
#include "src/plan/device_search.h"

#include <algorithm>
#include <cmath>

namespace outrigger {

// What a candidate leaves to the host, to be searched.
struct DeviceSearch::Rest::Made {
  StepShape shape;
  std::vector<uint32_t> matrices;  ///< of the whole shape, for each of this one's
  std::unique_ptr<PlacementSearch> search;
};

// The fastest so far.
class DeviceSearch::Best {
 public:
  explicit Best(double to_beat_s) : to_beat_s_(to_beat_s) {}
  bool is_beaten_by(double time_s) const { return time_s < to_beat_s_; }
  void take(DevicePlacement placement) {
    to_beat_s_ = placement.time.total_s;
    placement_ = std::move(placement);
  }
  std::optional<DevicePlacement> placement() && { return std::move(placement_); }

 private:
  double to_beat_s_;
  std::optional<DevicePlacement> placement_;
};

DeviceSearch::~DeviceSearch() = default;

DeviceSearch::DeviceSearch(const StepShape& shape, const Demand& demand, const CostModel& cost, const MachineProfile& machine,
                           CorrectionPlace corrections)
    : shape_(shape),
      demand_(demand),
      cost_(cost),
      candidates_(shape, demand, corrections),
      threads_(machine.device_threads),
      handoff_bytes_(machine.handoff_us > 0 ? handoff_bytes(handoff_size(shape)) : 0) {
  Demand there = demand;
  there.threads = threads_;
  const uint64_t before = add_bytes(whole_pages(demand.draft_device_bytes), whole_pages(demand.device_taken_bytes));
  for (const ActivationCost& step : shape.activations) {
    host_step_bytes_.push_back(outrigger::host_step_bytes(shape, demand, step));
    device_step_bytes_.push_back(add_bytes(before, activation_bytes(shape, there, step)));
    beside_step_bytes_.push_back(add_bytes(before, activation_bytes(shape, there, step, true)));
  }
  for (uint32_t layers = 0; layers <= shape.kv_layers; ++layers) kv_bytes_.push_back(kv_cache_bytes(shape, demand, layers));
  for (const MatrixShape& matrix : shape.matrices) {
    if (matrix.use != MatrixUse::kEveryToken) continue;
    layer_bytes_ = add_bytes(layer_bytes_, resident_bytes(matrix));
    least_file_share_ = std::min(least_file_share_, static_cast<double>(matrix.file_bytes) / static_cast<double>(resident_bytes(matrix)));
  }

  bare_ = shape;
  for (MatrixShape& matrix : bare_.matrices) matrix.name.clear();
  for (const DeviceCandidate& candidate : candidates_.beside_disk()) {
    rests_.push_back(std::make_unique<Rest>());
    rests_.back()->candidate = candidate;
  }
}

uint64_t DeviceSearch::device_bytes(const DeviceCandidate& candidate, size_t step) const {
  return add_bytes(
      add_bytes(candidate.device_weights, multiply_bytes(candidate.load.slots, candidate.load.slot_bytes)),
      add_bytes(kv_bytes_[candidate.attention_layers], candidate.beside ? beside_step_bytes_[step] : device_step_bytes_[step]));
}

uint64_t DeviceSearch::host_bytes(const DeviceCandidate& candidate, size_t step) const {
  return add_bytes(
      add_bytes(candidate.host_weights, candidate.row_buffer_bytes),
      add_bytes(add_bytes(kv_bytes_[shape_.kv_layers - candidate.attention_layers], host_step_bytes_[step]), beside_bytes(candidate)));
}

bool DeviceSearch::takes_step(const DeviceCandidate& candidate, size_t step, uint64_t device_budget) const {
  const uint64_t bytes = device_bytes(candidate, step);
  return bytes <= device_budget && bytes != UINT64_MAX && shape_.activations[step].tokens >= candidate.load.from_tokens;
}

// Where the host has everything else in memory.
bool DeviceSearch::is_too_large(const DeviceCandidate& candidate, size_t step) const {
  return candidate.least_slot_bytes == 0 && shape_.activations[step].tokens > kMostTokensInPlace;
}

std::vector<bool> DeviceSearch::steps_within(const DeviceCandidate& candidate, uint64_t device_budget) const {
  std::vector<bool> steps;
  for (size_t step = 0; step < shape_.activations.size(); ++step) steps.push_back(takes_step(candidate, step, device_budget));
  return steps;
}

const DeviceSearch::Rest::Made& DeviceSearch::made(Rest& rest) const {
  if (rest.made) return *rest.made;
  rest.made = std::make_unique<Rest::Made>();
  const DeviceCandidate& candidate = rest.candidate;
  StepShape& shape = rest.made->shape;
  uint64_t streamed = 0;  // to the device, or correcting what is there: resident here
  shape.matrices.reserve(bare_.matrices.size());
  for (uint32_t i = 0; i < bare_.matrices.size(); ++i) {
    const PartPlace place =
        candidates_.chain().part_of[i] == PartChain::kNone ? PartPlace::kHost : candidate.places[candidates_.chain().part_of[i]];
    const bool is_beside = candidate.beside && bare_.matrices[i].is_branch && place != PartPlace::kHost;
    if (place == PartPlace::kStreamed || is_beside) streamed = add_bytes(streamed, resident_bytes(bare_.matrices[i]));
    if (place != PartPlace::kHost) continue;
    shape.matrices.push_back(bare_.matrices[i]);
    rest.made->matrices.push_back(i);
  }
  const uint32_t layers = shape_.kv_layers - candidate.attention_layers;
  shape.used_experts = shape_.used_experts;
  shape.fixed_bytes = add_bytes(fixed_arena_bytes(shape_), streamed);
  shape.kv_layers = std::max(1u, layers);
  shape.kv_bytes_per_token = shape_.kv_bytes_per_token / shape_.kv_layers * layers;
  shape.kv_takes_q8_0 = shape_.kv_takes_q8_0;
  shape.residual_bytes = shape_.residual_bytes;
  shape.residual_read_bytes_per_token = shape_.residual_read_bytes_per_token;
  shape.kv_granule_tokens = shape_.kv_granule_tokens;
  shape.activations = shape_.activations;
  shape.activation_bytes_per_thread = shape_.activation_bytes_per_thread;
  shape.logits_row_bytes = shape_.logits_row_bytes;
  const HostRest beside{largest_row_block(shape_), candidate.row_bytes, candidate.row_reads,
                        beside_bytes(candidate),   &candidate.load,     true};
  rest.made->search = std::make_unique<PlacementSearch>(shape, demand_, cost_, 0, beside);
  return *rest.made;
}

uint64_t DeviceSearch::minimum_host_bytes(uint64_t device_budget) const {
  uint64_t least = UINT64_MAX;
  candidates_.for_each([&](const DeviceCandidate& candidate) {
    for (size_t step = 0; step < shape_.activations.size(); ++step) {
      if (takes_step(candidate, step, device_budget)) least = std::min(least, host_bytes(candidate, step));
    }
  });
  for (const std::unique_ptr<Rest>& rest : rests_) {
    const std::vector<bool> steps = steps_within(rest->candidate, device_budget);
    const uint64_t streamed = streamed_bytes(rest->candidate);
    uint64_t needed = UINT64_MAX;
    for (size_t step = 0; step < steps.size(); ++step) {
      if (steps[step]) needed = std::min(needed, bytes_without_layers(rest->candidate, streamed, step));
    }
    if (needed < least) least = std::min(least, made(*rest).search->minimum_bytes(steps));
  }
  return least;
}

DevicePlacement DeviceSearch::placement_of(const DeviceCandidate& candidate, size_t step) const {
  DevicePlacement placement;
  placement.places = candidate.places;
  placement.load = candidate.load;
  placement.step = step;
  placement.resident.assign(shape_.matrices.size(), true);
  placement.use.resident.assign(shape_.matrices.size(), false);
  placement.use.streamed.assign(shape_.matrices.size(), false);
  for (size_t i = 0; i < shape_.matrices.size(); ++i) {
    if (candidates_.chain().part_of[i] == PartChain::kNone) continue;
    if (candidate.beside && shape_.matrices[i].is_branch) continue;
    placement.use.resident[i] = candidate.places[candidates_.chain().part_of[i]] == PartPlace::kDevice;
    placement.use.streamed[i] = candidate.places[candidates_.chain().part_of[i]] == PartPlace::kStreamed;
  }
  placement.use.slots = candidate.load.slots;
  placement.use.slot_bytes = candidate.load.slot_bytes;
  placement.use.threads = threads_;
  placement.use.corrections_beside = candidate.beside;
  placement.use.transfer_bytes = candidate.transfer_bytes;
  placement.use.handoff_bytes = handoff_bytes_of(candidate);
  placement.device_bytes = device_bytes(candidate, step);
  placement.host_bytes = host_bytes(candidate, step);
  return placement;
}

// Of the host's memory, whatever else happens to be there: weights that stream to the device, and branches that correct there from here.
uint64_t DeviceSearch::streamed_bytes(const DeviceCandidate& candidate) const {
  uint64_t streamed = 0;
  for (size_t i = 0; i < candidate.places.size(); ++i) {
    const DevicePart& part = candidates_.chain().parts[i];
    if (candidate.places[i] == PartPlace::kDevice && part.part != MatrixPart::kHead && candidate.beside)
      streamed = add_bytes(streamed, part.branch_arena_bytes);
    if (candidate.places[i] == PartPlace::kStreamed) streamed = add_bytes(streamed, part.arena_bytes);
  }
  return streamed;
}

uint64_t DeviceSearch::bytes_without_layers(const DeviceCandidate& candidate, uint64_t streamed, size_t step) const {
  return add_bytes(add_bytes(add_bytes(fixed_arena_bytes(shape_), streamed), beside_bytes(candidate)),
                   add_bytes(kv_bytes_[shape_.kv_layers - candidate.attention_layers], host_step_bytes_[step]));
}

// No placement of the rest is faster: as if everything but the layers needed no memory, and reading did nothing but read.
double DeviceSearch::least_time_s(const DeviceCandidate& candidate, const std::vector<bool>& steps, uint64_t host_budget) const {
  const uint64_t streamed = streamed_bytes(candidate);
  uint64_t on_device = 0;
  for (size_t i = 0; i < candidate.places.size(); ++i) {
    const DevicePart& part = candidates_.chain().parts[i];
    if (candidate.places[i] == PartPlace::kDevice && part.part != MatrixPart::kHead)
      on_device = add_bytes(on_device, part.arena_bytes - (candidate.beside ? part.branch_arena_bytes : 0));
  }
  double least = HUGE_VAL;
  for (size_t step = 0; step < steps.size(); ++step) {
    if (!steps[step]) continue;
    const uint64_t others = bytes_without_layers(candidate, streamed, step);
    if (others > host_budget) continue;
    const uint64_t layers = layer_bytes_ - std::min(layer_bytes_, add_bytes(on_device, streamed)), room = host_budget - others;
    const double missing = layers > room ? static_cast<double>(layers - room) * least_file_share_ : 0;
    const uint32_t tokens = shape_.activations[step].tokens;
    const double time_s = cost_.workload(tokens, {}, &candidate.load).total_s, read_s = cost_.steps(tokens) * cost_.least_read_s(missing);
    least = std::min(least, std::max(time_s, read_s));
  }
  return least;
}

std::optional<DevicePlacement> DeviceSearch::best(uint64_t host_budget, uint64_t device_budget, bool reads, double to_beat_s) const {
  Best best(to_beat_s);
  candidates_.for_each([&](const DeviceCandidate& candidate) {
    StreamLoad load;
    load.row_reads = candidate.row_reads;
    for (size_t step = 0; step < shape_.activations.size(); ++step) {
      if (!takes_step(candidate, step, device_budget) || is_too_large(candidate, step)) continue;
      const uint64_t bytes = host_bytes(candidate, step);
      if (bytes > host_budget || bytes == UINT64_MAX) continue;
      const WorkloadTime time = cost_.workload(shape_.activations[step].tokens, load, &candidate.load);
      if (!best.is_beaten_by(time.total_s)) continue;
      DevicePlacement placement = placement_of(candidate, step);
      placement.time = time;
      best.take(std::move(placement));
    }
  });
  if (!reads) return std::move(best).placement();
  for (const std::unique_ptr<Rest>& rest : rests_) {
    const std::vector<bool> steps = steps_within(rest->candidate, device_budget);
    if (!best.is_beaten_by(least_time_s(rest->candidate, steps, host_budget))) continue;
    const Rest::Made& left = made(*rest);
    const std::optional<Placement> found = left.search->best(host_budget, &steps);
    if (!found || !best.is_beaten_by(found->time.total_s)) continue;
    DevicePlacement placement = placement_of(rest->candidate, found->step);
    placement.time = found->time;
    placement.slots = found->slots;
    placement.host_bytes = found->planned_bytes;
    const std::vector<bool> resident = left.search->resident(*found);
    for (size_t i = 0; i < resident.size(); ++i) placement.resident[left.matrices[i]] = resident[i];
    best.take(std::move(placement));
  }
  return std::move(best).placement();
}

std::optional<DevicePlacement> DeviceSearch::everything(size_t step) const {
  const std::vector<PartPlace> places(candidates_.chain().parts.size(), PartPlace::kDevice);
  if (places.empty()) return std::nullopt;
  const DeviceCandidate candidate = candidates_.of(places, 0, candidates_.besides().front());
  if (!takes_step(candidate, step, UINT64_MAX - 1) || is_too_large(candidate, step) || host_bytes(candidate, step) == UINT64_MAX)
    return std::nullopt;
  StreamLoad load;
  load.row_reads = candidate.row_reads;
  DevicePlacement placement = placement_of(candidate, step);
  placement.time = cost_.workload(shape_.activations[step].tokens, load, &candidate.load);
  return placement;
}

std::optional<DevicePlacement> DeviceSearch::everything() const {
  std::optional<DevicePlacement> best;
  for (size_t step = 0; step < shape_.activations.size(); ++step) {
    std::optional<DevicePlacement> with_step = everything(step);
    if (with_step && (!best || with_step->time.total_s < best->time.total_s)) best = std::move(with_step);
  }
  return best;
}

}  // namespace outrigger
