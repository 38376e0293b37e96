// SelfDraft: a compressed model without its branches drafts for itself with them, or a model with low-bit copies of what streams for itself
// as it is.
#ifndef OUTRIGGER_SRC_DECODE_SELF_DRAFT_H_
#define OUTRIGGER_SRC_DECODE_SELF_DRAFT_H_

#include <outrigger/session.h>

#include <optional>

#include "src/decode/draft_source.h"
#include "src/decode/random.h"
#include "src/decode/session_impl.h"
#include "src/decode/tree_draft.h"

namespace outrigger {

/// Ok where the plan has copies to draft with. Errors: kUnsupported where there are neither these nor branches, kInvalidArgument where the
/// session does not use them: the draft would be the model itself.
Status check_self_draft(const Session::Impl& session);

/// Shares the session's cache. Its steps attend to the keys and values that the model computed with all it has, and write theirs behind
/// them, at the places that the step which verifies them fills anew, before it attends to them: so the draft needs neither memory nor a
/// reading of the prompt, its guesses are those of a model that has read correctly, and nothing of it is ever seen by another step.
class SelfDraft final : public DraftSource {
 public:
  /// The session must outlive this. `options`: draft_sampling().
  SelfDraft(Session::Impl& session, Sampler sampler, const SamplingOptions& options)
      : session_(session), sampler_(std::move(sampler)), random_(options.seed), draws_(options.temperature > 0),
        by_stand_ins_(session.engine->plan.self_draft_bits > 0), sampling_(options) {}

  /// Precondition: `tokens` are the session's, of which all but the last are computed.
  Status propose(std::span<const Token> tokens, uint32_t most, const CancelToken& cancel, Draft* draft) override;
  uint32_t tree_width() const override { return kModelTreeWidth; }
  Status propose_tree(std::span<const Token> tokens, const DraftSize& size, const CancelToken& cancel, Draft* draft) override;

 private:
  Session::Impl& session_;
  Sampler sampler_;
  Random random_;
  const bool draws_;
  const bool by_stand_ins_;
  const SamplingOptions sampling_;
  std::optional<TreeGrower> grower_;  ///< from the first tree on
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_SELF_DRAFT_H_
