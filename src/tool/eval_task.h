// Multiple-choice tasks: which continuation the model finds most likely.
#ifndef OUTRIGGER_SRC_TOOL_EVAL_TASK_H_
#define OUTRIGGER_SRC_TOOL_EVAL_TASK_H_

#include <outrigger/session.h>
#include <outrigger/status.h>
#include <outrigger/tokenizer.h>

#include <string>
#include <vector>

#include "src/tool/progress.h"
#include "src/tool/report.h"

namespace outrigger::tool {

/// One continuation: the tokens of context and choice together, those from `scored_from` on belonging to the choice.
struct Choice {
  std::vector<Token> tokens;
  size_t scored_from = 0;
  size_t bytes = 0;  ///< of the choice's text: what its log-likelihood is divided by when lengths differ
};

struct TaskExample {
  std::vector<Choice> choices;
  size_t answer = 0;
};

/// Reads lines of {"context":"...","choices":["...","..."],"answer":0}.
/// Errors: kCorruptFile naming line and field; kInvalidArgument for a file without any.
Result<std::vector<TaskExample>> read_task(const std::string& path, const Tokenizer& tokenizer);

/// Tokens of the longest choice: the context that a session needs.
size_t longest_choice(const std::vector<TaskExample>& examples);

/// {"examples":N,"accuracy":{..},"accuracy_normalised":{..}}. Errors: those of Session::evaluate, kCancelled after Ctrl-C.
Result<Json> run_task(Session& session, const std::vector<TaskExample>& examples, ProgressMode progress);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_EVAL_TASK_H_
