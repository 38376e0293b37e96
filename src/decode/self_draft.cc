// A cheaper form of the model drafts for it: without branches, or with low-bit copies.
#include "src/decode/self_draft.h"

#include "src/base/macros.h"
#include "src/decode/draft_model.h"
#include "src/plan/memory_model.h"

namespace outrigger {

Status check_self_draft(const Session::Impl& session) {
  if (session.engine->plan.self_draft_bits > 0) return {};
  if (session.engine->layout().shape.correction_row_bytes == 0) {
    return Status(StatusCode::kUnsupported,
                  "a draft by the model itself: this file has no branches and the plan no low-bit copies of what streams, so there is no "
                  "cheaper form of "
                  "it; use a compressed file, a plan with copies and a smaller budget, or another draft");
  }
  if (session.branch_share == 0) {
    return Status(StatusCode::kInvalidArgument,
                  "a draft by the model itself: the session's branch share is 0, so the draft would be the model; use a share above 0, or "
                  "another draft");
  }
  return {};
}

Status SelfDraft::propose(std::span<const Token> tokens, uint32_t most, const CancelToken& cancel, Draft* draft) {
  const size_t size = tokens.size();
  static constexpr uint32_t kOnlyRow = 0;
  Status status;
  for (uint32_t i = 0; i < most && status.is_ok(); ++i) {
    const SequenceSlice slice{&session_.cache, static_cast<uint32_t>(size - 1 + i), 0, 1};
    const StepInput input{std::span(session_.tokens).last(1), {&slice, 1}, {&kOnlyRow, 1}, 0, by_stand_ins_};
    Result<Token> next = Status(StatusCode::kInternal, "no logits");
    status = session_.engine->run_step(input, cancel, [&](size_t, std::span<const float> logits) {
      next = draft_token(sampler_, random_, draws_, logits, session_.tokens, draft);
    });
    if (status.is_ok()) status = next.status();
    if (status.is_ok()) session_.tokens.push_back(next.value());  // within the context's capacity: the chain ends before it
  }
  session_.tokens.resize(size);
  return status;
}

Status SelfDraft::propose_tree(std::span<const Token>, const DraftSize& size, const CancelToken& cancel, Draft* draft) {
  if (!grower_) {
    OTR_ASSIGN(grower_, TreeGrower::create(sampling_));
  }
  static_assert(kModelTreeWidth <= kStandInTokens);
  StepInput bare;
  bare.branch_share = 0;
  bare.by_stand_ins = by_stand_ins_;
  size_t computed_nodes = 0;  // all of which the step that verifies fills anew
  return grower_->grow(session_, bare, {}, session_.engine->layout().vocabulary, size, cancel, draft, &computed_nodes);
}

}  // namespace outrigger
