// PlacementSearch: every way of spending a budget that is worth trying, and the fastest of them.
#ifndef OUTRIGGER_SRC_PLAN_PLACEMENT_SEARCH_H_
#define OUTRIGGER_SRC_PLAN_PLACEMENT_SEARCH_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "src/plan/cost_model.h"
#include "src/plan/first_fit.h"
#include "src/plan/memory_model.h"
#include "src/plan/slot_index.h"

namespace outrigger {

/// What is decided before the budget is spent: which groups of matrices may stream, and through which slots. Those that cannot pass
/// through such a slot are resident.
struct PlacementFamily {
  bool layers_stream = false, heads_stream = false;  ///< as far as they fit a slot
  bool lookups_resident = true;                      ///< embeddings that are never multiplied
  bool experts_resident = true;                      ///< all of a mixture's; else they share slots
  uint64_t slot_bytes = 0;                           ///< 0: nothing that is multiplied streams
  uint64_t base_weight_bytes = 0;                    ///< resident before any choice: fixed, forced, whole groups
  uint64_t row_buffer_bytes = 0;                     ///< in whole pages
  StreamLoad load;                                   ///< with nothing more resident
  std::shared_ptr<const FirstFit> choice;            ///< the layers' matrices that may be either; null if none
};

/// One way, with its bytes and times.
struct Placement {
  const PlacementFamily* family = nullptr;
  size_t step = 0;  ///< index into StepShape::activations
  Slots slots;
  uint32_t kv_spilled_layers = 0;
  uint64_t choice_capacity_bytes = 0;
  uint64_t planned_bytes = 0;
  WorkloadTime time;
};

/// What the host holds and does beside what a search places, where a device has a part of the model.
struct HostRest {
  uint64_t row_block_bytes = 0;  ///< the largest of the whole model
  uint64_t row_bytes = 0;        ///< rows that are read from the file whatever is resident
  uint32_t row_reads = 0;
  uint64_t other_bytes = 0;
  const DeviceLoad* device = nullptr;  ///< outlives the search
  bool is_coarse = false;              ///< one search of many: fewer slot sizes and numbers of slots
};

/// More budget never finds a slower way: a family, a step size and a number of slots cost a fixed number of bytes; what is left goes to the
/// layers by FirstFit, which never saves less with more; and the candidates do not depend on the budget. Slots for experts beyond the least
/// are bought only where nothing else streams: a byte of any other matrix is read by every step, one of an expert by some. Keeps references
/// to `shape` and `cost`.
class PlacementSearch {
 public:
  /// Keys and values are spilled as kv_spill_choices() says.
  PlacementSearch(const StepShape& shape, const Demand& demand, const CostModel& cost, uint32_t kv_spilled_layers = Workload::kAsItPays,
                  const HostRest& rest = {});

  /// The fewest bytes any candidate needs; UINT64_MAX if that is beyond 64 bits.
  uint64_t minimum_bytes() const { return minimum_bytes_; }
  /// The same with only some of the step sizes.
  uint64_t minimum_bytes(const std::vector<bool>& steps) const;
  /// The candidate of so few bytes. Precondition: they fit 64 bits.
  Placement least() const;
  /// The fastest within the budget, and of equally fast ones the smallest; nothing below minimum_bytes().
  /// `steps`: the step sizes that may be taken; null for all.
  std::optional<Placement> best(uint64_t budget_bytes, const std::vector<bool>* steps = nullptr) const;
  /// The fastest with everything resident; nothing if that is beyond 64 bits.
  std::optional<Placement> everything_resident() const;

  /// Per matrix, whether it is resident.
  std::vector<bool> resident(const Placement& placement) const;

 private:
  struct Groups;
  void add_families(const Groups& groups, uint64_t slot_bytes);
  uint64_t find_minimum(const Groups& groups);
  void add_family(PlacementFamily family, const std::shared_ptr<const FirstFit>& choice);
  /// A number of spilled layers, what caches then take in memory, and what each step size is predicted to take when nothing else comes from
  /// disk: the least that any placement with it takes.
  struct KvChoice {
    uint32_t spilled_layers = 0;
    uint64_t bytes = 0;
    std::vector<double> least_s;
  };
  void add_kv_choices(const Demand& demand, uint32_t asked_for);
  uint64_t bytes_without_choice(const PlacementFamily& family, size_t step, const Slots& slots, const KvChoice& kv) const;
  bool can_use_slots(const PlacementFamily& family, uint32_t slots) const;
  Slots least_slots(const PlacementFamily& family, uint32_t ring) const;
  uint32_t more_expert_slots(const Placement& placement, const KvChoice& kv, uint64_t budget_bytes) const;
  void consider_one(Placement placement, const KvChoice& kv, uint64_t budget_bytes, std::optional<Placement>* best) const;
  void consider(const PlacementFamily& family, const KvChoice& kv, uint64_t budget_bytes, const std::vector<bool>* steps,
                std::optional<Placement>* best) const;

  const StepShape& shape_;
  const CostModel& cost_;
  const HostRest rest_;
  const uint32_t threads_;
  std::vector<uint64_t> step_bytes_;  ///< per step size: activations, and what else is there
  std::vector<KvChoice> kv_choices_;  ///< ascending in spilled layers
  std::vector<PlacementFamily> families_;
  uint64_t minimum_bytes_ = UINT64_MAX;
  const ExpertSizes expert_sizes_;
  const uint32_t expert_count_;
  const uint64_t row_block_bytes_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_PLACEMENT_SEARCH_H_
