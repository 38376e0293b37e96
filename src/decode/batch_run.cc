// Many texts at once: step after step of those that have something to compute.
#include "src/decode/batch_run.h"

#include <algorithm>
#include <utility>

#include "src/base/formatted.h"
#include "src/base/logging.h"
#include "src/base/macros.h"

namespace outrigger {
namespace {

double ms_between(std::chrono::steady_clock::time_point start, std::chrono::steady_clock::time_point end) {
  return std::chrono::duration<double, std::milli>(end - start).count();
}

}  // namespace

BatchRun::BatchRun(Engine::Impl& engine, std::span<const BatchRequest> requests, const BatchOptions& options, float branch_share,
                   size_t sequences)
    : engine_(engine),
      requests_(requests),
      options_(options),
      all_(planned_growth(engine.plan)),
      halves_{Group(planned_growth(engine.plan) / 2), Group(planned_growth(engine.plan) / 2)},
      groups_(options.groups, least_pass_ms(engine.plan)),
      step_(engine, sequences, branch_share) {
  if (options.follow_load) follower_ = LoadFollower::make(engine.layout(), *options.follow_load, branch_share);
  results_.resize(requests.size());
  joined_.reserve(sequences);
  all_.end = halves_[1].end = sequences;
  halves_[0].end = halves_[1].begin = (sequences + 1) / 2;
}

void BatchRun::add_place(Session session) {
  session.impl().follower = follower_;
  places_.emplace_back(std::move(session));
  shares_.emplace_back();
}

BatchResult BatchRun::run() {
  const Clock::time_point start = Clock::now();
  while (!options_.cancel.is_cancelled()) {
    if (alternates()) {
      alternate();
    } else if (!go_together()) {
      break;
    }
  }
  stop_all();
  return finish(start);
}

BatchResult BatchRun::finish(Clock::time_point start) {
  report_.total_ms = ms_between(start, Clock::now());
  if (report_.total_ms > 0) report_.total_tokens_per_s = static_cast<double>(report_.generated_tokens) * 1000 / report_.total_ms;
  if (follower_) report_.branches = follower_->counts().use();
  BatchResult result;
  result.report = report_;
  result.results.reserve(results_.size());
  for (std::optional<Result<GenerateResult>>& made : results_) result.results.push_back(std::move(*made));
  return result;
}

// Where nothing is drafted by a model there is nothing to hide, and one half alone has nobody to draft for meanwhile.
bool BatchRun::alternates() const {
  return groups_.next() == 2 && drafter_ != nullptr && !drafter_->has_failed() && has_texts(halves_[0]) && has_texts(halves_[1]);
}

bool BatchRun::has_texts(const Group& group) const {
  return std::any_of(places_.begin() + static_cast<ptrdiff_t>(group.begin), places_.begin() + static_cast<ptrdiff_t>(group.end),
                     [](const BatchSequence& place) { return !place.is_free(); });
}

// False: nobody is left.
bool BatchRun::go_together() {
  for (Group& half : halves_) half.is_ready = false;
  prepare(all_);
  if (!all_.is_ready) return false;
  draft_for(all_);
  const bool reads_beside = read_beside();
  const Pass pass = run_step(all_);
  if (reads_beside) {
    is_read_enough_ = true;
    thread_.wait();
    warn_of_failed_draft();
  }
  if (pass.is_comparable && !all_.has_read) groups_.record({pass.drafted > 0 ? all_.draft_ms : 0, all_.draft_ms + pass.ms, pass.tokens});
  return true;
}

// A pass over what was drafted for one group, and meanwhile drafts for the other.
void BatchRun::alternate() {
  Group &now = halves_[slot_ % 2], &next = halves_[(slot_ + 1) % 2];
  ++slot_;
  if (!now.is_ready) {  // the first one
    for (Group& half : halves_) half.length.learn(all_.length);
    prepare(now);
    draft_for(now);
  }
  prepare(next);
  if (!now.is_ready) return draft_for(next);
  const Clock::time_point start = Clock::now();
  const Status started = thread_.start([this] { draft_status_ = drafter_->run(options_.cancel); });
  const Pass pass = run_step(now);
  if (!started.is_ok()) draft_status_ = drafter_->run(options_.cancel);
  thread_.wait();
  const double slot_ms = ms_between(start, Clock::now());
  next.draft_ms = slot_ms - pass.ms;
  next.has_read = drafter_->has_read();
  warn_of_failed_draft();
  if (started.is_ok()) ++report_.alternated_steps;
  if (pass.is_comparable && !next.has_read) groups_.record({next.draft_ms, slot_ms, pass.tokens, 2});
  if (now.length.has_given_up() && next.length.has_given_up()) groups_.stop_alternating();
}

// Who is in the group's next step, with what, and what is to be drafted for it.
void BatchRun::prepare(Group& group) {
  admit(group);
  share_out(group);
  ask_for_drafts(group);
}

// Fills the places that are free with what waits. A request that cannot begin has its result at once.
void BatchRun::admit(const Group& group) {
  for (size_t i = group.begin; i < group.end; ++i) {
    BatchSequence& place = places_[i];
    stop_if_cancelled(place);
    while (place.is_free() && next_request_ < requests_.size()) {
      const size_t index = next_request_++;
      const auto make_draft = [this, i](const GenerateOptions& options) { return source_for(i, options); };
      if (const Status status = place.start(index, requests_[index], make_draft); !status.is_ok()) {
        settle(index, status);
        continue;
      }
      report_.prompt_tokens += requests_[index].prompt.size();
      stop_if_cancelled(place);
    }
  }
}

// One model drafts for all texts that ask for one: a second one would read its weights for fewer of them.
Result<std::unique_ptr<DraftSource>> BatchRun::source_for(size_t place, const GenerateOptions& options) {
  const std::string& path = options.draft.path;
  if (drafter_ == nullptr) {
    const uint32_t context_tokens = options_.context_tokens == 0 ? engine_.plan.context_tokens : options_.context_tokens;
    OTR_ASSIGN(drafter_, BatchDrafter::open(engine_, path, context_tokens, shares_.size(), options_.cancel));
  }
  if (drafter_->path() != path) {
    return Status(StatusCode::kUnsupported,
                  formatted("draft: got {}, need the batch's first draft model, {}, for all of its texts", path, drafter_->path()));
  }
  return drafter_->begin(place, options.sampling);
}

void BatchRun::share_out(Group& group) {
  const std::span<BatchShare> shares = std::span(shares_).subspan(group.begin, group.end - group.begin);
  group.is_ready = false;
  for (size_t i = group.begin; i < group.end; ++i) {
    shares_[i] = places_[i].need();
    group.is_ready |= shares_[i].pending > 0;
  }
  const Plan& plan = engine_.plan;  // another one after a replan
  group.turn = share_step(shares, group.turn, {plan.step_tokens, std::min(plan.logit_rows, plan.step_tokens)});
  bool is_paying = false;
  for (size_t i = group.begin; i < group.end; ++i) is_paying |= shares_[i].drafted > 0 && places_[i].drafts_as_it_pays();
  const uint32_t paying = is_paying ? group.length.next() : 0;
  for (size_t i = group.begin; i < group.end; ++i) {
    if (places_[i].drafts_as_it_pays()) shares_[i].drafted = std::min(shares_[i].drafted, paying);
  }
}

void BatchRun::ask_for_drafts(const Group& group) {
  if (drafter_ == nullptr) return;
  for (size_t i = group.begin; i < group.end; ++i) {
    if (const uint32_t most = places_[i].wanted_of_model(shares_[i]); most > 0) drafter_->ask(i, places_[i].tokens(), most);
  }
}

void BatchRun::draft_for(Group& group) {
  group.draft_ms = 0;
  group.has_read = false;
  if (drafter_ == nullptr || drafter_->has_failed()) return;
  const Clock::time_point start = Clock::now();
  draft_status_ = drafter_->run(options_.cancel);
  group.draft_ms = ms_between(start, Clock::now());
  group.has_read = drafter_->has_read();
  warn_of_failed_draft();
}

// While the step reads prompts a draft on the device reads them too, as far as it comes. On the host the two would share its cores.
bool BatchRun::read_beside() {
  if (drafter_ == nullptr || drafter_->has_failed() || !drafter_->is_on_device() || all_.length.has_given_up()) return false;
  bool is_any = false;
  for (size_t i = all_.begin; i < all_.end; ++i) {
    if (!places_[i].reads_for_model()) continue;
    drafter_->expect(i, places_[i].tokens());
    is_any = true;
  }
  if (!is_any) return false;
  is_read_enough_ = false;
  return thread_.start([this] { draft_status_ = drafter_->read([this] { return is_read_enough_.load(); }, options_.cancel); }).is_ok();
}

void BatchRun::warn_of_failed_draft() {
  if (draft_status_.is_ok() || !drafter_->has_failed()) return;  // a cancelled one is noticed by the step
  log_message(LogLevel::kWarning, formatted("the draft ({}) failed and is given up, generation goes on without it: {}", drafter_->path(),
                                            std::exchange(draft_status_, {}).to_string()));
}

BatchRun::Pass BatchRun::run_step(Group& group) {
  step_.clear();
  joined_.clear();
  bool is_reading = false;
  for (size_t i = group.begin; i < group.end; ++i) {
    if (shares_[i].tokens == 0) continue;
    places_[i].join(shares_[i], step_);
    joined_.push_back(&places_[i]);
    is_reading |= shares_[i].is_reading;
  }
  group.is_ready = false;
  const auto tokens = static_cast<uint32_t>(step_.tokens());
  if (follower_) step_.set_branch_share(is_reading ? follower_->settled_share() : follower_->next_share(tokens));
  const Clock::time_point start = Clock::now();
  const Status status = step_.run(options_.cancel, on_row_);
  Pass pass{ms_between(start, Clock::now()), 0, 0, status.is_ok() && !is_reading};
  if (pass.is_comparable && follower_) follower_->record(tokens, step_.step_ms());
  if (status.is_ok()) count_step(group, &pass);
  const double draft_ms = group.has_read ? 0 : group.draft_ms;
  for (BatchSequence* const place : joined_) {
    if (std::optional<Result<GenerateResult>> result = place->end_step(status, draft_ms, pass.ms)) end(*place, group, std::move(*result));
  }
  return pass;
}

void BatchRun::count_step(Group& group, Pass* pass) {
  ++report_.steps;
  report_.step_tokens += step_.tokens();
  report_.most_at_once = std::max(report_.most_at_once, static_cast<uint32_t>(step_.sessions()));
  for (const BatchSequence* const place : joined_) {
    if (place->is_reading()) continue;
    pass->drafted += place->drafted();
    pass->tokens += 1 + place->accepted();
    if (place->drafts_as_it_pays()) group.length.add(place->drafted(), place->accepted());
  }
  group.length.end_step(group.draft_ms, pass->ms, pass->is_comparable && !group.has_read);
}

void BatchRun::stop_if_cancelled(BatchSequence& place) {
  if (!place.is_free() && place.is_cancelled()) end(place, all_, place.stop(StopReason::kCancelled));
}

// The place is free now, and knows its request still.
void BatchRun::end(const BatchSequence& place, const Group& group, Result<GenerateResult> result) {
  if (result.is_ok() && place.drafts_as_it_pays()) group.length.tell_given_up(&result.value().speculation);
  settle(place.index(), std::move(result));
}

void BatchRun::settle(size_t index, Result<GenerateResult> result) {
  if (result.is_ok()) report_.generated_tokens += result.value().tokens.size();
  results_[index] = std::move(result);
  if (options_.on_result) options_.on_result(index, *results_[index]);
}

// After cancelling; otherwise there is nothing to stop.
void BatchRun::stop_all() {
  for (BatchSequence& place : places_) {
    if (!place.is_free()) end(place, all_, place.stop(StopReason::kCancelled));
  }
  for (; next_request_ < requests_.size(); ++next_request_) {
    GenerateResult none;
    none.stop_reason = StopReason::kCancelled;
    settle(next_request_, std::move(none));
  }
}

}  // namespace outrigger
