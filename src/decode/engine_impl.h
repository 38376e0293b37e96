// What an Engine holds: weights in memory, threads, the step's graphs, and the lock that lets one step run at a time.
#ifndef OUTRIGGER_SRC_DECODE_ENGINE_IMPL_H_
#define OUTRIGGER_SRC_DECODE_ENGINE_IMPL_H_

#include <outrigger/engine.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>

#include "src/base/thread_team.h"
#include "src/device/backend.h"
#include "src/graph/draft_track.h"
#include "src/graph/executor.h"
#include "src/graph/tracer.h"
#include "src/memory/kv_spill.h"
#include "src/memory/residency.h"
#include "src/model/device_runner.h"
#include "src/model/handoff.h"
#include "src/model/model_impl.h"
#include "src/model/stand_in_weights.h"
#include "src/model/step_graphs.h"
#include "src/model/step_runner.h"

namespace outrigger {

struct Engine::Impl {
  /// A device that waited in vain so often is handed over to by copies from then on.
  static constexpr uint32_t kMostFailedHandoffs = 3;

  // In the order of dependence: each member may use those above it, and is destroyed before them.
  Model model;
  Plan plan;
  Numerics numerics;
  std::shared_ptr<Backend> backend;  // a draft that computes on a device has its target's
  StreamSet streams;
  std::unique_ptr<ThreadTeam> team;
  std::unique_ptr<TensorResidency> residency;
  std::unique_ptr<KvSpill> kv_spill;  // null: keys and values of all layers are resident; sessions hold parts of it
  MemoryLease activations, device_activations, residuals;
  std::unique_ptr<StandInWeights> stand_ins;  // null: the plan has no copies to draft with
  std::unique_ptr<GraphExecutor> executor;
  StepGraphs graphs;
  std::unique_ptr<Tracer> tracer;  // null: no trace; after the graphs that its steps refer to
  std::shared_ptr<DraftTrack> draft_track;  // where models that draft for this one tell their steps; null: no trace
  std::shared_ptr<DraftTrack> drafts_on;    // the track of the engine that this one drafts for; null: none, or no trace
  MemoryLease handoff_memory;
  std::optional<Handoff> handoff;             // none: the plan hands over by copies
  uint32_t failed_handoffs = 0;               // steps in which the device waited in vain
  std::optional<DeviceRunner> device_runner;  // none: the plan uses no device
  std::optional<StepRunner> draft_runner;  // none: there are no copies
  std::optional<StepRunner> runner;  // none: no weights are in memory
  std::mutex step_mutex;
  double step_ms = 0;  // of the latest step, without what it waited for its turn; under the step's lock
  std::shared_mutex placement_mutex;  // what reports read of the residency is not to be replaced meanwhile
  size_t trace_events = 0;
  bool corrects_in_turn = false;
  std::string spill_directory;
  uint64_t copied_bytes = 0;  // of the file, read to make copies
  uint64_t past_kv_read_bytes = 0, past_kv_written_bytes = 0;  // by earlier ones than kv_spill

  Impl(Model opened, Plan made, Numerics chosen) : model(std::move(opened)), plan(std::move(made)), numerics(chosen) {}

  const ModelLayout& layout() const { return *model.impl()->layout; }

  /// Runs one step and, if it wants logits, hands row i of them to `on_logits(i, logits)` before another step may begin. Any thread; waits
  /// for its turn. Allocates nothing. Errors: kIo, kCancelled: the slices' caches then hold undefined entries beyond their old positions;
  /// kUnavailable, also for a draft's step where there are no copies.
  template <typename OnLogits>
  Status run_step(const StepInput& input, const CancelToken& cancel, OnLogits&& on_logits) {
    const std::lock_guard lock(step_mutex);
    const auto start = std::chrono::steady_clock::now();
    if (Status status = run_step_locked(input, cancel); !status.is_ok()) return status;
    step_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    const StepRunner& ran = input.by_stand_ins ? *draft_runner : *runner;
    for (size_t i = 0; i < input.logit_tokens.size(); ++i) on_logits(i, ran.logits(i));
    return {};
  }

  /// Whether the device has the room to compute that the plan was told. Errors: kInvalidArgument.
  Status check_scratch(const Plan& next) const;
  /// Gives up slots and file where another plan needs others, or none. Under the placement's lock.
  void drop_unsuitable_spill(const Plan& next) noexcept;
  /// After the residency was placed as `plan` says: loads it and makes everything a step needs.
  Status prepare_steps(const Progress& progress, const CancelToken& cancel);

 private:
  Status load(const Progress& progress, const CancelToken& cancel);
  Status load_residuals();
  Status prepare_device(const StepBuffers& host);
  Status prepare_handoff();
  Status run_step_locked(const StepInput& input, const CancelToken& cancel);
  Status run_graph(const StepGraphs::Bucket& bucket, const StepInput& input, bool by_words, const CancelToken& cancel);
  Status run_draft_step(const StepInput& input, const CancelToken& cancel);
};

/// Engine::open on a backend that is open already; options.device is not looked at.
Result<Engine> open_engine_on(std::shared_ptr<Backend> backend, const Model& model, const Plan& plan, const EngineOptions& options,
                              const StreamSet& streams = {});

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_ENGINE_IMPL_H_
