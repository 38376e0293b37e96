// The values of options that commands share, and what they mean.
#ifndef OUTRIGGER_SRC_TOOL_OPTIONS_H_
#define OUTRIGGER_SRC_TOOL_OPTIONS_H_

#include <outrigger/engine.h>
#include <outrigger/model.h>
#include <outrigger/plan.h>
#include <outrigger/session.h>
#include <outrigger/status.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "src/tool/progress.h"
#include "src/tool/sizes.h"

namespace outrigger::tool {

/// The command that the parsed line asks for.
using Action = std::function<Status()>;

/// Where a draft model computes.
enum class DraftPlace { kAuto, kHost, kDevice };

/// Options of the section "Everywhere" of docs/tool.md.
struct CommonOptions {
  uint32_t threads = 0;
  std::string device = "cpu";
  std::optional<ByteSize> host_budget;
  std::optional<ByteSize> device_budget;
  DiskDirect disk_direct = DiskDirect::kAuto;
  std::optional<uint64_t> seed;
  std::string plan_file;
  std::string trace_file;
  bool keeps_lane_times = false;  ///< a trace is kept though none is written
  Numerics numerics = Numerics::kFast;
  CorrectionPlace corrections = CorrectionPlace::kAsItPays;
  bool corrects_in_turn = false;
  double max_slowdown = Workload::kAnySlowdown;
  std::optional<KvType> kv_type;  ///< unset: float16, and float32 with the numerics of that name
  std::string draft_file;         ///< a draft model that memory is kept for; empty: none
  DraftPlace draft_place = DraftPlace::kAuto;
  std::string spill_directory;    ///< empty: the library's choice; kNoSpill: keys and values stay in memory
  ProgressMode progress = ProgressMode::kAuto;
  int log_level = 1;
  bool json = false;
};

inline constexpr const char* kNoSpill = "none";

/// Whether --device says anything, and this build knows it. Errors: kUnavailable, kInvalidArgument.
Status check_device(const CommonOptions& options);
/// Whether the trace that was asked for, if any, can be written: known before the work, not after it. Errors: kInvalidArgument where no
/// steps run, kNotFound, kIo.
Status check_trace(const CommonOptions& options, bool has_steps);
/// Installs the log sink.
void apply_log_level(const CommonOptions& options);

/// What --host-budget says in bytes, with the library's default when it says nothing. A share is one of the memory the process can get.
uint64_t host_budget_bytes(const CommonOptions& options);

/// Options of speculation and batches, of which some are parsed so that they can be refused by name, and the share of branches.
struct FutureOptions {
  float branch_share = SessionOptions::kAsPlanned;
  bool follows_load = false;  ///< --branch follow; then no share is given
  std::string draft = "auto", draft_tokens = "auto", draft_shape = "auto", groups = "auto";
  DraftPlace draft_place = DraftPlace::kAuto;  ///< of a draft model
  std::vector<uint32_t> batch = {1};
};
Status check_future(const FutureOptions& options);
/// How --branch follow chooses, if it was given: within --max-slowdown, or the library's default.
std::optional<FollowLoad> follow_load(const CommonOptions& common, const FutureOptions& options);
/// Makes the session follow the load, if that was asked for; where the model has no branches, a line on stderr says that it changes
/// nothing.
Status start_following(Session& session, const CommonOptions& common, const FutureOptions& options);
/// What --draft and --draft-tokens say; with --branch follow, auto is none. Errors: kInvalidArgument.
Result<DraftOptions> draft_options(const FutureOptions& options);
/// Tokens that a plan is to have room for with such a draft, for each of `batch` texts at once.
uint32_t planned_draft_tokens(const DraftOptions& options, uint32_t batch);
/// --batch of a command that runs one text at a time. Errors: kUnsupported, or kInvalidArgument, for any but 1, naming `instead`.
Status check_no_batch(const FutureOptions& options, const char* instead);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_OPTIONS_H_
