// PlacementSearch: candidates, their bytes, and the choice among them.
#include "src/plan/placement_search.h"

#include <algorithm>

namespace outrigger {
namespace {

// Below 256 KiB a request's latency is longer than its data's way; beyond 4 MiB nothing is gained that read-ahead does not give.
constexpr uint64_t kSlotSizes[] = {256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20};
constexpr uint64_t kCoarseSlotSizes[] = {1 << 20};

}  // namespace

// The matrices by what they are for; lookups always as a whole.
struct PlacementSearch::Groups {
  Groups(const StepShape& shape, const HostRest& rest)
      : layers(select(shape, MatrixUse::kEveryToken)),
        heads(select(shape, MatrixUse::kLogits)),
        lookups(select(shape, MatrixUse::kRowLookup)),
        layer_index(shape, layers),
        head_index(shape, heads),
        rest_row_bytes(rest.row_bytes),
        rest_row_reads(rest.row_reads) {
    for (uint32_t index : lookups) {
      lookup_bytes = add_bytes(lookup_bytes, resident_bytes(shape.matrices[index]));
      lookup_row_bytes = std::max(lookup_row_bytes, shape.matrices[index].row_file_bytes);
    }
    for (uint32_t index : heads) rows_of_heads += shape.matrices[index].also_rows;
    for (uint32_t index : select(shape, MatrixUse::kRouted)) expert_bytes = add_bytes(expert_bytes, resident_bytes(shape.matrices[index]));
  }

  static std::vector<uint32_t> select(const StepShape& shape, MatrixUse use) {
    std::vector<uint32_t> selected;
    for (uint32_t i = 0; i < shape.matrices.size(); ++i) {
      if (shape.matrices[i].use == use) selected.push_back(i);
    }
    return selected;
  }

  // What may be outside of memory, as bits, so that all combinations can be gone through.
  enum Outside : unsigned { kLayers = 1, kHeads = 2, kLookups = 4, kExperts = 8 };
  bool exists(unsigned outside) const { return !((outside & kLookups) && lookups.empty()) && !((outside & kExperts) && expert_bytes == 0); }

  // Everything of a family but its choice.
  PlacementFamily family(const StepShape& shape, unsigned outside, uint64_t slot_bytes) const {
    const bool layers_stream = outside & kLayers, heads_stream = outside & kHeads, lookups_resident = !(outside & kLookups);
    const SlotIndex::Split layer = layer_index.at(layers_stream ? slot_bytes : 0), head = head_index.at(heads_stream ? slot_bytes : 0);
    PlacementFamily family{layers_stream, heads_stream, lookups_resident, !(outside & kExperts), slot_bytes};
    family.base_weight_bytes = add_bytes(add_bytes(fixed_arena_bytes(shape), layer.forced_bytes), head.forced_bytes);
    if (family.experts_resident) family.base_weight_bytes = add_bytes(family.base_weight_bytes, expert_bytes);
    uint64_t row = std::max({layer.row_bytes, head.row_bytes, rest_row_bytes});
    if (lookups_resident) {
      family.base_weight_bytes = add_bytes(family.base_weight_bytes, lookup_bytes);
    } else {
      row = std::max(row, lookup_row_bytes);
    }
    family.row_buffer_bytes = whole_pages(round_up_bytes(row, kWeightAlignment));
    family.load = {layer.file_bytes, layer.packed_bytes, head.file_bytes, head.packed_bytes, slot_bytes};
    family.load.row_reads =
        (lookups_resident ? 0 : static_cast<uint32_t>(lookups.size())) + (head.row_bytes > 0 ? rows_of_heads : 0) + rest_row_reads;
    return family;
  }

