// ExpertPool: hits first, misses in waves, guesses when the disk has nothing better to do.
#include "src/memory/expert_pool.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "src/base/macros.h"

namespace outrigger {
namespace {

// Reads of a layer are shared out over so many waves, though room would allow fewer: then computing the first overlaps reading the next,
// and more would only be more of the team's regions.
constexpr uint32_t kOverlappingWaves = 4;
// With fewer right guesses, reading the wrong ones costs the disk more time than the right ones save it.
constexpr double kWorthwhileShare = 0.6;
constexpr uint64_t kTrialGuesses = 64;
// Of the latest guesses: a text that turns may make them worth while again.
constexpr uint64_t kRememberedGuesses = 2048;

ExpertCacheOptions cache_options(const StepShape& shape, const std::vector<ExpertLayer>& layers, uint32_t slots) {
  ExpertCacheOptions options{static_cast<uint32_t>(layers.size()), 0, shape.used_experts, slots};
  for (const ExpertLayer& layer : layers) options.experts = std::max(options.experts, shape.matrices[layer.parts.front().matrix].experts);
  return options;
}

// The exponent that makes the share without a slot into the share that tokens missed. Half a miss is added, since none of so many is not
// never.
double repetition_of(const ExpertReport& report, double absent_share) {
  if (report.token_uses == 0 || absent_share <= 0 || absent_share >= 1) return 1;
  const double missed = static_cast<double>(report.token_uses - report.token_hits) + 0.5,
               exponent = std::log(missed / (static_cast<double>(report.token_uses) + 1)) / std::log(absent_share);
  return std::clamp(exponent, 1.0, kMostExpertRepetition);
}

}  // namespace

ExpertPool::ExpertPool(const Plan& plan, std::vector<ExpertLayer> layers, std::byte* slots, const ExpertCacheOptions& cache,
                       std::unique_ptr<ExpertArrivals> arrivals)
    : layers_(std::move(layers)),
      slots_(slots),
      slot_bytes_(plan.expert_slot_bytes),
      arrivals_(std::move(arrivals)),
      most_guesses_(arrivals_->places() / 2),
      wave_experts_(std::max(1u, arrivals_->places() / 2)),
      token_experts_(cache.used),
      absent_share_(1 - std::min(1.0, static_cast<double>(cache.slots) / (static_cast<double>(cache.layers) * cache.experts))),
      cache_(cache) {
  guesses_.reserve(cache.experts);
}

Result<std::unique_ptr<ExpertPool>> ExpertPool::create(std::shared_ptr<const ByteSource> source, const std::vector<WeightSource>& weights,
                                                       const StepShape& shape, const Plan& plan, std::byte* slots,
                                                       std::span<std::byte> arrivals) try {
  std::vector<ExpertLayer> layers = expert_layers(shape);
  const ExpertCacheOptions cache = cache_options(shape, layers, plan.expert_slots);
  OTR_ASSIGN(std::unique_ptr<ExpertArrivals> places,
             ExpertArrivals::create(std::move(source), weights, layers, arrivals, expert_arrivals(plan.expert_slots)));
  return std::unique_ptr<ExpertPool>(new ExpertPool(plan, std::move(layers), slots, cache, std::move(places)));
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

uint32_t ExpertPool::waves(uint32_t needed) const {
  const uint32_t enough = (needed + wave_experts_ - 1) / wave_experts_;
  return 1 + std::max(enough, std::min(needed, kOverlappingWaves));
}

std::span<ExpertUse> ExpertPool::wave_uses(uint32_t wave) const {
  const uint32_t begin = wave == 0 ? 0 : wave_ends_[wave - 1];
  return uses_.subspan(begin, wave_ends_[wave] - begin);
}

bool ExpertPool::is_wanted(uint32_t expert) const {
  return std::any_of(uses_.begin(), uses_.end(), [expert](const ExpertUse& use) { return use.expert == expert; });
}

// In memory, then on their way, then the others.
void ExpertPool::route(uint32_t index, std::span<ExpertUse> uses, std::span<uint32_t> wave_ends) {
  routed_ = index;
  uses_ = uses;
  wave_ends_ = wave_ends;
  settle_guesses(index);
  arrivals_->release_unless([&](uint32_t layer, uint32_t expert) { return layer == index && is_wanted(expert); });
  cache_.begin_layer(index);
  const auto missing = std::partition(uses.begin(), uses.end(),
                                      [&](const ExpertUse& use) { return cache_.slot_of(index, use.expert) != ExpertCache::kNone; });
  std::partition(missing, uses.end(), [&](const ExpertUse& use) { return arrivals_->find(index, use.expert) != ExpertArrivals::kNone; });
  for (const ExpertUse& use : uses) cache_.note_use(index, use.expert);

  const auto hits = static_cast<uint32_t>(missing - uses.begin()), rest = static_cast<uint32_t>(uses.end() - missing);
  count(&ExpertReport::uses, uses.size());
  count(&ExpertReport::hits, hits);
  if (uses.size() <= token_experts_) count_token(uses.size(), hits);
  wave_ends[0] = hits;
  const auto waves = static_cast<uint32_t>(wave_ends.size() - 1);
  for (uint32_t wave = 1; wave <= waves; ++wave) wave_ends[wave] = hits + static_cast<uint32_t>(uint64_t{rest} * wave / waves);
  for (ExpertUse& use : wave_uses(0)) {
    use.slot = cache_.slot_of(index, use.expert);
    use.arrival = ExpertArrivals::kNone;
    cache_.pin(use.slot);
  }
  next_request_ = hits;
  is_new_ = true;
}

Status ExpertPool::request() {
  OTR_TRY(arrivals_->poll());
  note_early_arrivals();
  for (; next_request_ < uses_.size(); ++next_request_) {
    const uint32_t expert = uses_[next_request_].expert;
    if (arrivals_->find(routed_, expert) != ExpertArrivals::kNone) continue;
    if (!arrivals_->has_room()) return {};
    OTR_TRY(arrivals_->request(routed_, expert).status());
    count(&ExpertReport::reads, 1);
  }
  return request_guesses();
}

// What had been guessed and came before its layer was routed was in memory, as if it had been there all the time.
void ExpertPool::note_early_arrivals() {
  if (!std::exchange(is_new_, false)) return;
  uint64_t early = 0;
  for (const ExpertUse& use : uses_.subspan(next_request_)) {
    const uint32_t place = arrivals_->find(routed_, use.expert);
    early += place != ExpertArrivals::kNone && arrivals_->has_arrived(place);
  }
  count(&ExpertReport::hits, early);
}

Status ExpertPool::arrive(uint32_t wave) {
  OTR_TRY(request());
  for (ExpertUse& use : wave_uses(wave)) {
    while ((use.arrival = arrivals_->find(routed_, use.expert)) == ExpertArrivals::kNone) {  // places are taken by what is no longer wanted
      OTR_TRY(arrivals_->wait());
      OTR_TRY(request());
    }
    while (!arrivals_->has_arrived(use.arrival)) OTR_TRY(arrivals_->wait());
    use.slot = cache_.claim(routed_, use.expert);
    if (use.slot == ExpertCache::kNone) return Status(StatusCode::kInternal, "a wave of experts does not fit its slots");
    cache_.pin(use.slot);
  }
  return {};
}

void ExpertPool::release(uint32_t wave) {
  for (const ExpertUse& use : wave_uses(wave)) {
    cache_.unpin(use.slot);
    if (use.arrival == ExpertArrivals::kNone) continue;
    cache_.loaded(use.slot);
    arrivals_->release(use.arrival);
  }
}

UnitTimes ExpertPool::times(uint32_t wave) const {
  UnitTimes times;
  for (const ExpertUse& use : wave_uses(wave)) {
    if (use.arrival == ExpertArrivals::kNone) continue;
    const UnitTimes& one = arrivals_->times(use.arrival);
    times.requested_ns = times.requested_ns == 0 ? one.requested_ns : std::min(times.requested_ns, one.requested_ns);
    times.arrived_ns = std::max(times.arrived_ns, one.arrived_ns);
  }
  return times;
}

void ExpertPool::guess(uint32_t index, std::span<const uint32_t> experts, bool is_certain) {
  guessed_layer_ = index;
  is_certain_ = is_certain;
  guesses_.clear();
  next_guess_ = 0;
  const size_t most = is_certain ? guesses_.capacity() : most_guesses_;
  for (const uint32_t expert : experts) {
    if (guesses_.size() < most && cache_.slot_of(index, expert) == ExpertCache::kNone) guesses_.push_back(expert);
  }
}

// How many of the guesses were right is known once the layer is routed.
void ExpertPool::settle_guesses(uint32_t index) {
  const bool counts = guessed_layer_ == index && !is_certain_;
  guessed_layer_ = UINT32_MAX;
  if (!counts) return;
  const auto right =
      static_cast<uint64_t>(std::count_if(guesses_.begin(), guesses_.end(), [this](uint32_t expert) { return is_wanted(expert); }));
  count(&ExpertReport::guesses, guesses_.size());
  count(&ExpertReport::right_guesses, right);
  latest_guesses_ += guesses_.size();
  latest_right_ += right;
  if (latest_guesses_ > kRememberedGuesses) latest_guesses_ /= 2, latest_right_ /= 2;
}

bool ExpertPool::guesses_pay() const {
  return is_certain_ || latest_guesses_ < kTrialGuesses ||
         static_cast<double>(latest_right_) >= kWorthwhileShare * static_cast<double>(latest_guesses_);
}

// A guess that comes to nothing has held a place, and no slot.
Status ExpertPool::request_guesses() {
  if (guessed_layer_ == UINT32_MAX || !guesses_pay()) return {};
  for (; next_guess_ < guesses_.size(); ++next_guess_) {
    if (!arrivals_->has_room()) return {};
    if (arrivals_->find(guessed_layer_, guesses_[next_guess_]) != ExpertArrivals::kNone) continue;
    OTR_TRY(arrivals_->request(guessed_layer_, guesses_[next_guess_]).status());
    count(&ExpertReport::reads, 1);
  }
  return {};
}

void ExpertPool::invalidate() noexcept {
  arrivals_->reset();
  cache_.forget_step();
  uses_ = {};
  wave_ends_ = {};
  next_request_ = next_guess_ = 0;
  guesses_.clear();
  guessed_layer_ = routed_ = UINT32_MAX;
}

void ExpertPool::count(uint64_t ExpertReport::*what, uint64_t more) {
  const std::lock_guard lock(report_mutex_);
  report_.*what += more;
}

void ExpertPool::count_token(uint64_t uses, uint64_t hits) {
  const std::lock_guard lock(report_mutex_);
  report_.token_uses += uses;
  report_.token_hits += hits;
}

ExpertReport ExpertPool::report() const {
  const std::lock_guard lock(report_mutex_);
  ExpertReport report = report_;
  report.repetition = repetition_of(report, absent_share_);
  return report;
}

}  // namespace outrigger
