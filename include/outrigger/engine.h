// Engine: a model placed in memory by a plan, ready to run sessions.
#ifndef OUTRIGGER_ENGINE_H_
#define OUTRIGGER_ENGINE_H_

#include <outrigger/cancel.h>
#include <outrigger/export.h>
#include <outrigger/model.h>
#include <outrigger/plan.h>
#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace outrigger {

/// How products with low-bit weights are computed.
enum class Numerics : int32_t {
  kFast = 0,     ///< activations rounded to int8 per 32 elements; see docs/numerics.md for what that costs
  kFloat32 = 1,  ///< activations stay float32: the reference, several times slower
};

struct EngineOptions {
  /// "cpu"; for plans that use a device, "cuda" or "cuda:N", an NVIDIA GPU, which is kUnavailable without the shared object
  /// liboutrigger_cuda.so, a driver or that GPU; or "emulated:memory=SIZE,link=RATE[,latency=TIME][,threads=N][,taken=SIZE]", a device of
  /// this machine's own memory.
  std::string device = "cpu";
  Numerics numerics = Numerics::kFast;
  Progress progress;             ///< of loading; empty: none
  CancelToken cancel;            ///< of loading
  size_t trace_events = 0;       ///< latest events of each lane to keep for write_trace(), a node of a step being one; 0: no trace.
                                 ///< Takes about 32 bytes an event and lane and 40 more, beside the budgets, and less than 1 % of the time
  /// With Plan::corrections_beside: the device multiplies after the host has corrected; slower, to see what side by side is worth
  bool corrects_in_turn = false;
  std::string spill_directory;   ///< where Plan::kv_spill_bytes are taken; a directory on a disk. Empty: TMPDIR, or /var/tmp
};

/// Bytes of one tier: what was allowed, planned, in use now, and the most that ever was.
struct TierUse {
  uint64_t budget_bytes = 0, planned_bytes = 0, current_bytes = 0, peak_bytes = 0;
  TierBreakdown current;
};

struct MemoryReport {
  TierUse host, device;
};

/// Bytes moved since the engine was opened, loading not counted.
struct StreamReport {
  uint64_t disk_bytes = 0, h2d_bytes = 0, d2h_bytes = 0;       ///< disk: of the model's file
  uint64_t kv_read_bytes = 0, kv_written_bytes = 0;            ///< of keys and values on disk
};

/// Experts of a mixture since the engine was opened. All 0 where every expert is resident, or the model has none.
struct ExpertReport {
  uint64_t uses = 0;           ///< an expert of a layer in a step, whatever the number of tokens that go through it
  uint64_t hits = 0;           ///< of these, in memory when the layer was routed
  uint64_t reads = 0;          ///< experts read from disk, guesses included
  uint64_t guesses = 0;        ///< experts not in memory that were guessed before their layer was routed
  uint64_t right_guesses = 0;  ///< of these, used
  uint64_t token_uses = 0;     ///< of `uses`, where a step took no more of a layer than a token does
  uint64_t token_hits = 0;     ///< of these, in memory without a guess
  /// What a plan for such texts would count on: Workload::expert_repetition, of token_uses and token_hits beside the share of experts that
  /// there is room for. 1 before anything was counted, and where texts find no more than that share.
  double repetition = 1;
};

/// What the engine's device was given since it was opened, a draft's that computes there included. All 0 without a device.
struct DeviceReport {
  uint64_t operations = 0;        ///< a product with a matrix, a layer's attention, ...
  uint64_t launches = 0;          ///< of kernels and graphs, for these operations
  uint64_t graphs = 0;            ///< of these launches, of operations that came before in the same order, together
  uint64_t graph_operations = 0;  ///< of the operations, those of such launches
  uint64_t handoffs = 0;          ///< times that host and device took turns within a step without a copy
};

/// How long each lane worked during some steps, of which the trace holds every event: the host without its waits for what is read from
/// disk. To be compared with StepPrediction::lanes.
struct LaneBusy {
  uint64_t steps = 0;        ///< how many; 0 when the engine keeps no trace
  double wall_ms = 0;        ///< their own time; what lies between steps does not count
  double disk_ms = 0, h2d_ms = 0, d2h_ms = 0, host_ms = 0, device_ms = 0;
};

/// Cheap to copy; copies share one engine, which lives until the last copy and the last session are gone.
/// Threads: any; steps of different sessions run one after the other.
class OTR_API Engine {
 public:
  struct Impl;

  /// Reserves every byte of `plan`, starts plan.threads - 1 threads, reads and packs what is resident.
  /// Errors: kUnsupported with the reason when the model cannot run; kInvalidArgument when the plan is not this model's (check_plan);
  /// kOutOfMemory; kIo when the file can no longer be read or has changed, or the disk has no room for keys and values; kCorruptFile;
  /// kCancelled; of the device kInvalidArgument when it is not the one that the plan is for, kUnavailable, kDevice. Nothing is kept after a
  /// failure.
  static Result<Engine> open(const Model& model, const Plan& plan, const EngineOptions& options = {});

  /// Places the weights anew as another plan says, under a lower or a higher budget: between steps, with every session as it is. The memory
  /// of the old placement is given back before that of the new one is taken. `plan` must have room for the caches of the sessions that are
  /// open, in the same type and with the same layers on disk (Workload::kv_spilled_layers), and where there are any, for the same batch and
  /// context; a plan() that was asked for before is no longer to be used. Cost: as open().
  /// Errors: kInvalidArgument, then nothing has changed; otherwise as open(): no weights are in memory then and steps are kUnavailable
  /// until a replan() succeeds. A trace starts anew.
  Status replan(const Plan& plan, const Progress& progress = {}, const CancelToken& cancel = {});

  const Model& model() const;
  const Plan& plan() const;
  MemoryReport memory() const;
  StreamReport streamed() const;
  ExpertReport experts() const;
  DeviceReport device() const;
  /// Over the latest `most_steps` steps, or as many as the trace holds whole. Waits for a running step.
  LaneBusy lane_busy(uint64_t most_steps = UINT64_MAX) const;
  /// Writes the trace as JSON trace events, which ui.perfetto.dev and chrome://tracing open: a track for each lane, an event for each node
  /// that ran, and one for each step. Waits for a running step; the file appears complete or not at all.
  /// Errors: kInvalidArgument when EngineOptions::trace_events was 0; kIo; kOutOfMemory.
  Status write_trace(const std::string& path) const;

  explicit Engine(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  const std::shared_ptr<Impl>& impl() const { return impl_; }  ///< for the library's own parts

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_ENGINE_H_
