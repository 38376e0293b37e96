// What may be drafted with, and getting it ready.
#include <outrigger/speculation.h>

#include <new>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/decode/draft_model.h"
#include "src/decode/self_draft.h"
#include "src/decode/session_impl.h"

namespace outrigger {
namespace {

Status no_rows(const Plan& plan) {
  return Status(
      StatusCode::kInvalidArgument,
      formatted(
          "draft: the plan has room for the logits of {} token in a step, need 2 at least; plan with draft tokens, or for more memory",
          plan.logit_rows));
}

// A share is judged by what steps of one token take, and drafts make steps of any size.
Status no_follower(DraftKind kind) {
  return Status(
      StatusCode::kUnsupported,
      formatted("draft: got '{}', need none or auto, which is none, while the branch share follows the load; set a share, or draft nothing",
                draft_kind_name(kind)));
}

}  // namespace

const char* draft_kind_name(DraftKind kind) noexcept {
  switch (kind) {
    case DraftKind::kNone:
      return "none";
    case DraftKind::kAuto:
      return "auto";
    case DraftKind::kNgram:
      return "ngram";
    case DraftKind::kSelf:
      return "self";
    case DraftKind::kModel:
      return "model";
  }
  return "unknown";
}

const char* draft_shape_name(DraftShape shape) noexcept {
  switch (shape) {
    case DraftShape::kAuto:
      return "auto";
    case DraftShape::kChain:
      return "chain";
    case DraftShape::kTree:
      return "tree";
  }
  return "unknown";
}

Status DraftOptions::validate() const {
  const auto number = static_cast<int32_t>(kind);
  if (number < static_cast<int32_t>(DraftKind::kNone) || number > static_cast<int32_t>(DraftKind::kModel)) {
    return Status(StatusCode::kInvalidArgument,
                  formatted("draft.kind: got {}, need 0 (none), 1 (auto), 2 (ngram), 3 (self) or 4 (model)", number));
  }
  if ((kind == DraftKind::kModel) == path.empty()) {
    return Status(StatusCode::kInvalidArgument, path.empty()
                                                    ? "draft.path: got none, need that of the draft model"
                                                    : formatted("draft.path: got '{}', need none for a draft that is no model", path));
  }
  const auto form = static_cast<int32_t>(shape);
  if (form < static_cast<int32_t>(DraftShape::kAuto) || form > static_cast<int32_t>(DraftShape::kTree)) {
    return Status(StatusCode::kInvalidArgument, formatted("draft.shape: got {}, need 0 (auto), 1 (chain) or 2 (tree)", form));
  }
  if (const uint32_t most = shape == DraftShape::kTree ? kMostTreeDraftTokens : kMostDraftTokens; tokens > most) {
    return Status(StatusCode::kInvalidArgument,
                  formatted("draft.tokens: got {}, need at most {} in a {}, or 0 to choose as it pays", tokens, most,
                            shape == DraftShape::kTree ? "tree" : "chain"));
  }
  return {};
}

Status Session::Impl::check_draft(const DraftOptions& options) const {
  OTR_TRY(options.validate());
  if (options.kind == DraftKind::kNone) return {};
  if (follower && options.kind != DraftKind::kAuto) return no_follower(options.kind);
  if (options.kind == DraftKind::kAuto) return {};
  if (options.kind == DraftKind::kSelf) OTR_TRY(check_self_draft(*this));
  return engine->plan.logit_rows < 2 ? no_rows(engine->plan) : Status();
}

Status Session::Impl::prepare_draft(const DraftOptions& options, const Progress& progress, const CancelToken& cancel) {
  OTR_TRY(check_draft(options));
  if (options.kind != DraftKind::kModel || (draft_model && draft_model->path() == options.path)) return {};
  draft_model.reset();  // its bytes are the next one's
  OTR_ASSIGN(draft_model, DraftModel::open(*engine, options.path, context_tokens, progress, cancel));
  return {};
}

Status Session::prepare_draft(const DraftOptions& options, const Progress& progress, const CancelToken& cancel) try {
  SessionCall call(*impl_);
  OTR_TRY(call.status());
  return impl_->prepare_draft(options, progress, cancel);
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
