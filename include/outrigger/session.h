// Session: one conversation: its tokens, its KV cache, and the calls that extend it.
#ifndef OUTRIGGER_SESSION_H_
#define OUTRIGGER_SESSION_H_

#include <outrigger/cancel.h>
#include <outrigger/engine.h>
#include <outrigger/export.h>
#include <outrigger/sampling.h>
#include <outrigger/speculation.h>
#include <outrigger/status.h>
#include <outrigger/tokenizer.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace outrigger {

struct SessionOptions {
  uint32_t context_tokens = 0;   ///< most tokens it can hold; 0: the plan's
  static constexpr float kAsPlanned = -1;
  float branch_share = kAsPlanned;  ///< as set_branch_share(); kAsPlanned: Plan::branch_share
};

/// How Session::follow_load() chooses.
struct FollowLoad {
  double max_slowdown = 0.05;  ///< of decode steps, on average, beside the same steps without branches; 0.01 to 10

  /// Errors: kInvalidArgument naming the field, its value and what it may be.
  Status validate() const;
};

/// What decode steps used of the branches while a session followed the load.
struct BranchUse {
  bool follows_load = false;  ///< false: the share is fixed, or the model has no branches; nothing else is told then
  uint64_t steps = 0;         ///< decode steps, those without branches to compare with included
  double mean_share = 0;      ///< of these steps
  double slowdown = 0;        ///< their time over what they had taken without branches, less 1, as measured; 0 while too few were
};

enum class StopReason : int32_t { kLength = 0, kEos = 1, kStop = 2, kCancelled = 3 };
OTR_API const char* stop_reason_name(StopReason reason) noexcept;  ///< "length", "eos", "stop", "cancelled"

/// One generated token as it comes. `text` is what became complete with it: often a word's part, sometimes empty, never half a character.
struct GeneratedToken {
  Token token = -1;
  std::string_view text;
};

struct GenerateOptions {
  uint32_t max_tokens = 128;
  SamplingOptions sampling;
  std::vector<std::string> stop;          ///< ends before the first of these texts, which is not part of the result
  bool ignore_eos = false;
  /// Changes how long a generation takes and, greedy or with a draft that draws nothing (kAuto, kNgram), nothing else: tokens, text and
  /// callbacks are the same. With kSelf and kModel drawn tokens are others of the same distribution; the same ones each time only with a
  /// fixed DraftOptions::tokens.
  DraftOptions draft;
  std::function<bool(const GeneratedToken&)> on_token;  ///< on the calling thread; return false to stop (kCancelled)
  Progress prefill_progress;              ///< return false to stop
  CancelToken cancel;                     ///< a cancelled generation is a result, not an error: the tokens so far are valid

  Status validate() const;
};

struct Timings {
  double prefill_ms = 0, prefill_tokens_per_s = 0;
  double time_to_first_token_ms = 0;
  double decode_ms = 0;                   ///< from the first token to the last
  double decode_tokens_per_s = 0;         ///< tokens after the first over decode_ms; 0 for fewer than two
};

struct GenerateResult {
  std::vector<Token> tokens;              ///< generated ones, without the token that ended generation
  std::string text;
  StopReason stop_reason = StopReason::kLength;
  Timings timings;
  SpeculationReport speculation;
  BranchUse branches;                     ///< of the steps that made these tokens
};

/// Threads: one at a time; another thread's concurrent call gets kInvalidArgument ("session is busy"), cancel tokens excepted.
class OTR_API Session {
 public:
  struct Impl;

