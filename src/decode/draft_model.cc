// A small model beside another one: opened within its bytes, and drafting.
#include "src/decode/draft_model.h"

#include <outrigger/speculation.h>

#include <algorithm>
#include <new>
#include <utility>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/decode/acceptance.h"

namespace outrigger {
namespace {

Status beyond_budget(const std::string& path, const char* tier, uint64_t needed, uint64_t given) {
  return Status(StatusCode::kBudget, formatted("the draft model: got {} ({} bytes) of {} memory, need {} ({} bytes); plan with as many "
                                               "draft bytes, or use a smaller draft",
                                               format_bytes(given), given, tier, format_bytes(needed), needed))
      .with_bytes(needed, given)
      .in_file(path);
}

// What the target's plan keeps for drafts and has not given to one yet.
Budgets left_for_drafts(const Engine::Impl& target) {
  const auto left = [](const TierPlan& planned, const TierUse& use) {
    return planned.breakdown.draft - std::min(use.current.draft, planned.breakdown.draft);
  };
  const DeviceResidency* const device = std::as_const(*target.residency).device();
  return {left(target.plan.host, target.residency->report()), device == nullptr ? 0 : left(target.plan.device, device->report())};
}

// The draft's plan within what is left: nothing is too little for it, and no limit to a planner.
Result<Plan> plan_within(const Budgets& left, const Engine::Impl& target, const Model& model, const std::string& path,
                         const DraftTexts& texts) {
  const uint32_t device_threads = target.plan.device.breakdown.draft > 0 ? target.plan.device_threads : 0;
  const auto plan_in = [&](const Budgets& budgets) {
    return plan_draft(model, texts, DraftThreads{target.plan.threads, device_threads}, budgets);
  };
  if (left.host_bytes == 0 || (device_threads > 0 && left.device_bytes == 0)) {
    OTR_ASSIGN(const Plan whole, plan_in({Budgets::kUnlimited, Budgets::kUnlimited}));
    return left.host_bytes == 0 ? beyond_budget(path, "host", whole.host.planned_bytes, 0)
                                : beyond_budget(path, "the device's", whole.device.planned_bytes, 0);
  }
  Result<Plan> plan = plan_in(left);
  if (plan.status().code() != StatusCode::kBudget) return plan;
  const bool host_suffices = plan_in({left.host_bytes, Budgets::kUnlimited}).is_ok();
  return beyond_budget(path, host_suffices ? "the device's" : "host", plan.status().needed_bytes(), plan.status().given_bytes());
}

}  // namespace

Result<OpenedDraft> open_draft(Engine::Impl& target, const std::string& path, const DraftTexts& texts, const Progress& progress,
                               const CancelToken& cancel) {
  OTR_ASSIGN(const Model model, Model::open(path));
  if (!model.info().can_run)
    return Status(StatusCode::kUnsupported, formatted("the draft model cannot run: {}", model.info().why_not)).in_file(path);
  if (Status status = check_same_vocabulary(target.model, model); !status.is_ok()) return std::move(status).in_file(path);
  OTR_ASSIGN(const Plan plan, plan_within(left_for_drafts(target), target, model, path, texts));
  OTR_ASSIGN(MemoryClaim claim, target.residency->claim(MemoryUse::kDraft, plan.host.planned_bytes));
  const bool is_on_device = plan.device.planned_bytes > 0;
  MemoryClaim device_claim;
  if (is_on_device) {
    OTR_ASSIGN(device_claim, target.residency->device()->claim(MemoryUse::kDraft, plan.device.planned_bytes));
  }
  EngineOptions options;
  options.numerics = target.numerics;
  options.progress = progress;
  options.cancel = cancel;
  OTR_ASSIGN(Engine engine,
             is_on_device ? open_engine_on(target.backend, model, plan, options, kDraftStreams) : Engine::open(model, plan, options));
  engine.impl()->drafts_on = target.draft_track;
  const size_t vocabulary = std::min(target.layout().vocabulary, engine.impl()->layout().vocabulary);
  return OpenedDraft{std::move(claim), std::move(device_claim), std::move(engine), vocabulary};
}

Result<std::unique_ptr<DraftModel>> DraftModel::open(Engine::Impl& target, const std::string& path, uint32_t context_tokens,
                                                     const Progress& progress, const CancelToken& cancel) {
  OTR_ASSIGN(OpenedDraft opened, open_draft(target, path, {context_tokens, 1}, progress, cancel));
  OTR_ASSIGN(Session session, Session::open(opened.engine));
  const bool has_own_lane = opened.engine.plan().device.planned_bytes > 0 && target.plan.device.own_bytes() == 0;
  return std::unique_ptr<DraftModel>(new DraftModel(path, std::move(opened), std::move(session), has_own_lane));
}

SamplingOptions draft_sampling(const SamplingOptions& target) {
  SamplingOptions options = target;
  options.top_k = options.top_k == 0 ? kMostDraftCandidates : std::min(options.top_k, kMostDraftCandidates);
  // Of its own: with the target's numbers a draft would foresee them.
  options.seed = target.seed ^ 0x6a09e667f3bcc908u;
  return options;
}

Result<Token> draft_token(Sampler& sampler, Random& random, bool draws, std::span<const float> logits, std::span<const Token> history,
                          Draft* draft) {
  if (!draws) {
    OTR_ASSIGN(const Token token, sampler.sample(logits, history));
    draft->add(token);
    return token;
  }
  OTR_ASSIGN(const std::span<const TokenProbability> distribution, sampler.distribution(logits, history));
  const Token token = draw_token(distribution, random.uniform());
  draft->add(token, distribution);
  return token;
}

// What it holds of its last draft ends where the target said something else; the last token is computed again if there is nothing else to
// ask about.
Status ModelDraft::read(std::span<const Token> tokens, const CancelToken& cancel) {
  Session& session = model_.session();
  last_.reset();
  ahead_text_ = 0;
  if (tokens.size() > session.context_tokens()) return {};  // the draft is made for fewer tokens
  OTR_TRY(keep_accepted(tokens));
  const std::span<const Token> held = session.tokens();
  const auto common = static_cast<size_t>(std::mismatch(held.begin(), held.end(), tokens.begin(), tokens.end()).first - held.begin());
  if (common == tokens.size() && held.size() == common && !session.logits().empty()) return {};
  const size_t kept = std::min(common, tokens.size() - 1);
  OTR_TRY(session.truncate(static_cast<uint32_t>(kept)));
  return session.prefill(tokens.subspan(kept), {}, cancel);
}

Status ModelDraft::propose(std::span<const Token> tokens, uint32_t most, const CancelToken& cancel, Draft* draft) {
  Session& session = model_.session();
  if (tokens.size() >= session.context_tokens()) return {};
  most = std::min<uint32_t>(most, session.context_tokens() - static_cast<uint32_t>(tokens.size()));
  if (!take_ahead(tokens, most, draft)) OTR_TRY(read(tokens, cancel));
  OTR_TRY(draft_on(most, [&cancel] { return cancel.is_cancelled(); }, draft));
  return cancel.is_cancelled() ? Status(StatusCode::kCancelled, "cancelled between steps of the draft") : Status();
}

// As a chain goes on: the last token is computed when one more is wanted.
Status ModelDraft::draft_on(uint32_t most, const std::function<bool()>& is_enough, Draft* draft) {
  Session& session = model_.session();
  while (draft->tokens().size() < most && !is_enough()) {
    if (last_) OTR_TRY(session.step(*last_));
    last_.reset();
    OTR_ASSIGN(last_, draft_token(sampler_, random_, draws_, session.logits().first(model_.vocabulary()), session.tokens(), draft));
  }
  return {};
}

Status ModelDraft::draft_ahead(uint32_t most, const std::function<bool()>& is_enough) {
  const Session& session = model_.session();
  ahead_text_ = 0;
  ahead_.clear();
  // What it holds, the last of the chain, the token behind it, and what is drafted behind that.
  const size_t text = session.tokens().size() + 2;
  if (!last_ || text >= session.context_tokens() || is_enough()) return {};
  most = std::min({most, session.context_tokens() - static_cast<uint32_t>(text), kMostDraftTokens - 1});
  OTR_TRY(draft_on(1, is_enough, &ahead_));  // the likeliest, which the step itself says
  ahead_.clear();
  OTR_TRY(draft_on(most, is_enough, &ahead_));
  if (!ahead_.tokens().empty()) ahead_text_ = text;
  return {};
}

// What was drafted ahead of `tokens`, if it was of these: the session holds all of it but the last.
bool ModelDraft::take_ahead(std::span<const Token> tokens, uint32_t most, Draft* draft) {
  const size_t text = std::exchange(ahead_text_, 0);
  const std::span<const Token> held = model_.session().tokens();
  if (text == 0 || tokens.size() != text || !std::equal(tokens.begin(), tokens.end(), held.begin())) return false;
  const size_t count = std::min<size_t>(most, ahead_.tokens().size());
  if (count == 0) return false;
  if (count < ahead_.tokens().size()) {
    if (!model_.session().truncate(static_cast<uint32_t>(text + count - 1)).is_ok()) return false;
    last_ = ahead_.tokens()[count - 1];
  }
  for (size_t i = 0; i < count; ++i) {
    if (ahead_.is_drawn()) {
      draft->add(ahead_.tokens()[i], ahead_.distribution(i));
    } else {
      draft->add(ahead_.tokens()[i]);
    }
  }
  return true;
}

// A plan of steps of one token, in the least bytes of all, has no logits for the nodes of a level.
uint32_t ModelDraft::tree_width() const {
  return model_.session().impl().engine->plan.logit_rows < kModelTreeWidth ? 1 : kModelTreeWidth;
}

Status ModelDraft::propose_tree(std::span<const Token> tokens, const DraftSize& size, const CancelToken& cancel, Draft* draft) {
  Session::Impl& session = model_.session().impl();
  if (tokens.size() >= session.context_tokens) return {};
  const uint32_t room = session.context_tokens - static_cast<uint32_t>(tokens.size());
  OTR_TRY(read(tokens, cancel));
  if (!grower_) {
    OTR_ASSIGN(grower_, TreeGrower::create(sampling_));
  }
  StepInput like;
  like.branch_share = session.branch_share;
  const DraftSize fitting{std::min(size.tokens, room), std::min(size.depth, room), size.width};
  OTR_TRY(grower_->grow(session, like, session.logits, model_.vocabulary(), fitting, cancel, draft, &computed_nodes_));
  tree_ = draft->tree();
  tree_tokens_.assign(draft->tokens().begin(), draft->tokens().end());
  tree_text_ = tokens.size();
  return {};
}

// What the target took of the last tree moves together behind the text, as far as it was computed.
Status ModelDraft::keep_accepted(std::span<const Token> tokens) {
  Session::Impl& session = model_.session().impl();
  const size_t computed = std::exchange(computed_nodes_, 0);
  if (computed == 0 || session.tokens.size() != tree_text_ || tokens.size() <= tree_text_) return {};
  if (!std::equal(session.tokens.begin(), session.tokens.end(), tokens.begin())) return {};
  size_t node = 0, next = 0;
  const auto more = tokens.subspan(tree_text_);
  for (size_t i = 0; i < more.size() && (next = find_under(tree_, tree_tokens_, node, more[i])) != 0 && next < computed; ++i) node = next;
  OTR_TRY(session.keep_path(tree_, node));
  session.tokens.insert(session.tokens.end(), more.begin(), more.begin() + static_cast<ptrdiff_t>(tree_.depth(node)));
  session.computed = static_cast<uint32_t>(session.tokens.size());
  session.has_logits = session.has_logits && node == 0;
  return {};
}

}  // namespace outrigger
