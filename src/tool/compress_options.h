// What `compress` is asked for, and what that is to the library.
#ifndef OUTRIGGER_SRC_TOOL_COMPRESS_OPTIONS_H_
#define OUTRIGGER_SRC_TOOL_COMPRESS_OPTIONS_H_

#include <outrigger/compress.h>
#include <outrigger/model.h>

#include <string>
#include <vector>

#include "src/tool/options.h"

namespace outrigger::tool {

/// PolishTarget, or what serves where nobody says.
enum class PolishTargetChoice : int32_t { kBranches, kBackbone, kBoth, kAuto };

struct CompressCommandOptions {
  CommonOptions common;
  std::string model, output, bits = "4", branch_budget = "0", branch_reads = "0", polish = "auto";
  double max_slowdown = 0;
  WeightLevels levels = WeightLevels::kUniform;
  uint32_t group_weights = 64;
  int factor_bits = 4;
  BranchForm form = BranchForm::kAuto;
  BranchAllocation allocation = BranchAllocation::kMeasured;
  BranchMethod method = BranchMethod::kWeighed;
  PolishTargetChoice polish_target = PolishTargetChoice::kAuto;
  PolishScope polish_scope = PolishScope::kAuto;
  std::vector<std::string> calibration;
  bool own_text = false;
  uint32_t chunk_tokens = 512, chunks = 32, quality_chunks = 4;
  std::string report_file;
  bool no_resume = false;
};

/// Without progress and cancellation. With a slowdown this machine's profile is looked up, or measured. Errors: kInvalidArgument with the
/// option's name; those of known_profile().
Result<CompressOptions> read_compress_options(const CompressCommandOptions& options, const Model& model);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_COMPRESS_OPTIONS_H_