  /// Takes a KV cache of options.context_tokens from the engine's plan.
  /// Errors: kBudget when the plan's batch x context is taken by other sessions (needed_bytes says what a plan would need);
  /// kInvalidArgument.
  static Result<Session> open(const Engine& engine, const SessionOptions& options = {});
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  /// Appends tokens and computes their KV entries, in chunks of the plan's step size; afterwards logits() speaks of what follows the last.
  /// Errors: kInvalidArgument (empty, an id outside the vocabulary, more tokens than the context still holds: nothing is appended);
  /// kCancelled, kIo: whole chunks done before it stay, position() tells.
  Status prefill(std::span<const Token> tokens, const Progress& progress = {}, const CancelToken& cancel = {});
  /// prefill of one token: allocates nothing.
  Status step(Token token);
  /// Of a compressed model's branches: 1 for all of each, 0 for the bare weights, between for the components that matter most (rounded to
  /// 32 of them). Holds for tokens that are computed from now on; nothing is loaded anew. A model without branches takes any share. Errors:
  /// kInvalidArgument for none from 0 to 1. Ends follow_load().
  Status set_branch_share(float share);
  /// From now on chooses the share for each decode step by what the steps before it took: the largest with which steps take no more than
  /// max_slowdown longer than without branches, less of them while other programs make branches dear, more when these are gone. Tokens and
  /// bits then depend on time: another run may say something else. Begins with the share there is, and anew at each call. A decode step is
  /// one of step(), step_together() and of what generate() writes; to compare with, one uses no branches after every 32nd, in the beginning
  /// after every second. Shares are eighths. Prompts, evaluate() and prefill() of several tokens take the share that is settled on, and are
  /// not measured. Drafts are not for sessions that follow: of them there is none for kAuto, and others are refused. A model without
  /// branches goes on as it is. Errors: those of options.validate().
  Status follow_load(const FollowLoad& options = {});
  /// Since follow_load().
  BranchUse branch_use() const;
  /// Like prefill, but `on_logits(index, logits)` is called for each token in order with the logits of what follows it.
  Status evaluate(std::span<const Token> tokens, const std::function<void(size_t index, std::span<const float> logits)>& on_logits,
                  const CancelToken& cancel = {});

  /// Logits [vocabulary] after the last token; empty before the first and after truncate(). Valid until the next call that changes the
  /// session.
  std::span<const float> logits() const;
  std::span<const Token> tokens() const;   ///< all so far; its size is the position
  uint32_t context_tokens() const;

  /// Opens what generate() with this draft needs, which otherwise its first call does: a draft model, which the session keeps until another
  /// is asked for. It runs within the plan's draft bytes (Workload::draft_bytes), a cache of this session's context included; these count
  /// in the engine's budget.
  /// Errors: kInvalidArgument when the draft has another vocabulary (the message names the first token that differs), the plan has no rows
  /// of logits to verify with (Workload::draft_tokens), or kSelf is asked for with the branches off; kUnsupported in a session that follows
  /// the load, for kSelf of a model without branches under a plan without low-bit copies (Workload::stand_ins); kBudget with the bytes that
  /// the draft needs and those it was given; those of Model::open and Engine::open.
  Status prepare_draft(const DraftOptions& options, const Progress& progress = {}, const CancelToken& cancel = {});

  /// prefill(prompt), then sample and step until a stop. The session then holds prompt and generated tokens (the last one is held but
  /// not yet computed into the KV cache; the next call does it).
  /// A draft that fails on its way is given up with a warning in the log; what was asked for goes on without one.
  /// Errors: those of prefill, of options.validate() and of prepare_draft(). When the context is full generation ends with kLength.
  Result<GenerateResult> generate(std::span<const Token> prompt, const GenerateOptions& options);

  /// Forgets every token from `position` on. Errors: kInvalidArgument beyond the end.
  Status truncate(uint32_t position);
  /// A second session with the same state. Errors: as open().
  Result<Session> fork() const;
  /// State as bytes: tokens and KV entries; only for the same model file and numerics. Restoring checks this and every size.
  /// restore() errors: kCorruptFile, kInvalidArgument (another model, more tokens than the context); the session is then unchanged. Where
  /// layers' keys and values are on disk, all three may be kIo; a session that was to be restored is then empty.
  Result<std::vector<std::byte>> save() const;
  Status restore(std::span<const std::byte> state);
  /// The same through a file, which appears complete or not at all.
  Status save_file(const std::string& path) const;
  Status restore_file(const std::string& path);

  Impl& impl() { return *impl_; }  ///< for the library's own parts

 private:
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SESSION_H_
