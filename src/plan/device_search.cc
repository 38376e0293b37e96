// DeviceSearch: candidates, their bytes, and the choice among them.
#include "src/plan/device_search.h"

#include <algorithm>
#include <cmath>

namespace outrigger {
namespace {

struct Ring {
  uint32_t slots;
  uint64_t slot_bytes;
};
// From what a device of few MiB can spare to what hides an uneven step; a matrix of longer row blocks makes slots as large as these.
constexpr Ring kRings[] = {{2, 256 << 10}, {3, 1 << 20}, {4, 1 << 20}, {4, 4 << 20}};
// Copying what is used once pays from where products take longer than the copy: a few tokens where the link is fast, some tens where it is not.
constexpr uint32_t kFromTokens[] = {8, 32, 128};
// Every feed-forward part streams, every second, or every third: the host computes the others while the link is busy.
constexpr uint32_t kStrides[] = {1, 2, 3};
// A search for the rest of a model takes about 0.1 us for each of its matrices.
constexpr size_t kMostSearched = 40000;
// Where the host reads from disk too, one way of streaming to the device is tried: the middle of each of these.
constexpr Ring kRingBesideDisk = {4, 1 << 20};
constexpr uint32_t kFromTokensBesideDisk = 32;

// 1, 2, 3, and so on with ever larger gaps, at least a `ratio` of the length; the last is `most`.
std::vector<bool> spaced(size_t most, double ratio) {
  std::vector<bool> taken(most + 1);
  for (double length = 1; length < static_cast<double>(most); length = std::max(length + 1, length * ratio)) taken[static_cast<size_t>(length)] = true;
  taken[most] = true;
  return taken;
}

}  // namespace

// One placement but for the step size, and the sums of its bytes.
struct DeviceSearch::Candidate {
  std::vector<PartPlace> places;
  DeviceLoad load;
  uint64_t device_weights = 0, host_weights = 0;  ///< host_weights: everything else resident
  uint64_t transfer_bytes = 0, row_bytes = 0, row_buffer_bytes = 0;
  uint32_t row_reads = 0, attention_layers = 0;
  uint64_t least_slot_bytes = 0;                  ///< of the device's ring; 0: nothing streams there
};

// What a candidate leaves to the host, to be searched.
struct DeviceSearch::Rest {
  Candidate candidate;
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
  double to_beat_s() const { return to_beat_s_; }
  std::optional<DevicePlacement> placement() && { return std::move(placement_); }

