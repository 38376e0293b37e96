// Sessions: extending a conversation token by token or in chunks.
#include <outrigger/session.h>

#include <algorithm>
#include <new>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/decode/draft_model.h"
#include "src/decode/load_follower.h"
#include "src/decode/session_impl.h"
#include "src/model/on_device.h"

namespace outrigger {

Session::Impl::Impl() = default;
Session::Impl::~Impl() = default;

float Session::Impl::settled_share() const { return follower ? follower->settled_share() : branch_share; }

Status Session::Impl::check_tokens(std::span<const Token> more) const {
  if (more.empty()) return Status(StatusCode::kInvalidArgument, "no tokens given: at least one is needed");
  const uint64_t vocabulary = engine->layout().vocabulary;
  for (size_t i = 0; i < more.size(); ++i) {
    if (more[i] < 0 || static_cast<uint64_t>(more[i]) >= vocabulary) {
      return Status(StatusCode::kInvalidArgument,
                    formatted("token {} of {}: got id {}, need 0 to {}", i, more.size(), more[i], vocabulary - 1));
    }
  }
  if (more.size() > context_tokens - tokens.size()) {
    return Status(StatusCode::kInvalidArgument,
                  formatted("the context is full: got {} tokens after {}, need at most {} in all; plan for a larger context", more.size(),
                            tokens.size(), context_tokens));
  }
  return {};
}

Status Session::Impl::extend(std::span<const Token> more, const Progress& progress, const CancelToken& cancel, const OnLogits& on_logits) {
  OTR_TRY(check_tokens(more));
  const size_t before = tokens.size();
  tokens.insert(tokens.end(), more.begin(), more.end());
  Status status = compute(progress, cancel, on_logits);
  if (!status.is_ok()) tokens.resize(std::max<size_t>(before, computed));
  return status;
}

Status Session::Impl::compute(const Progress& progress, const CancelToken& cancel, const OnLogits& on_logits) {
  const Plan& plan = engine->plan;
  const size_t begin = computed, end = tokens.size();
  // Each token's logits are wanted only in steps as small as the logits buffer.
  const size_t chunk = on_logits ? std::min(plan.step_tokens, plan.logit_rows) : plan.step_tokens;
  has_logits = false;
  const bool is_decoding = follower && !on_logits && end - begin == 1;
  while (computed < end) {
    if (cancel.is_cancelled()) return Status(StatusCode::kCancelled, "cancelled between steps");
    const uint32_t count = static_cast<uint32_t>(std::min(chunk, end - computed));
    const bool last = computed + count == end;
    logit_tokens.clear();
    if (on_logits) {
      for (uint32_t i = 0; i < count; ++i) logit_tokens.push_back(i);
    } else if (last) {
      logit_tokens.push_back(count - 1);
    }
    const SequenceSlice slice{&cache, computed, 0, count};
    const StepInput input{
        std::span(tokens).subspan(computed, count), {&slice, 1}, logit_tokens, is_decoding ? follower->next_share(1) : settled_share()};
    double step_ms = 0;
    OTR_TRY(engine->run_step(input, cancel, [&](size_t i, std::span<const float> row) {
      step_ms = engine->step_ms;
      if (on_logits) on_logits(computed - begin + i, row);
      if (last && i + 1 == logit_tokens.size()) std::copy(row.begin(), row.end(), logits.begin());
    }));
    if (is_decoding) follower->record(1, step_ms);
    computed += count;
    has_logits = last;
    if (progress && !progress(static_cast<double>(computed - begin) / static_cast<double>(end - begin)) && !last) {
      return Status(StatusCode::kCancelled, "cancelled by the progress callback");
    }
  }
  return {};
}

Status Session::Impl::compute_rows(std::span<const Token> drafted, const TokenTree* tree, const CancelToken& cancel,
                                   const OnLogits& on_logits) {
  if (cancel.is_cancelled()) return Status(StatusCode::kCancelled, "cancelled between steps");
  step_tokens.assign(1, tokens.back());
  step_tokens.insert(step_tokens.end(), drafted.begin(), drafted.end());
  const auto count = static_cast<uint32_t>(step_tokens.size());
  logit_tokens.clear();
  for (uint32_t i = 0; i < count; ++i) logit_tokens.push_back(i);
  const SequenceSlice slice{&cache, computed, 0, count, tree, 0};
  const StepInput input{step_tokens, {&slice, 1}, logit_tokens, settled_share()};
  return engine->run_step(input, cancel, on_logits);
}

Status Session::Impl::keep_path(const TokenTree& tree, size_t node) const {
  const std::lock_guard lock(engine->step_mutex);  // the slots of spilled layers are the steps' as well
  return cache.keep_path(static_cast<uint32_t>(tokens.size() - 1), tree, node, *engine->residency);
}

void Session::Impl::truncate(uint32_t position) {
  tokens.resize(position);
  computed = std::min(computed, position);
  has_logits = false;
}

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

namespace {

// The plan's share for caches is what sessions may take together, even where the budget would still hold another one.
Status check_room(const ModelLayout& layout, const Plan& plan, const TierPlan& tier, const TierUse& use, uint32_t context,
                  uint32_t layers) {
  const uint64_t taken = use.current.kv_cache, more = KvCache::bytes(layout.config, plan.kv_type, context, layers),
                 planned = tier.breakdown.kv_cache;
  if (taken + more <= planned) return {};
  return Status(StatusCode::kBudget, formatted("no room for another session: its cache needs {}, the plan has {} for caches, of which {} "
                                               "are taken; plan for a larger batch",
                                               format_bytes(more), format_bytes(planned), format_bytes(taken)))
      .with_bytes(tier.planned_bytes + taken + more - planned, tier.planned_bytes);
}

// The same of the slots that spilled layers pass through, each of which has a place for every session.
Status check_slot_room(const ModelLayout& layout, const Plan& plan, const KvPlaces& places, uint32_t context) {
  if (places.spilled_layers == 0) return {};
  if (places.spill == nullptr)
    return Status(StatusCode::kUnavailable, "no memory for keys and values is taken since a change of the plan failed; change it again");
  const uint64_t more = whole_kv_pages(KvCache::bytes(layout.config, plan.kv_type, context, 1));
  if (places.spill->has_room(more)) return {};
  return Status(StatusCode::kBudget, formatted("no room for another session: it needs {} of each slot for keys and values on disk, and the "
                                               "slots of {} have no such gap; plan for a larger batch",
                                               format_bytes(more), format_bytes(plan.kv_slot_bytes)))
      .with_bytes(plan.host.planned_bytes + plan.kv_slots * more, plan.host.planned_bytes);
}

Status check_branch_share(float share) {
  return share >= 0 && share <= 1 ? Status() : Status(StatusCode::kInvalidArgument, formatted("branch_share: got {}, need 0 to 1", share));
}

}  // namespace

Status Session::set_branch_share(float share) {
  SessionCall call(*impl_);
  OTR_TRY(call.status());
  OTR_TRY(check_branch_share(share));
  impl_->branch_share = share;
  impl_->follower.reset();
  return {};
}

Status Session::follow_load(const FollowLoad& options) try {
  SessionCall call(*impl_);
  OTR_TRY(call.status());
  OTR_TRY(options.validate());
  impl_->follower = LoadFollower::make(impl_->engine->layout(), options, impl_->settled_share());
  return {};
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

BranchUse Session::branch_use() const { return impl_->follower ? impl_->follower->counts().use() : BranchUse(); }

Result<Session> Session::open(const Engine& engine, const SessionOptions& options) try {
  const Plan& plan = engine.plan();
  const uint32_t context = options.context_tokens == 0 ? plan.context_tokens : options.context_tokens;
  if (context > plan.context_tokens) {
    return Status(StatusCode::kInvalidArgument,
                  formatted("context: got {} tokens, need at most the plan's {}; plan for a larger context", context, plan.context_tokens));
  }
  auto impl = std::make_unique<Impl>();
  impl->engine = engine.impl();
  impl->context_tokens = context;
  impl->branch_share = options.branch_share == SessionOptions::kAsPlanned ? plan.branch_share : options.branch_share;
  OTR_TRY(check_branch_share(impl->branch_share));
  TensorResidency& residency = *impl->engine->residency;
  const ModelLayout& layout = impl->engine->layout();
  const std::lock_guard lock(impl->engine->step_mutex);  // two sessions must not both take the last cache
  const std::vector<bool> on_device = attention_on_device(layout, plan);
  const auto there = static_cast<uint32_t>(std::count(on_device.begin(), on_device.end(), true));
  const KvPlaces places{on_device, impl->engine->kv_spill.get(), plan.kv_spilled_layers};
  OTR_TRY(check_room(layout, plan, plan.host, residency.report(), context, layout.config.layers - there - plan.kv_spilled_layers));
  if (there > 0) OTR_TRY(check_room(layout, plan, plan.device, residency.device()->report(), context, there));
  OTR_TRY(check_slot_room(layout, plan, places, context));
  OTR_ASSIGN(impl->cache, KvCache::reserve(residency, layout.config, plan.kv_type, context, places));
  impl->tokens.reserve(context);
  impl->logits.resize(layout.vocabulary);
  impl->logit_tokens.reserve(plan.logit_rows);
  impl->step_tokens.reserve(plan.logit_rows);
  return Session(std::move(impl));
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Status Session::prefill(std::span<const Token> tokens, const Progress& progress, const CancelToken& cancel) {
  SessionCall call(*impl_);
  OTR_TRY(call.status());
  return impl_->extend(tokens, progress, cancel, {});
}

Status Session::step(Token token) { return prefill({&token, 1}, {}, impl_->never); }

Status Session::evaluate(std::span<const Token> tokens, const std::function<void(size_t, std::span<const float>)>& on_logits,
                         const CancelToken& cancel) {
  SessionCall call(*impl_);
  OTR_TRY(call.status());
  if (impl_->computed < impl_->tokens.size()) OTR_TRY(impl_->compute({}, cancel, {}));
  return impl_->extend(tokens, {}, cancel, on_logits);
}

std::span<const float> Session::logits() const {
  return impl_->has_logits ? std::span<const float>(impl_->logits) : std::span<const float>();
}
std::span<const Token> Session::tokens() const { return impl_->tokens; }
uint32_t Session::context_tokens() const { return impl_->context_tokens; }

Status Session::truncate(uint32_t position) {
  SessionCall call(*impl_);
  OTR_TRY(call.status());
  if (position > impl_->tokens.size()) {
    return Status(StatusCode::kInvalidArgument, formatted("truncate: got position {}, need at most {}", position, impl_->tokens.size()));
  }
  impl_->truncate(position);
  return {};
}

}  // namespace outrigger