  std::vector<uint32_t> layers, heads, lookups;
  SlotIndex layer_index, head_index;
  uint64_t lookup_bytes = 0, lookup_row_bytes = 0, expert_bytes = 0;
  uint32_t rows_of_heads = 0;
  uint64_t rest_row_bytes;
  uint32_t rest_row_reads;
};

PlacementSearch::PlacementSearch(const StepShape& shape, const Demand& demand, const CostModel& cost, uint32_t kv_spilled_layers,
                                 const HostRest& rest)
    : shape_(shape),
      cost_(cost),
      rest_(rest),
      threads_(demand.threads),
      expert_sizes_(expert_sizes(shape)),
      expert_count_(expert_count(shape)),
      row_block_bytes_(std::max(largest_row_block(shape), rest.row_block_bytes)) {
  for (const ActivationCost& step : shape.activations)
    step_bytes_.push_back(add_bytes(rest.other_bytes, host_step_bytes(shape, demand, step)));
  add_kv_choices(demand, kv_spilled_layers);

  const Groups groups(shape, rest);
  std::vector<uint64_t> slots(std::begin(kSlotSizes), std::end(kSlotSizes));
  if (rest.is_coarse) slots.assign(std::begin(kCoarseSlotSizes), std::end(kCoarseSlotSizes));
  slots.push_back(find_minimum(groups));
  for (const SlotIndex* index : {&groups.layer_index, &groups.head_index}) {
    if (!index->least_slots().empty()) slots.push_back(index->least_slots().back());
  }
  slots.push_back(0);
  std::sort(slots.begin(), slots.end());
  slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
  for (uint64_t slot_bytes : slots) add_families(groups, slot_bytes);
}

void PlacementSearch::add_kv_choices(const Demand& demand, uint32_t asked_for) {
  for (const uint32_t spilled : kv_spill_choices(shape_, demand, asked_for)) {
    Demand wanted = demand;
    wanted.kv_spilled_layers = spilled;
    StreamLoad load;
    load.kv_spilled_layers = spilled;
    load.slots = kMostSlots;  // which hide most
    KvChoice choice{spilled, kv_cache_bytes(shape_, wanted, shape_.kv_layers), {}};
    for (const ActivationCost& step : shape_.activations) choice.least_s.push_back(cost_.workload(step.tokens, load, rest_.device).total_s);
    kv_choices_.push_back(std::move(choice));
  }
}

void PlacementSearch::add_families(const Groups& groups, uint64_t slot_bytes) {
  std::shared_ptr<const FirstFit> choice;
  std::vector<uint32_t> free;
  for (uint32_t index : groups.layers) {
    if (least_slot_bytes(shape_.matrices[index]) <= slot_bytes) free.push_back(index);
  }
  // Neighbouring slot sizes as a rule leave the same matrices free.
  if (!families_.empty() && families_.back().choice && families_.back().choice->count() == free.size()) {
    choice = families_.back().choice;
  } else if (!free.empty()) {
    choice = std::make_shared<const FirstFit>(shape_, residency_order(shape_, free));
  }
  for (unsigned outside = 0; outside < 16; ++outside) {
    const bool streams = outside & (Groups::kLayers | Groups::kHeads);
    if (!groups.exists(outside) || streams != (slot_bytes > 0)) continue;
    add_family(groups.family(shape_, outside, slot_bytes), choice);
  }
}

void PlacementSearch::add_family(PlacementFamily family, const std::shared_ptr<const FirstFit>& choice) {
  if ((family.layers_stream && family.load.layer_packed == 0) || (family.heads_stream && family.load.head_packed == 0)) return;
  if (family.layers_stream) family.choice = choice;
  families_.push_back(std::move(family));
}

// Tries every slot size at which one more matrix can stream, and returns the one that needs least. Not making use of a slot never helps:
// what is resident only because its row blocks are too large is all that a smaller slot can save.
uint64_t PlacementSearch::find_minimum(const Groups& groups) {
  const size_t step = static_cast<size_t>(std::min_element(step_bytes_.begin(), step_bytes_.end()) - step_bytes_.begin());
  const KvChoice& kv =
      *std::min_element(kv_choices_.begin(), kv_choices_.end(), [](const KvChoice& a, const KvChoice& b) { return a.bytes < b.bytes; });
  uint64_t best_slot = 0;
  const auto consider_slot = [&](uint64_t slot_bytes) {
    for (unsigned outside = 0; outside < 16; ++outside) {
      if (!groups.exists(outside)) continue;
      const PlacementFamily family = groups.family(shape_, outside, slot_bytes);
      const bool streams = family.load.layer_packed > 0 || family.load.head_packed > 0;
      if (streams != (slot_bytes > 0) || (streams && !can_use_slots(family, kLeastSlots))) continue;
      const uint64_t bytes = bytes_without_choice(family, step, least_slots(family, streams ? kLeastSlots : 0), kv);
      if (bytes < minimum_bytes_) minimum_bytes_ = bytes, best_slot = slot_bytes;
    }
  };
  consider_slot(0);
  for (const SlotIndex* index : {&groups.layer_index, &groups.head_index}) {
    uint64_t previous = 0;
    for (uint64_t slot_bytes : index->least_slots()) {
      if (slot_bytes != previous && slot_bytes < UINT64_MAX / 8) consider_slot(slot_bytes);
      previous = slot_bytes;
    }
  }
  return best_slot;
}

Slots PlacementSearch::least_slots(const PlacementFamily& family, uint32_t ring) const {
  Slots slots{ring, family.slot_bytes, 0, 0};
  if (!family.experts_resident) slots.experts = std::min(kLeastExpertSlots, expert_count_), slots.of_expert = expert_sizes_;
  return slots;
}

uint64_t PlacementSearch::bytes_without_choice(const PlacementFamily& family, size_t step, const Slots& slots, const KvChoice& kv) const {
  const uint64_t rings =
      add_bytes(multiply_bytes(slots.ring, slots.ring_slot_bytes), multiply_bytes(slots.experts, slots.of_expert.slot_bytes));
  return add_bytes(add_bytes(add_bytes(whole_pages(family.base_weight_bytes), rings), staging_bytes(row_block_bytes_, threads_, slots)),
                   add_bytes(family.row_buffer_bytes, add_bytes(kv.bytes, step_bytes_[step])));
}

// A ring has a use for a slot only if a step without logits cycles through as many; what would not fill them is better resident anyway,
// unless the head needs the ring: then few bytes of layers may go through it too, as long as memory is that short.
bool PlacementSearch::can_use_slots(const PlacementFamily& family, uint32_t slots) const {
  const bool layers = family.load.layer_packed > 0, heads = family.load.head_packed > 0;
  if (layers && heads && slots == kLeastSlots) return true;
  return (layers ? family.load.layer_packed : family.load.head_packed) >= multiply_bytes(slots, family.slot_bytes);
}

uint64_t PlacementSearch::minimum_bytes(const std::vector<bool>& steps) const {
  uint64_t least_of_all = UINT64_MAX, least = UINT64_MAX;
  for (size_t step = 0; step < step_bytes_.size(); ++step) {
    least_of_all = std::min(least_of_all, step_bytes_[step]);
    if (steps[step]) least = std::min(least, step_bytes_[step]);
  }
  if (minimum_bytes_ == UINT64_MAX || least == UINT64_MAX) return UINT64_MAX;
  return add_bytes(minimum_bytes_ - least_of_all, least);
}

void PlacementSearch::consider(const PlacementFamily& family, const KvChoice& kv, uint64_t budget_bytes, const std::vector<bool>* steps,
                               std::optional<Placement>* best) const {
  const bool streams = family.slot_bytes > 0;
  const bool is_in_place =
      !streams && family.experts_resident && kv.spilled_layers == 0 && (rest_.device == nullptr || rest_.device->slots == 0);
  for (uint32_t ring = streams ? kLeastSlots : 0; ring <= (streams ? kMostSlots : 0); ring += rest_.is_coarse ? 2 : 1) {
    if (streams && !can_use_slots(family, ring)) return;
    for (size_t step = 0; step < step_bytes_.size(); ++step) {
      if ((steps != nullptr && !(*steps)[step]) || (*best && kv.least_s[step] > (*best)->time.total_s)) continue;
      if (is_in_place && shape_.activations[step].tokens > kMostTokensInPlace) continue;
      consider_one({&family, step, least_slots(family, ring), kv.spilled_layers}, kv, budget_bytes, best);
    }
  }
}

// Slots that what is left of the budget buys. The readers' buffers grow with the first few of them.
uint32_t PlacementSearch::more_expert_slots(const Placement& placement, const KvChoice& kv, uint64_t budget_bytes) const {
  const auto bytes = [&](uint32_t experts) {
    Slots slots = placement.slots;
    slots.experts = experts;
    return bytes_without_choice(*placement.family, placement.step, slots, kv);
  };
  uint32_t least = placement.slots.experts, most = expert_count_;
  while (least < most) {
    const uint32_t middle = least + (most - least + 1) / 2;
    if (bytes(middle) <= budget_bytes) least = middle; else most = middle - 1;
  }
  return least;
}

void PlacementSearch::consider_one(Placement placement, const KvChoice& kv, uint64_t budget_bytes, std::optional<Placement>* best) const {
  const PlacementFamily& family = *placement.family;
  placement.planned_bytes = bytes_without_choice(family, placement.step, placement.slots, kv);
  if (placement.planned_bytes > budget_bytes || placement.planned_bytes == UINT64_MAX) return;
  StreamLoad load = family.load;
  load.slots = placement.slots.ring;
  load.kv_spilled_layers = placement.kv_spilled_layers;
  if (!family.experts_resident) {
    if (family.slot_bytes == 0) {
      placement.slots.experts = more_expert_slots(placement, kv, budget_bytes);
      placement.planned_bytes = bytes_without_choice(family, placement.step, placement.slots, kv);
    }
    load.absent_experts = 1 - static_cast<double>(placement.slots.experts) / expert_count_;
  }
  load.reads = reads_in_flight(row_block_bytes_, placement.slots);
  if (family.choice) {
    const uint64_t base_pages = whole_pages(family.base_weight_bytes);
    const uint64_t pages = (budget_bytes - placement.planned_bytes) / kPageBytes * kPageBytes;
    const uint64_t all = family.choice->total().resident_bytes, fills_ring = multiply_bytes(placement.slots.ring, family.slot_bytes);
    placement.choice_capacity_bytes = std::min(add_bytes(base_pages, pages) - family.base_weight_bytes, all - std::min(all, fills_ring));
    const FirstFit::Taken taken = family.choice->take(placement.choice_capacity_bytes);
    load.layer_packed -= taken.packed_bytes;
    load.layer_file -= taken.file_bytes;
    placement.planned_bytes += whole_pages(family.base_weight_bytes + taken.resident_bytes) - base_pages;
  }
  placement.time = cost_.workload(shape_.activations[placement.step].tokens, load, rest_.device);
  const double now = placement.time.total_s, so_far = *best ? (*best)->time.total_s : 0;
  if (!*best || now < so_far || (now == so_far && placement.planned_bytes < (*best)->planned_bytes)) *best = placement;
}

Placement PlacementSearch::least() const { return *best(minimum_bytes_); }

std::optional<Placement> PlacementSearch::best(uint64_t budget_bytes, const std::vector<bool>* steps) const {
  std::optional<Placement> best;
  for (const KvChoice& kv : kv_choices_) {
    for (const PlacementFamily& family : families_) consider(family, kv, budget_bytes, steps, &best);
  }
  return best;
}

std::optional<Placement> PlacementSearch::everything_resident() const {
  std::optional<Placement> best;
  for (const PlacementFamily& family : families_) {
    if (family.slot_bytes == 0 && family.lookups_resident && family.experts_resident) {
      consider(family, kv_choices_.front(), UINT64_MAX - 1, nullptr, &best);
    }
  }
  return best;
}

std::vector<bool> PlacementSearch::resident(const Placement& placement) const {
  const PlacementFamily& family = *placement.family;
  std::vector<bool> resident(shape_.matrices.size());
  for (size_t i = 0; i < resident.size(); ++i) {
    const MatrixShape& matrix = shape_.matrices[i];
    if (matrix.use == MatrixUse::kRouted) {
      resident[i] = family.experts_resident;
      continue;
    }
    const bool may_stream = matrix.use == MatrixUse::kEveryToken ? family.layers_stream : family.heads_stream;
    resident[i] = is_multiplied(matrix) ? !may_stream || least_slot_bytes(matrix) > family.slot_bytes : family.lookups_resident;
  }
  if (family.choice) family.choice->take(placement.choice_capacity_bytes, [&resident](uint32_t index) { resident[index] = true; });
  return resident;
}

}  // namespace outrigger