 private:
  double to_beat_s_;
  std::optional<DevicePlacement> placement_;
};

DeviceSearch::~DeviceSearch() = default;

DeviceSearch::DeviceSearch(const StepShape& shape, const Demand& demand, const CostModel& cost, const MachineProfile& machine)
    : shape_(shape), demand_(demand), cost_(cost), chain_(shape), threads_(machine.device_threads) {
  Demand there = demand;
  there.threads = threads_;
  for (const ActivationCost& step : shape.activations) {
    host_step_bytes_.push_back(activation_bytes(shape, demand, step));
    device_step_bytes_.push_back(activation_bytes(shape, there, step));
  }
  for (uint32_t layers = 0; layers <= shape.kv_layers; ++layers) kv_bytes_.push_back(kv_cache_bytes(shape, demand, layers));
  for (const MatrixShape& matrix : shape.matrices) {
    all_bytes_ = add_bytes(all_bytes_, resident_bytes(matrix));
    if (matrix.use != MatrixUse::kEveryToken) continue;
    layer_bytes_ = add_bytes(layer_bytes_, resident_bytes(matrix));
    least_file_share_ = std::min(least_file_share_, static_cast<double>(matrix.file_bytes) / static_cast<double>(resident_bytes(matrix)));
  }

  std::vector<uint32_t> all, attention, ffn, heads;
  for (uint32_t i = 0; i < chain_.parts.size(); ++i) {
    const MatrixPart part = chain_.parts[i].part;
    if (part == MatrixPart::kHead) {
      heads.push_back(i);
      continue;
    }
    all.push_back(i);
    (part == MatrixPart::kAttention ? attention : ffn).push_back(i);
  }
  const auto joined = [](std::vector<uint32_t> first, const std::vector<uint32_t>& then) {
    first.insert(first.end(), then.begin(), then.end());
    return first;
  };
  for (const std::vector<uint32_t>& order : {all, joined(attention, ffn), joined(ffn, attention)}) {
    for (const bool with_heads : {false, true}) {
      std::vector<uint32_t> next = with_heads ? joined(heads, order) : order;
      if (std::find(orders_.begin(), orders_.end(), next) == orders_.end()) orders_.push_back(std::move(next));
    }
  }

  add_candidates();
  bare_ = shape;
  for (MatrixShape& matrix : bare_.matrices) matrix.name.clear();
  add_rests();
}

void DeviceSearch::add_rests() {
  const size_t searches = std::clamp<size_t>(kMostSearched / std::max<size_t>(1, shape_.matrices.size()), 4, 100);
  // A ratio that leaves each order its share of them.
  const double lengths = static_cast<double>(searches) / static_cast<double>(std::max<size_t>(1, orders_.size()));
  for (const std::vector<uint32_t>& order : orders_) {
    if (order.empty()) continue;
    const std::vector<bool> taken = spaced(order.size(), std::max(1.2, std::pow(static_cast<double>(order.size()), 1 / lengths)));
    std::vector<PartPlace> places(chain_.parts.size(), PartPlace::kHost);
    for (size_t length = 1; length <= order.size(); ++length) {
      places[order[length - 1]] = PartPlace::kDevice;
      if (taken[length]) add_rest(candidate_of(places, 0));
    }
  }
  if (orders_.empty() || searches < 20) return;
  const std::vector<uint32_t>& order = orders_.front();
  const std::vector<bool> taken = spaced(order.size(), 2);
  std::vector<PartPlace> places(chain_.parts.size(), PartPlace::kHost);
  for (size_t length = 0; length <= order.size(); ++length) {
    if (length > 0) places[order[length - 1]] = PartPlace::kDevice;
    if (length > 0 && !taken[length]) continue;
    for (const uint32_t stride : kStrides) {
      std::vector<PartPlace> with_streams = places;
      stream_feed_forward(order, length, stride, &with_streams);
      Candidate candidate = candidate_of(with_streams, kFromTokensBesideDisk);
      if (candidate.least_slot_bytes == 0) continue;
      candidate.load.slots = kRingBesideDisk.slots;
      candidate.load.slot_bytes = std::max(kRingBesideDisk.slot_bytes, candidate.least_slot_bytes);
      add_rest(candidate);
    }
  }
}

// Every so many-th of the feed-forward parts from `length` on.
void DeviceSearch::stream_feed_forward(const std::vector<uint32_t>& order, size_t length, uint32_t stride, std::vector<PartPlace>* places) const {
  uint32_t at = 0;
  for (size_t i = length; i < order.size(); ++i) {
    if (chain_.parts[order[i]].part == MatrixPart::kFeedForward && at++ % stride == 0) (*places)[order[i]] = PartPlace::kStreamed;
  }
}

DeviceSearch::Candidate DeviceSearch::candidate_of(const std::vector<PartPlace>& places, uint32_t from_tokens) const {
  Candidate candidate;
  candidate.places = places;
  candidate.load = device_load(chain_, places, from_tokens, 0, 0);
  uint64_t on_device = 0, row_block = 0;
  for (size_t i = 0; i < places.size(); ++i) {
    const DevicePart& part = chain_.parts[i];
    if (places[i] != PartPlace::kHost && part.part == MatrixPart::kAttention) ++candidate.attention_layers;
    if (places[i] == PartPlace::kStreamed) candidate.least_slot_bytes = std::max(candidate.least_slot_bytes, whole_pages(part.row_block_bytes));
    if (places[i] != PartPlace::kDevice) continue;
    on_device = add_bytes(on_device, part.arena_bytes);
    row_block = std::max(row_block, part.row_block_bytes);
    for (uint32_t matrix : part.matrices) {
      if (!is_looked_up(shape_.matrices[matrix])) continue;
      candidate.row_bytes = std::max(candidate.row_bytes, shape_.matrices[matrix].row_file_bytes);
      ++candidate.row_reads;
    }
  }
  candidate.device_weights = whole_pages(add_bytes(fixed_arena_bytes(shape_), on_device));
  candidate.host_weights = all_bytes_ == UINT64_MAX ? UINT64_MAX : whole_pages(add_bytes(fixed_arena_bytes(shape_), all_bytes_ - on_device));
  candidate.transfer_bytes = std::max(kLeastTransferBytes, whole_pages(row_block));
  candidate.row_buffer_bytes = whole_pages(round_up_bytes(candidate.row_bytes, kWeightAlignment));
  return candidate;
}

uint64_t DeviceSearch::device_bytes(const Candidate& candidate, size_t step) const {
  return add_bytes(add_bytes(candidate.device_weights, multiply_bytes(candidate.load.slots, candidate.load.slot_bytes)),
                   add_bytes(kv_bytes_[candidate.attention_layers], device_step_bytes_[step]));
}

uint64_t DeviceSearch::host_bytes(const Candidate& candidate, size_t step) const {
  return add_bytes(add_bytes(candidate.host_weights, candidate.row_buffer_bytes),
                   add_bytes(add_bytes(kv_bytes_[shape_.kv_layers - candidate.attention_layers], host_step_bytes_[step]), candidate.transfer_bytes));
}

bool DeviceSearch::takes_step(const Candidate& candidate, size_t step, uint64_t device_budget) const {
  const uint64_t bytes = device_bytes(candidate, step);
  return bytes <= device_budget && bytes != UINT64_MAX && shape_.activations[step].tokens >= candidate.load.from_tokens;
}

std::vector<bool> DeviceSearch::steps_within(const Candidate& candidate, uint64_t device_budget) const {
  std::vector<bool> steps;
  for (size_t step = 0; step < shape_.activations.size(); ++step) steps.push_back(takes_step(candidate, step, device_budget));
  return steps;
}

void DeviceSearch::add_rest(const Candidate& candidate) {
  auto rest = std::make_unique<Rest>();
  rest->candidate = candidate;
  StepShape& shape = rest->shape;
  uint64_t streamed = 0;  // to the device: resident here
  shape.matrices.reserve(bare_.matrices.size());
  for (uint32_t i = 0; i < bare_.matrices.size(); ++i) {
    const PartPlace place = chain_.part_of[i] == PartChain::kNone ? PartPlace::kHost : candidate.places[chain_.part_of[i]];
    if (place == PartPlace::kStreamed) streamed = add_bytes(streamed, resident_bytes(bare_.matrices[i]));
    if (place != PartPlace::kHost) continue;
    shape.matrices.push_back(bare_.matrices[i]);
    rest->matrices.push_back(i);
  }
  const uint32_t layers = shape_.kv_layers - candidate.attention_layers;
  shape.used_experts = shape_.used_experts;
  shape.fixed_bytes = add_bytes(fixed_arena_bytes(shape_), streamed);
  shape.kv_layers = std::max(1u, layers);
  shape.kv_bytes_per_token = shape_.kv_bytes_per_token / shape_.kv_layers * layers;
  shape.kv_takes_q8_0 = shape_.kv_takes_q8_0;
  shape.kv_granule_tokens = shape_.kv_granule_tokens;
  shape.activations = shape_.activations;
  shape.activation_bytes_per_thread = shape_.activation_bytes_per_thread;
  shape.logits_row_bytes = shape_.logits_row_bytes;
  rests_.push_back(std::move(rest));
  Rest& kept = *rests_.back();
  HostRest beside{largest_row_block(shape_), candidate.row_bytes, candidate.row_reads, candidate.transfer_bytes, &kept.candidate.load, true};
  kept.search = std::make_unique<PlacementSearch>(kept.shape, demand_, cost_, 0, beside);
}

// What may stream to the device beside the first parts of an order, which are there.
void DeviceSearch::add_streams(std::vector<PartPlace> places, const std::vector<uint32_t>& order, size_t length) {
  const std::vector<PartPlace> before = places;
  bool has_head = false;
  for (size_t i = 0; i < places.size(); ++i) has_head = has_head || (chain_.parts[i].part == MatrixPart::kHead && places[i] == PartPlace::kHost);
  const auto add = [&](uint32_t from_tokens, bool with_head) {
    for (size_t i = 0; with_head && i < places.size(); ++i) {
      if (chain_.parts[i].part == MatrixPart::kHead) places[i] = PartPlace::kStreamed;
    }
    Candidate candidate = candidate_of(places, from_tokens);
    if (candidate.least_slot_bytes > 0) candidates_.push_back(std::move(candidate));
    places = before;
  };
  for (const bool with_head : {false, true}) {
    if (with_head && !has_head) break;
    for (size_t i = length; i < order.size(); ++i) places[order[i]] = PartPlace::kStreamed;
    add(1, with_head);
    for (const uint32_t from_tokens : kFromTokens) {
      if (with_head && demand_.logit_rows < from_tokens) break;  // of few rows the head is not worth the way
      for (const uint32_t stride : kStrides) {
        stream_feed_forward(order, length, stride, &places);
        add(from_tokens, with_head);
      }
    }
  }
}

void DeviceSearch::add_candidates() {
  for (const std::vector<uint32_t>& order : orders_) {
    const std::vector<bool> with_streams = spaced(order.size(), 1.6);
    std::vector<PartPlace> places(chain_.parts.size(), PartPlace::kHost);
    for (size_t length = 0; length <= order.size(); ++length) {
      if (length > 0) {
        places[order[length - 1]] = PartPlace::kDevice;
        candidates_.push_back(candidate_of(places, 0));
      }
      if (length == 0 || with_streams[length]) add_streams(places, order, length);
    }
  }
}

// visit(candidate), with each ring that it may stream through.
template <typename Visit>
void DeviceSearch::for_each_candidate(Visit visit) const {
  for (const Candidate& candidate : candidates_) {
    if (candidate.least_slot_bytes == 0) {
      visit(candidate);
      continue;
    }
    Candidate with_ring = candidate;
    for (const Ring& ring : kRings) {
      with_ring.load.slots = ring.slots;
      with_ring.load.slot_bytes = std::max(ring.slot_bytes, candidate.least_slot_bytes);
      visit(with_ring);
    }
  }
}

uint64_t DeviceSearch::minimum_host_bytes(uint64_t device_budget) const {
  uint64_t least = UINT64_MAX;
  for_each_candidate([&](const Candidate& candidate) {
    for (size_t step = 0; step < shape_.activations.size(); ++step) {
      if (takes_step(candidate, step, device_budget)) least = std::min(least, host_bytes(candidate, step));
    }
  });
  for (const std::unique_ptr<Rest>& rest : rests_) least = std::min(least, rest->search->minimum_bytes(steps_within(rest->candidate, device_budget)));
  return least;
}

DevicePlacement DeviceSearch::placement_of(const Candidate& candidate, size_t step) const {
  DevicePlacement placement;
  placement.places = candidate.places;
  placement.load = candidate.load;
  placement.step = step;
  placement.resident.assign(shape_.matrices.size(), true);
  placement.use.resident.assign(shape_.matrices.size(), false);
  placement.use.streamed.assign(shape_.matrices.size(), false);
  for (size_t i = 0; i < shape_.matrices.size(); ++i) {
    if (chain_.part_of[i] == PartChain::kNone) continue;
    placement.use.resident[i] = candidate.places[chain_.part_of[i]] == PartPlace::kDevice;
    placement.use.streamed[i] = candidate.places[chain_.part_of[i]] == PartPlace::kStreamed;
  }
  placement.use.slots = candidate.load.slots;
  placement.use.slot_bytes = candidate.load.slot_bytes;
  placement.use.threads = threads_;
  placement.use.transfer_bytes = candidate.transfer_bytes;
  placement.device_bytes = device_bytes(candidate, step);
  placement.host_bytes = host_bytes(candidate, step);
  return placement;
}

// No placement of the rest is faster: as if everything but the layers needed no memory, and reading did nothing but read.
double DeviceSearch::least_time_s(const Candidate& candidate, const std::vector<bool>& steps, uint64_t host_budget) const {
  uint64_t on_device = 0, streamed = 0;
  for (size_t i = 0; i < candidate.places.size(); ++i) {
    const DevicePart& part = chain_.parts[i];
    if (candidate.places[i] == PartPlace::kDevice && part.part != MatrixPart::kHead) on_device = add_bytes(on_device, part.arena_bytes);
    if (candidate.places[i] == PartPlace::kStreamed) streamed = add_bytes(streamed, part.arena_bytes);
  }
  double least = HUGE_VAL;
  for (size_t step = 0; step < steps.size(); ++step) {
    if (!steps[step]) continue;
    const uint64_t others = add_bytes(add_bytes(add_bytes(fixed_arena_bytes(shape_), streamed), candidate.transfer_bytes),
                                      add_bytes(kv_bytes_[shape_.kv_layers - candidate.attention_layers], host_step_bytes_[step]));
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
  for_each_candidate([&](const Candidate& candidate) {
    StreamLoad load;
    load.row_reads = candidate.row_reads;
    for (size_t step = 0; step < shape_.activations.size(); ++step) {
      if (!takes_step(candidate, step, device_budget)) continue;
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
    const std::optional<Placement> found = rest->search->best(host_budget, &steps);
    if (!found || !best.is_beaten_by(found->time.total_s)) continue;
    DevicePlacement placement = placement_of(rest->candidate, found->step);
    placement.time = found->time;
    placement.slots = found->slots;
    placement.host_bytes = found->planned_bytes;
    const std::vector<bool> resident = rest->search->resident(*found);
    for (size_t i = 0; i < resident.size(); ++i) placement.resident[rest->matrices[i]] = resident[i];
    best.take(std::move(placement));
  }
  return std::move(best).placement();
}

std::optional<DevicePlacement> DeviceSearch::everything() const {
  const std::vector<PartPlace> places(chain_.parts.size(), PartPlace::kDevice);
  if (places.empty()) return std::nullopt;
  const Candidate candidate = candidate_of(places, 0);
  StreamLoad load;
  load.row_reads = candidate.row_reads;
  std::optional<DevicePlacement> best;
  for (size_t step = 0; step < shape_.activations.size(); ++step) {
    if (!takes_step(candidate, step, UINT64_MAX - 1) || host_bytes(candidate, step) == UINT64_MAX) continue;
    const WorkloadTime time = cost_.workload(shape_.activations[step].tokens, load, &candidate.load);
    if (best && time.total_s >= best->time.total_s) continue;
    best = placement_of(candidate, step);
    best->time = time;
  }
  return best;
}

}  // namespace outrigger
