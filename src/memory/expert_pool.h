// ExpertPool: the slots that hold some of a model's experts, and the reading of those that a step was routed to.
#ifndef OUTRIGGER_SRC_MEMORY_EXPERT_POOL_H_
#define OUTRIGGER_SRC_MEMORY_EXPERT_POOL_H_

#include <outrigger/engine.h>
#include <outrigger/status.h>
#include <outrigger/step_shape.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "src/memory/expert_cache.h"
#include "src/memory/weight_reader.h"

namespace outrigger {

/// An expert that a step was routed to, with the rows of the step's buffers that are its.
struct ExpertUse {
  uint32_t expert = 0;
  uint32_t first_row = 0, rows = 0;  ///< the model's
  uint32_t slot = 0;                 ///< the pool's; valid between the expert's fetch() and release()
};

/// The stacks of one layer whose matrices make up an expert: indices into StepShape::matrices, in the order in which they lie in a slot.
struct ExpertStacks {
  uint32_t layer = 0;
  std::vector<uint32_t> matrices;
};
/// The layers that have any, ascending.
std::vector<ExpertStacks> expert_stacks(const StepShape& shape);

/// A step goes through its layers in order, and each layer so: route(), then for each wave w > 0 fetch(w) on the disk lane before its experts are
/// computed and release(w) after; wave 0 holds experts that are in memory and needs no fetch. fetch(w) may run as soon as wave w - 2 is released.
/// Threads: route(), release(), guess() from the host lane, fetch() and fetch_guesses() from the disk lane; a lock keeps them apart.
class ExpertPool {
 public:
  /// `memory` has plan.expert_slots times plan.expert_slot_bytes bytes. `reader` takes as many jobs from `first_job` on. All must outlive the pool.
  ExpertPool(const StepShape& shape, const Plan& plan, std::byte* memory, WeightReader& reader, uint32_t first_job);

  /// Most experts in one wave: two waves and the guesses fit the slots.
  uint32_t wave_experts() const { return wave_experts_; }
  /// Waves of a layer in which a step uses up to `needed` experts: enough of them, and as many as reading and computing can share out.
  uint32_t waves(uint32_t needed) const;
  /// Most guesses that are worth making at once.
  uint32_t most_guesses() const { return most_guesses_; }

  /// The layer at `index` among those with experts uses these, each once. Puts those in memory first and cuts all into as many waves as
  /// `wave_ends` has: uses [wave_ends[w - 1], wave_ends[w]) are wave w. Both spans are kept until the next route().
  void route(uint32_t index, std::span<ExpertUse> uses, std::span<uint32_t> wave_ends);
  /// Brings the wave into memory. Errors: kIo; the step has to be given up, and invalidate() comes next.
  Status fetch(uint32_t wave);
  void release(uint32_t wave);
  /// Address of the expert's part in its layer's stack `part` (0: the first of ExpertStacks::matrices).
  const std::byte* part(uint32_t index, const ExpertUse& use, uint32_t part) const {
    return memory_ + use.slot * slot_bytes_ + layers_[index].offsets[part];
  }

  /// These experts of the layer at `index` are likely to be used next; those in memory are passed over. Before its route(). What is as good as
  /// certain is read whatever became of earlier guesses, and not counted among them.
  void guess(uint32_t index, std::span<const uint32_t> experts, bool is_certain = false);
  /// Reads what was guessed, until the layer is routed. Errors: as fetch().
  Status fetch_guesses(uint32_t index);

  /// After a step that did not complete. The reader must have been reset.
  void invalidate() noexcept;
  ExpertReport report() const;

 private:
  struct Layer {
    std::vector<uint32_t> matrices;
    std::vector<uint64_t> offsets;   ///< of each in a slot
  };

  /// The slot in which the expert is or will be, reading begun; kNone if no slot can be had now. Under the lock.
  Result<uint32_t> bring(uint32_t index, uint32_t expert);
  Status begin_reading(uint32_t index, uint32_t expert, uint32_t slot);
  Status finish_reading(uint32_t slot);
  Status fetch_guess(uint32_t index, uint32_t expert);
  bool is_routed(uint32_t index) const { return routed_.load(std::memory_order_acquire) == index; }
  bool is_wanted(uint32_t expert) const;
  std::span<ExpertUse> wave_uses(uint32_t wave) const;
  void settle_guesses(uint32_t index);

  std::vector<Layer> layers_;
  std::vector<uint64_t> blocks_per_expert_;  ///< per matrix
  std::byte* const memory_;
  const uint64_t slot_bytes_;
  const uint32_t most_guesses_, wave_experts_;
  WeightReader& reader_;
  const uint32_t first_job_;
  std::atomic<uint32_t> routed_{UINT32_MAX};

  mutable std::mutex mutex_;           ///< for all below
  ExpertCache cache_;
  std::span<ExpertUse> uses_;
  std::span<uint32_t> wave_ends_;
  std::vector<uint32_t> guesses_;      ///< of the layer guess() named
  uint32_t guessed_layer_ = UINT32_MAX;
  bool is_certain_ = false;
  uint64_t latest_guesses_ = 0, latest_right_ = 0;  ///< halved now and then
  ExpertReport report_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MEMORY_EXPERT_POOL_H_
