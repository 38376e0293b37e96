// Drafts of many texts at once: a step of the draft for each of their tokens.
#include "src/decode/batch_drafter.h"

#include <algorithm>
#include <utility>

#include "src/base/macros.h"

namespace outrigger {

/// One generation's: hands out what was drafted for its place.
class BatchDrafter::Source final : public DraftSource {
 public:
  explicit Source(const Place& place) : place_(place) {}

  Status propose(std::span<const Token> tokens, uint32_t most, const CancelToken&, Draft* draft) override {
    const Draft& made = *place_.draft;
    if (place_.text_tokens != tokens.size()) return {};  // it was not asked for
    for (size_t i = 0; i < std::min<size_t>(most, made.tokens().size()); ++i) {
      if (made.is_drawn()) {
        draft->add(made.tokens()[i], made.distribution(i));
      } else {
        draft->add(made.tokens()[i]);
      }
    }
    return {};
  }

 private:
  const Place& place_;
};

BatchDrafter::BatchDrafter(std::string path, OpenedDraft opened, size_t places)
    : path_(std::move(path)), opened_(std::move(opened)), shares_(places), step_(*opened_.engine.impl(), places, 1) {
  joined_.reserve(places);
}

Result<std::unique_ptr<BatchDrafter>> BatchDrafter::open(Engine::Impl& target, const std::string& path, uint32_t context_tokens,
                                                         size_t places, const CancelToken& cancel) {
  OTR_ASSIGN(OpenedDraft opened, open_draft(target, path, {context_tokens, static_cast<uint32_t>(places)}, {}, cancel));
  std::unique_ptr<BatchDrafter> drafter(new BatchDrafter(path, std::move(opened), places));
  for (size_t i = 0; i < places; ++i) {
    OTR_ASSIGN(Session session, Session::open(drafter->opened_.engine));
    drafter->places_.emplace_back(std::move(session));
  }
  return drafter;
}

Result<std::unique_ptr<DraftSource>> BatchDrafter::begin(size_t index, const SamplingOptions& target_sampling) {
  const SamplingOptions sampling = draft_sampling(target_sampling);
  OTR_ASSIGN(Sampler sampler, Sampler::create(sampling));
  Place& place = places_[index];
  place.sampler.emplace(std::move(sampler));
  place.random = Random(sampling.seed);
  place.draws = sampling.temperature > 0;
  place.draft.emplace(kMostDraftTokens, place.draws ? kMostDraftCandidates : 0);
  place.most = 0;
  place.text_tokens = 0;
  return std::unique_ptr<DraftSource>(new Source(place));
}

bool BatchDrafter::is_on_device() const { return opened_.engine.plan().device.planned_bytes > 0; }

// The place's cache for these tokens, of which it keeps what it has computed, the first `most_kept` at most.
void BatchDrafter::hold(Place& place, std::span<const Token> tokens, size_t most_kept) {
  Session::Impl& session = place.session.impl();
  const std::span<const Token> held = std::span<const Token>(session.tokens).first(session.computed);
  const auto common = static_cast<size_t>(std::mismatch(held.begin(), held.end(), tokens.begin(), tokens.end()).first - held.begin());
  const size_t kept = std::min(common, most_kept);
  session.truncate(static_cast<uint32_t>(kept));
  session.tokens.insert(session.tokens.end(), tokens.begin() + static_cast<ptrdiff_t>(kept), tokens.end());
}

void BatchDrafter::expect(size_t index, std::span<const Token> tokens) {
  Place& place = places_[index];
  place.is_expected = !has_failed_ && tokens.size() > 1 && tokens.size() < place.session.impl().context_tokens;
  if (place.is_expected) hold(place, tokens.first(tokens.size() - 1), tokens.size());  // the last one's logits are wanted with a draft
}

Status BatchDrafter::read(const std::function<bool()>& is_enough, const CancelToken& cancel) {
  Status status;
  while (status.is_ok() && !is_enough() && has_more_to_read()) status = run_step(cancel);
  for (Place& place : places_) place.is_expected = false;
  return note(std::move(status));
}

void BatchDrafter::ask(size_t index, std::span<const Token> tokens, uint32_t most) {
  Place& place = places_[index];
  place.draft->clear();
  place.text_tokens = tokens.size();
  place.most = 0;
  const uint32_t context_tokens = place.session.impl().context_tokens;
  if (tokens.size() >= context_tokens || has_failed_) return;  // the draft is made for fewer tokens
  place.most = std::min({most, context_tokens - static_cast<uint32_t>(tokens.size()), kMostDraftTokens});
  hold(place, tokens, tokens.size() - 1);  // the last one's logits are what is drafted from
}

Status BatchDrafter::run(const CancelToken& cancel) {
  has_read_ = false;
  for (Place& place : places_) {
    const Session::Impl& session = place.session.impl();
    // Behind a draft two tokens are new at most: the last one that was drafted, and what the target says.
    if (place.most > 0 && session.tokens.size() - session.computed > 2) has_read_ = true;
  }
  Status status;
  while (status.is_ok() && has_more()) status = run_step(cancel);
  for (Place& place : places_) {
    if (place.most == 0) continue;  // its draft may be being verified
    place.most = 0;
    if (!status.is_ok()) place.draft->clear();
  }
  return note(std::move(status));
}

Status BatchDrafter::note(Status status) {
  has_failed_ = has_failed_ || (!status.is_ok() && status.code() != StatusCode::kCancelled);
  return status;
}

// The next step reads on. False: all is read.
bool BatchDrafter::has_more_to_read() {
  bool is_any = false;
  for (size_t i = 0; i < places_.size(); ++i) {
    const Session::Impl& session = places_[i].session.impl();
    shares_[i] = {};
    if (!places_[i].is_expected) continue;
    shares_[i] = {static_cast<uint32_t>(session.tokens.size() - session.computed), true, false};
    is_any |= shares_[i].pending > 0;
  }
  return is_any;
}

// Appends what the next step of each is to compute. False: all have what they wanted.
bool BatchDrafter::has_more() {
  bool is_any = false;
  for (size_t i = 0; i < places_.size(); ++i) {
    Place& place = places_[i];
    Session::Impl& session = place.session.impl();
    shares_[i] = {};
    if (place.most == 0 || place.draft->tokens().size() == place.most) continue;
    if (session.computed == session.tokens.size()) session.tokens.push_back(place.draft->tokens().back());
    shares_[i] = {static_cast<uint32_t>(session.tokens.size() - session.computed), true, true};
    is_any = true;
  }
  return is_any;
}

Status BatchDrafter::run_step(const CancelToken& cancel) {
  const Plan& plan = opened_.engine.impl()->plan;
  share_step(shares_, 0, {plan.step_tokens, std::min(plan.logit_rows, plan.step_tokens)});
  step_.clear();
  joined_.clear();
  for (size_t i = 0; i < places_.size(); ++i) {
    if (shares_[i].tokens == 0) continue;
    step_.add(places_[i].session.impl(), shares_[i].tokens, shares_[i].wants_row && shares_[i].tokens == shares_[i].pending ? 1 : 0);
    joined_.push_back(&places_[i]);
  }
  failure_ = {};
  OTR_TRY(step_.run(cancel, [this](size_t index, size_t, std::span<const float> logits) {
    Place& place = *joined_[index];
    const Result<Token> token = draft_token(*place.sampler, place.random, place.draws, logits.first(opened_.vocabulary),
                                            place.session.impl().tokens, &*place.draft);
    if (!token.is_ok()) failure_ = token.status();
  }));
  return failure_;
}

}  // namespace outrigger
