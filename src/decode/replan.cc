// A new plan under open sessions: what they hold must have its place there, and everything else is placed anew.
#include <outrigger/engine.h>

#include <new>
#include <utility>
#include <vector>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/decode/engine_impl.h"
#include "src/model/on_device.h"

namespace outrigger {
namespace {

Status check_cache_room(const char* side, uint64_t taken, uint64_t planned) {
  if (taken <= planned) return {};
  return Status(StatusCode::kInvalidArgument, formatted("replan: open sessions hold {} of keys and values on the {}, the new plan has {} "
                                                        "for them; plan for as large a batch and context, or close sessions",
                                                        format_bytes(taken), side, format_bytes(planned)));
}

Status check_draft_bytes(const char* side, uint64_t taken, uint64_t planned) {
  if (taken <= planned) return {};
  return Status(StatusCode::kInvalidArgument, formatted("replan: open sessions hold a draft model of {} on the {}, the new plan has {} for "
                                                        "it; plan with as many draft bytes, or close sessions",
                                                        format_bytes(taken), side, format_bytes(planned)));
}

// Whether the sessions that are open can go on under the plan.
Status check_caches(const Engine::Impl& engine, const Plan& plan) {
  if (plan.kv_type != engine.plan.kv_type) {
    return Status(StatusCode::kInvalidArgument, formatted("replan: keys and values are {}, the new plan's {}; plan with the same kv_type",
                                                          kv_type_name(engine.plan.kv_type), kv_type_name(plan.kv_type)));
  }
  const TensorResidency& residency = *engine.residency;
  // Copies are the engine's and made anew: sessions hold draft models alone.
  const uint64_t of_copies = engine.stand_ins ? engine.plan.host.breakdown.draft : 0;
  OTR_TRY(
      check_draft_bytes("host", residency.report().current.draft - of_copies, plan.self_draft_bits > 0 ? 0 : plan.host.breakdown.draft));
  if (residency.device() != nullptr)
    OTR_TRY(check_draft_bytes("device", residency.device()->report().current.draft, plan.device.breakdown.draft));
  const uint64_t taken = residency.report().current.kv_cache,
                 taken_there = residency.device() == nullptr ? 0 : residency.device()->report().current.kv_cache;
  const bool same_layers = engine.kv_spill ? engine.kv_spill->suits(plan) : plan.kv_spilled_layers == 0;
  const bool has_sessions = (engine.kv_spill ? engine.kv_spill->has_parts() : taken > 0) || taken_there > 0;
  if (!has_sessions) return {};
  if (!same_layers) {
    return Status(
        StatusCode::kInvalidArgument,
        formatted("replan: open sessions keep {} layers' keys and values on disk in slots of {}, the new plan {} in slots of {}; plan with "
                  "the same number of them (kv_spilled_layers), batch and context, or close sessions",
                  engine.plan.kv_spilled_layers, format_bytes(engine.plan.kv_slot_bytes), plan.kv_spilled_layers,
                  format_bytes(plan.kv_slot_bytes)));
  }
  OTR_TRY(check_cache_room("host", taken, plan.host.breakdown.kv_cache));
  OTR_TRY(check_cache_room("device", taken_there, plan.device.breakdown.kv_cache));
  if (attention_on_device(engine.layout(), plan) == attention_on_device(engine.layout(), engine.plan)) return {};
  return Status(StatusCode::kInvalidArgument,
                "replan: open sessions hold keys and values of other layers on the device than the new plan; plan with the same budget for "
                "the device, or close sessions");
}

}  // namespace

Status Engine::replan(const Plan& plan, const Progress& progress, const CancelToken& cancel) try {
  Impl& engine = *impl_;
  const std::lock_guard lock(engine.step_mutex);
  OTR_TRY(engine.residency->check(plan));
  OTR_TRY(engine.check_scratch(plan));
  OTR_TRY(check_caches(engine, plan));
  std::unique_ptr<ThreadTeam> team;
  if (plan.threads != engine.plan.threads) {
    OTR_ASSIGN(team, ThreadTeam::create(plan.threads));
  }
  Plan next = plan;
  engine.runner.reset();
  engine.draft_runner.reset();
  engine.device_runner.reset();
  engine.handoff.reset();
  engine.handoff_memory = MemoryLease();
  engine.tracer.reset();
  engine.activations = MemoryLease();
  engine.residuals = MemoryLease();
  engine.device_activations = MemoryLease();
  engine.stand_ins.reset();
  if (team) engine.team = std::move(team);
  {
    const std::unique_lock placing(engine.placement_mutex);
    engine.drop_unsuitable_spill(next);
    engine.plan = std::move(next);
    OTR_TRY(engine.residency->place(engine.plan));
  }
  return engine.prepare_steps(progress, cancel);
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

// Without sessions only, as check_caches() saw to.
void Engine::Impl::drop_unsuitable_spill(const Plan& next) noexcept {
  if (!kv_spill || kv_spill->suits(next)) return;
  past_kv_read_bytes += kv_spill->bytes_read();
  past_kv_written_bytes += kv_spill->bytes_written();
  kv_spill.reset();
}

}  // namespace outrigger
