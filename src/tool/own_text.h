// Text that a model writes itself, to calibrate by where no other is given.
#ifndef OUTRIGGER_SRC_TOOL_OWN_TEXT_H_
#define OUTRIGGER_SRC_TOOL_OWN_TEXT_H_

#include <outrigger/model.h>
#include <outrigger/status.h>
#include <outrigger/tokenizer.h>

#include <cstdint>
#include <vector>

#include "src/tool/options.h"

namespace outrigger::tool {

/// `chunks` pieces of `chunk_tokens` each, every one begun anew and drawn as the model says, at temperature 1: the same tokens each time,
/// however many are written at once, which is as many as the budget has room for. Runs the model as `run` would, with progress and Ctrl-C.
/// Errors: those of planning, loading and generating; kCancelled.
/// @source LLM-QAT (arXiv 2305.17888), section 3.1; there the first tokens are drawn greedily from a random one.
Result<std::vector<Token>> own_text(const Model& model, const CommonOptions& options, uint32_t chunks, uint32_t chunk_tokens);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_OWN_TEXT_H_
