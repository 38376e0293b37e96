// Perplexity of a text, and how far one run's predictions are from another's.
#ifndef OUTRIGGER_SRC_TOOL_EVAL_TEXT_H_
#define OUTRIGGER_SRC_TOOL_EVAL_TEXT_H_

#include <outrigger/session.h>
#include <outrigger/status.h>

#include <vector>

#include "src/tool/npy.h"
#include "src/tool/progress.h"
#include "src/tool/report.h"
#include "src/tool/statistics.h"

namespace outrigger::tool {

/// Most tokens of one step whose logits are asked for: what a plan for an evaluation is made for.
constexpr uint32_t kEvaluationRows = 32;

/// The text in chunks of `context_tokens`. Of each, the tokens of the second half are predicted from all before them in the chunk.
struct TextChunks {
  std::vector<Token> tokens;
  uint32_t context_tokens = 0;
  size_t chunks = 0;
  Token bos = -1;  ///< takes the place of each chunk's first token; -1: the model wants none

  size_t scored_per_chunk() const { return context_tokens - 1 - context_tokens / 2; }
  size_t scored() const { return chunks * scored_per_chunk(); }
};

struct TextFigures {
  Mean nll, reference_nll, kl, same_top;  ///< in groups of chunks
  std::vector<double> kl_samples;         ///< ascending once the evaluation is over
};

class TextEvaluation {
 public:
  /// `reference` and `logits` may be null: then nothing is compared, or kept. All are to outlive this.
  TextEvaluation(Session& session, Session* reference, NpyWriter* logits, ProgressMode progress)
      : session_(session), reference_(reference), logits_(logits), progress_(progress) {}

  /// Errors: those of Session::prefill and evaluate, kCancelled after Ctrl-C; kIo for `logits`.
  Result<TextFigures> run(const TextChunks& text);

 private:
  Status run_chunk(std::span<const Token> chunk, TextFigures& figures);
  Status score_block(std::span<const Token> block, std::span<const Token> answers, TextFigures& figures);

  Session& session_;
  Session* reference_;
  NpyWriter* logits_;
  ProgressMode progress_;
  std::vector<std::vector<float>> reference_rows_;
};

/// The fields of the contract: perplexity, and with a comparison reference_perplexity, kl and same_top.
Json figures_json(const TextFigures& figures, bool compared);
std::string figures_text(const TextFigures& figures, bool compared);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_EVAL_TEXT_H_
