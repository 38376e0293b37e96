// Batches: many texts at once, each as if it were alone, all from the same passes over the weights.
#ifndef OUTRIGGER_BATCH_H_
#define OUTRIGGER_BATCH_H_

#include <outrigger/engine.h>
#include <outrigger/export.h>
#include <outrigger/session.h>
#include <outrigger/status.h>
#include <outrigger/tokenizer.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace outrigger {

/// One text of a batch: what Session::generate() would be given.
struct BatchRequest {
  std::vector<Token> prompt;
  /// Its cancel token ends this text alone, and is looked at between steps. Of drafts a batch has kNgram, kAuto as the same, and kModel,
  /// one model for all texts, in the plan's draft bytes (draft_model_bytes() of as many texts); how long they are, where that is left open,
  /// is chosen for all texts together.
  GenerateOptions options;
};

struct BatchOptions {
  uint32_t sequences = 0;                           ///< most texts at once; 0: the plan's batch
  uint32_t context_tokens = 0;                      ///< of each; 0: the plan's
  float branch_share = SessionOptions::kAsPlanned;  ///< as Session::set_branch_share(), of all
  /// As Session::follow_load(), one share for a step's texts, which begins with branch_share; texts then depend on time
  std::optional<FollowLoad> follow_load;
  /// Groups that alternate where a model drafts: while a pass verifies one's drafts, the other's are made. 1: all texts go together; 2; 0:
  /// two as long as that is measured to be faster, as where drafting takes longer than reading the weights.
  uint32_t groups = 0;
  /// Called as soon as a text is done, in the order in which they are, on the calling thread.
  std::function<void(size_t index, const Result<GenerateResult>& result)> on_result;
  CancelToken cancel;  ///< ends all: each text with what it has, those that have not begun with nothing

  /// Errors: kInvalidArgument naming the field, its value and what it may be.
  Status validate() const;
};

/// What a batch did.
struct BatchReport {
  uint64_t steps = 0;             ///< passes over the weights
  uint64_t step_tokens = 0;       ///< that these computed: prompts, texts and drafts
  uint32_t most_at_once = 0;      ///< texts in one step
  uint64_t alternated_steps = 0;  ///< steps beside which a model drafted for the other group's texts
  uint64_t prompt_tokens = 0;     ///< of the texts that were begun
  uint64_t generated_tokens = 0;
  double total_ms = 0;            ///< from the first step to the last result
  double total_tokens_per_s = 0;  ///< generated tokens over it
  BranchUse branches;             ///< of the steps without prompts
};

struct BatchResult {
  std::vector<Result<GenerateResult>> results;  ///< in the order of the requests, each what Session::generate() returns
  BatchReport report;
};

/// Generates the text of every request, up to `sequences` of them at once. A step computes, in one pass over the weights, the next token of
/// every text that is being written, then, as far as the plan's step_tokens go, the prompts of those that were begun last, and with what is
/// left drafts, as many for each text. Where a step has less room than texts, they take turns. The next request takes the place of a text
/// as soon as that is done. Tokens, text and callbacks of each are exactly those that it has alone, whatever it is together with: greedy,
/// drawn with its seed, and with a draft by n-grams; drawn with a draft model's they have the distribution that they have alone. Timings
/// count from when it was begun, and a step's time is everyone's. Sessions are taken from the plan for the length of the call, as many as
/// texts are at once. A plan's rows of logits limit how many texts and drafts a step has: Workload::batch and draft_tokens ask for all.
/// Steps allocate nothing once they are under way, but for the texts themselves. Errors of a request are its result and do not concern the
/// others: those of Session::generate(); kUnsupported for drafts by the model itself and by a second draft model, and for any but kAuto,
/// which then is none, while the load is followed. A step that fails fails for every text that was in it; of a draft that fails a warning
/// says that it is given up. Errors of the call: those of Session::open() and of validate(); kInvalidArgument for more sequences than the
/// plan's batch. Threads: any; the engine's other sessions may be used meanwhile, and take turns with it.
OTR_API Result<BatchResult> generate_batch(const Engine& engine, std::span<const BatchRequest> requests, const BatchOptions& options = {});

/// Session::step() of several sessions of one engine, in one pass over the weights, or in as many as the plan's rows of logits ask for:
/// tokens[i] is appended to sessions[i], whose logits() then speak of what follows it. Bits are those of Session::step(). Errors:
/// kInvalidArgument for as many tokens as sessions not being given, sessions of different engines, branch shares or ways to follow the load
/// (where all do, the first one's measurements count for all), one that is given twice
/// or in use elsewhere, and whatever Session::step() refuses: nothing has changed then. Those of a step: sessions whose pass was done keep
/// their token.
OTR_API Status step_together(std::span<Session* const> sessions, std::span<const Token> tokens, const CancelToken& cancel = {});

}  // namespace outrigger

#endif  // OUTRIGGER_BATCH_H_
