// How near a compressed model comes to the one it was made from.
#ifndef OUTRIGGER_SRC_TOOL_COMPRESS_QUALITY_H_
#define OUTRIGGER_SRC_TOOL_COMPRESS_QUALITY_H_

#include <outrigger/compress.h>
#include <outrigger/model.h>
#include <outrigger/status.h>

#include <string>
#include <vector>

#include "src/tool/options.h"

namespace outrigger::tool {

/// Evaluates `file` and `model`, the latter in float32, on whole chunks of `chunk_tokens`. Loads both. Errors: those of planning, loading
/// and evaluating; kCancelled.
Result<CompressQuality> measure_quality(const Model& model, const std::string& file, const CommonOptions& options,
                                        const std::vector<Token>& chunks, uint32_t chunk_tokens);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_COMPRESS_QUALITY_H_
