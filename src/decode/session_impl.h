// What a Session holds.
#ifndef OUTRIGGER_SRC_DECODE_SESSION_IMPL_H_
#define OUTRIGGER_SRC_DECODE_SESSION_IMPL_H_

#include <outrigger/session.h>

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "src/decode/engine_impl.h"
#include "src/model/kv_cache.h"

namespace outrigger {

class DraftModel;
class LoadFollower;

struct Session::Impl {
  Impl();
  ~Impl();

  std::shared_ptr<Engine::Impl> engine;   ///< outlives the cache, which is leased from it
  KvCache cache;
  uint32_t context_tokens = 0;
  float branch_share = 1;                 ///< unless it follows the load
  std::shared_ptr<LoadFollower> follower;  ///< null: it does not; shared by the sessions of a batch
  std::vector<Token> tokens;              ///< capacity for the whole context from the start
  uint32_t computed = 0;                  ///< tokens whose keys and values are in the cache: all, or all but the last generated one
  std::vector<float> logits;              ///< [vocabulary]
  bool has_logits = false;
  std::vector<uint32_t> logit_tokens;     ///< of one step: capacity for the plan's logit_rows
  std::vector<Token> step_tokens;         ///< of a step that verifies: the same
  std::unique_ptr<DraftModel> draft_model;  ///< null: none was asked for yet
  std::atomic<bool> busy{false};
  const CancelToken never;                ///< for step(): to make one allocates

  using OnLogits = std::function<void(size_t index, std::span<const float> logits)>;

  /// Checks `more` and appends them, then computes everything not yet computed. `on_logits` empty: logits of the last token only.
  Status extend(std::span<const Token> more, const Progress& progress, const CancelToken& cancel, const OnLogits& on_logits);
  /// Computes tokens[computed, tokens.size()), in chunks.
  Status compute(const Progress& progress, const CancelToken& cancel, const OnLogits& on_logits);
  /// Computes the last of `tokens` and `drafted` behind it in one step, and gives each one's logits while the engine is held; what is held
  /// of the session stays as it is, but for what lies in the cache behind it. `tree`: of all of these; null: they are a chain.
  /// Preconditions: no more of them than the plan's logit_rows, all of `tokens` but the last are computed. Errors: as a step's.
  Status compute_rows(std::span<const Token> drafted, const TokenTree* tree, const CancelToken& cancel, const OnLogits& on_logits);
  /// After a step over a tree whose root is the last token: KvCache::keep_path.
  Status keep_path(const TokenTree& tree, size_t node) const;
  /// Whether this session may draft so: the errors of prepare_draft() but for those of opening a draft model.
  Status check_draft(const DraftOptions& options) const;
  /// As Session::prepare_draft().
  Status prepare_draft(const DraftOptions& options, const Progress& progress, const CancelToken& cancel);
  /// Of a step that is none of decoding.
  float settled_share() const;
  Status check_tokens(std::span<const Token> more) const;
  void truncate(uint32_t position);
};

/// Marks a session as in use for the length of a call.
class SessionCall {
 public:
  explicit SessionCall(Session::Impl& session) : session_(session), entered_(!session.busy.exchange(true, std::memory_order_acquire)) {}
  ~SessionCall() {
    if (entered_) session_.busy.store(false, std::memory_order_release);
  }
  SessionCall(const SessionCall&) = delete;
  SessionCall& operator=(const SessionCall&) = delete;

  Status status() const {
    return entered_ ? Status()
                    : Status(StatusCode::kInvalidArgument,
                             "session is busy: another thread is inside one of its calls; use a session per thread");
  }

 private:
  Session::Impl& session_;
  const bool entered_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_SESSION_IMPL_H_
