// Engine: a model placed in memory by a plan, ready to run sessions.
#ifndef OUTRIGGER_ENGINE_H_
#define OUTRIGGER_ENGINE_H_

#include <outrigger/cancel.h>
#include <outrigger/export.h>
#include <outrigger/model.h>
#include <outrigger/plan.h>
#include <outrigger/status.h>

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
  std::string device = "cpu";    ///< "cpu"; "cuda[:N]" and "emulated:..." are kUnavailable or kUnsupported in a build without them
  Numerics numerics = Numerics::kFast;
  Progress progress;             ///< of loading; empty: none
  CancelToken cancel;            ///< of loading
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
  uint64_t disk_bytes = 0, h2d_bytes = 0, d2h_bytes = 0;
};

/// Cheap to copy; copies share one engine, which lives until the last copy and the last session are gone.
/// Threads: any; steps of different sessions run one after the other.
class OTR_API Engine {
 public:
  struct Impl;

  /// Reserves every byte of `plan`, starts plan.threads - 1 threads, reads and packs what is resident.
  /// Errors: kUnsupported with the reason when the model cannot run; kInvalidArgument when the plan is not this model's (check_plan);
  /// kOutOfMemory; kIo when the file can no longer be read or has changed; kCorruptFile; kCancelled. Nothing is kept after a failure.
  static Result<Engine> open(const Model& model, const Plan& plan, const EngineOptions& options = {});

  const Model& model() const;
  const Plan& plan() const;
  MemoryReport memory() const;
  StreamReport streamed() const;

  explicit Engine(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  const std::shared_ptr<Impl>& impl() const { return impl_; }  ///< for the library's own parts

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_ENGINE_H_
