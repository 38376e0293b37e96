// The prompts of a file for `run --prompts`: JSON, one object a line.
#ifndef OUTRIGGER_SRC_TOOL_PROMPT_FILE_H_
#define OUTRIGGER_SRC_TOOL_PROMPT_FILE_H_

#include <outrigger/model.h>
#include <outrigger/plan.h>
#include <outrigger/status.h>
#include <outrigger/tokenizer.h>

#include <vector>

#include "src/tool/generation.h"

namespace outrigger::tool {

struct Prompt {
  std::vector<Token> tokens;
  uint32_t new_tokens = 0;
};

/// The prompts of --prompts, in their order; empty lines are passed over. Errors: those of read_file and prompt_tokens; kCorruptFile with
/// the line for what is no such object; kInvalidArgument for none at all.
Result<std::vector<Prompt>> read_prompts(const Tokenizer& tokenizer, const RunOptions& options);

/// The workload that has room for each of them. Errors: those of workload_for.
Result<Workload> workload_for_all(const RunOptions& options, const ModelInfo& info, const std::vector<Prompt>& prompts);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_PROMPT_FILE_H_
