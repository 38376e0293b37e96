// ExpertPool: the slots that hold some of a model's experts, and the bringing of those that a step was routed to.
#ifndef OUTRIGGER_SRC_MEMORY_EXPERT_POOL_H_
#define OUTRIGGER_SRC_MEMORY_EXPERT_POOL_H_

#include <outrigger/engine.h>
#include <outrigger/status.h>
#include <outrigger/step_shape.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "src/io/byte_source.h"
#include "src/memory/expert_arrivals.h"
#include "src/memory/expert_cache.h"
#include "src/memory/weight_source.h"
#include "src/tensor/expert_layout.h"

namespace outrigger {

/// An expert that a step was routed to, with the rows of the step's buffers that are its.
struct ExpertUse {
  uint32_t expert = 0;
  uint32_t first_row = 0, rows = 0;  ///< the model's
  uint32_t slot = 0;                 ///< the pool's; valid from the wave's arrive() to its release()
  uint32_t arrival = ExpertArrivals::kNone;  ///< where its rows have arrived, still to be packed into the slot; kNone: it was in the slot
};

/// A step goes through its layers in order, and each layer so: route(), request(), then for each wave w > 0 arrive(w), and for all of them
/// release(w) once they are computed. Wave 0 holds experts that are in their slots. Those of the others have arrived as the file's rows:
/// whoever multiplies with them packs them into their slots on the way, all of them before release().
/// Threads: one call at a time; part(), arrived(), report() and bytes_read() any.
class ExpertPool {
 public:
  /// `slots` has plan.expert_slots times plan.expert_slot_bytes bytes, `arrivals` a place of expert_arrival_bytes for each of
  /// expert_arrivals(plan.expert_slots). They and `weights` must outlive the pool. Errors: those of ExpertArrivals::create.
  static Result<std::unique_ptr<ExpertPool>> create(std::shared_ptr<const ByteSource> source, const std::vector<WeightSource>& weights,
                                                    const StepShape& shape, const Plan& plan, std::byte* slots,
                                                    std::span<std::byte> arrivals);

  /// Waves of a layer in which a step uses up to `needed` experts: enough of them, and as many as reading and computing can share out.
  uint32_t waves(uint32_t needed) const;
  /// Most guesses that are worth making at once.
  uint32_t most_guesses() const { return most_guesses_; }

  /// The layer at `index` among those with experts uses these, each once. Puts those in memory first and cuts all into as many waves as
  /// `wave_ends` has: uses [wave_ends[w - 1], wave_ends[w]) are wave w. Both spans are kept until the next route(). Asks nothing of the
  /// disk.
  void route(uint32_t index, std::span<ExpertUse> uses, std::span<uint32_t> wave_ends);
  /// Begins to read what the layer needs and then what was guessed, as far as there is room; never waits. To be called when something may
  /// have changed. Errors: kIo; the step has to be given up, and invalidate() comes next.
  Status request();
  /// Waits until the wave's experts have arrived, and gives them slots. Errors: as request().
  Status arrive(uint32_t wave);
  void release(uint32_t wave);
  /// When the first of the wave was asked for, and when the last had come; zeros when none had to.
  UnitTimes times(uint32_t wave) const;

  /// Address in its slot of the expert's part in its layer's stack `part` (0: the first of ExpertLayer::parts).
  std::byte* part(uint32_t index, const ExpertUse& use, uint32_t part) const {
    return slots_ + use.slot * slot_bytes_ + layers_[index].parts[part].slot_offset;
  }
  /// The part's rows from row block `block` on, of an expert that has arrived.
  ArrivedRows arrived(const ExpertUse& use, uint32_t part, uint32_t block) const { return arrivals_->rows(use.arrival, part, block); }

  /// These experts of the layer at `index` are likely to be used next; those in memory are passed over. Before its route(). What is as good
  /// as certain is read whatever became of earlier guesses, and not counted among them.
  void guess(uint32_t index, std::span<const uint32_t> experts, bool is_certain = false);

  /// After a step that did not complete.
  void invalidate() noexcept;
  ExpertReport report() const;
  /// Of the file, asked of the disk since it was made.
  uint64_t bytes_read() const { return arrivals_->bytes_read(); }

 private:
  ExpertPool(const Plan& plan, std::vector<ExpertLayer> layers, std::byte* slots, const ExpertCacheOptions& cache,
             std::unique_ptr<ExpertArrivals> arrivals);
  Status request_guesses();
  bool guesses_pay() const;
  bool is_wanted(uint32_t expert) const;
  std::span<ExpertUse> wave_uses(uint32_t wave) const;
  void settle_guesses(uint32_t index);
  void note_early_arrivals();
  void count(uint64_t ExpertReport::*what, uint64_t more);
  void count_token(uint64_t uses, uint64_t hits);

  const std::vector<ExpertLayer> layers_;
  std::byte* const slots_;
  const uint64_t slot_bytes_;
  const std::unique_ptr<ExpertArrivals> arrivals_;
  const uint32_t most_guesses_, wave_experts_, token_experts_;
  const double absent_share_;  ///< of all layers' experts, those without a slot

  ExpertCache cache_;
  uint32_t routed_ = UINT32_MAX;       ///< the layer of `uses_`
  std::span<ExpertUse> uses_;
  std::span<uint32_t> wave_ends_;
  size_t next_request_ = 0;            ///< of uses_
  bool is_new_ = false;                ///< routed, and request() has not seen it
  std::vector<uint32_t> guesses_;      ///< of the layer guess() named
  size_t next_guess_ = 0;              ///< of guesses_
  uint32_t guessed_layer_ = UINT32_MAX;
  bool is_certain_ = false;
  uint64_t latest_guesses_ = 0, latest_right_ = 0;  ///< halved now and then
  mutable std::mutex report_mutex_;
  ExpertReport report_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MEMORY_EXPERT_POOL_H_
