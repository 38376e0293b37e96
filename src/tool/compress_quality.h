// How near a compressed model comes to the one it was made from.
#ifndef OUTRIGGER_SRC_TOOL_COMPRESS_QUALITY_H_
#define OUTRIGGER_SRC_TOOL_COMPRESS_QUALITY_H_

#include <outrigger/model.h>
#include <outrigger/status.h>

#include <optional>
#include <string>
#include <vector>

#include "src/tool/options.h"
#include "src/tool/statistics.h"

namespace outrigger::tool {

/// Distances in nats a token, on text that calibration did not use.
struct CompressQuality {
  Estimate backbone;                    ///< without branches and residuals
  std::optional<Estimate> compensated;  ///< with them, where there are any
  Estimate recovered;                   ///< the part of the distance that they take away
};

/// Evaluates `file` and `model`, the latter in float32, on whole chunks of `chunk_tokens`. Loads both. Errors: those of planning, loading
/// and evaluating; kCancelled.
Result<CompressQuality> measure_quality(const Model& model, const std::string& file, const CommonOptions& options,
                                        const std::vector<Token>& chunks, uint32_t chunk_tokens);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_COMPRESS_QUALITY_H_
