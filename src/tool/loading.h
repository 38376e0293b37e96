// From a model's path to an engine: open, plan, load.
#ifndef OUTRIGGER_SRC_TOOL_LOADING_H_
#define OUTRIGGER_SRC_TOOL_LOADING_H_

#include <outrigger/engine.h>
#include <outrigger/machine_profile.h>
#include <outrigger/model.h>
#include <outrigger/plan.h>
#include <outrigger/status.h>

#include <chrono>
#include <string>

#include "src/tool/options.h"
#include "src/tool/report.h"

namespace outrigger::tool {

/// Milliseconds since it was made.
class Stopwatch {
 public:
  double ms() const { return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Opens the file. Errors: those of Model::open and check_device.
Result<Model> open_model(const std::string& path, const CommonOptions& options);
/// Also refuses at once, with the reason, a model that cannot run.
Result<Model> open_runnable(const std::string& path, const CommonOptions& options);

/// The plan of --plan, or one for `workload` on this machine. `given` is used instead of the known profile if it is not null.
Result<Plan> make_plan(const Model& model, const CommonOptions& options, Workload workload, const MachineProfile* given = nullptr);

/// The profile that a plan is made by: `given` if it is not null, or the known one.
Result<MachineProfile> plan_profile(const Model& model, const CommonOptions& options, const MachineProfile* given);

/// make_plan, then Engine::open with progress and Ctrl-C. `load_ms`, if given, gets the time of planning and loading.
Result<Engine> load_engine(const Model& model, const CommonOptions& options, const Workload& workload, double* load_ms = nullptr,
                           const MachineProfile* given = nullptr);

/// Writes --trace, if it was given: before the result, so that a failure is the one document on stdout. Errors: those of
/// Engine::write_trace.
Status write_trace(const Engine& engine, const CommonOptions& options);

/// {"host":{...},"device":{...}} of the contract.
Json memory_json(const Engine& engine);
Json streamed_json(const Engine& engine);
/// {"steps":..,"wall_ms":..,"disk_ms":..,"host_ms":..,"h2d_ms":..,"d2h_ms":..,"device_ms":..}: all 0 where the engine keeps no trace.
Json lanes_json(const Engine& engine);
/// {"uses":..,"hits":..,"reads":..,"guesses":..,"right_guesses":..,"token_uses":..,"token_hits":..,"repetition":..}
Json experts_json(const Engine& engine);
Json device_json(const Engine& engine);
/// {"steps":..,"mean_share":..,"slowdown":..}: what --branch follow did.
Json branches_json(const BranchUse& use);
/// {"file":..,"architecture":..,"parameters":..,"bytes":..}
Json model_json(const Model& model);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_LOADING_H_
