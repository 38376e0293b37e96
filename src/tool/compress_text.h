// The texts that a model is compressed by, and pieces of them to judge by.
#ifndef OUTRIGGER_SRC_TOOL_COMPRESS_TEXT_H_
#define OUTRIGGER_SRC_TOOL_COMPRESS_TEXT_H_

#include <outrigger/model.h>
#include <outrigger/status.h>

#include <vector>

#include "src/tool/compress_options.h"

namespace outrigger::tool {

/// Whole chunks.
struct CompressText {
  std::vector<Token> calibration;
  std::vector<Token> held_out;  ///< of the same texts, that calibration does not use; empty where the texts have no more
};

/// Every text has the same share of both, spread over it. Without a file, or with own_text too, the model writes one. Errors:
/// kInvalidArgument for a text that is too short; those of reading and of own_text().
Result<CompressText> read_compress_text(const CompressCommandOptions& options, const Model& model);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_COMPRESS_TEXT_H_
