// ExpertPool: hits first, misses in waves, guesses when the disk has nothing better to do.
#include "src/memory/expert_pool.h"

#include <algorithm>
#include <array>
#include <utility>

#include "src/base/macros.h"

namespace outrigger {
namespace {

// Reads of a layer are shared out over so many waves at most, though slots would allow fewer: then computing the first overlaps reading the
// next, and more would only be more hand-overs between lanes, of about 10 us each.
constexpr uint32_t kOverlappingWaves = 4;
// A guess takes a slot from an expert that may be needed, so only a small part of the slots is open to them.
constexpr uint32_t kSlotsPerGuess = 8;
// With fewer right guesses, reading the wrong ones costs the disk more time than the right ones save it.
constexpr double kWorthwhileShare = 0.6;
constexpr uint64_t kTrialGuesses = 64;
// Of the latest guesses: a text that turns may make them worth while again.
constexpr uint64_t kRememberedGuesses = 2048;
constexpr uint32_t kMostGuesses = 64;

ExpertCacheOptions cache_options(const StepShape& shape, uint32_t slots) {
  const std::vector<ExpertStacks> stacks = expert_stacks(shape);
  ExpertCacheOptions options{static_cast<uint32_t>(stacks.size()), 0, shape.used_experts, slots};
  for (const ExpertStacks& of_layer : stacks) options.experts = std::max(options.experts, shape.matrices[of_layer.matrices.front()].experts);
  return options;
}

}  // namespace

std::vector<ExpertStacks> expert_stacks(const StepShape& shape) {
  std::vector<ExpertStacks> stacks;
  for (uint32_t i = 0; i < shape.matrices.size(); ++i) {
    if (shape.matrices[i].use != MatrixUse::kRouted) continue;
    if (stacks.empty() || stacks.back().layer != shape.matrices[i].layer) stacks.push_back({shape.matrices[i].layer, {}});
    stacks.back().matrices.push_back(i);
  }
  return stacks;
}

ExpertPool::ExpertPool(const StepShape& shape, const Plan& plan, std::byte* memory, WeightReader& reader, uint32_t first_job)
    : memory_(memory),
      slot_bytes_(plan.expert_slot_bytes),
      most_guesses_(std::min(plan.expert_slots / kSlotsPerGuess, kMostGuesses)),
      wave_experts_(std::max(1u, (plan.expert_slots - most_guesses_) / 2)),
      reader_(reader),
      first_job_(first_job),
      cache_(cache_options(shape, plan.expert_slots)) {
  for (const ExpertStacks& stacks : expert_stacks(shape)) {
    Layer layer{stacks.matrices, {}};
    uint64_t offset = 0;
    for (const uint32_t matrix : stacks.matrices) {
      layer.offsets.push_back(offset);
      offset += shape.matrices[matrix].expert_packed_bytes();
    }
    layers_.push_back(std::move(layer));
  }
  for (const MatrixShape& matrix : shape.matrices) {
    blocks_per_expert_.push_back(matrix.expert_packed_bytes() / matrix.row_block_bytes);
  }
  guesses_.reserve(most_guesses_);
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

void ExpertPool::route(uint32_t index, std::span<ExpertUse> uses, std::span<uint32_t> wave_ends) {
  const std::lock_guard lock(mutex_);
  uses_ = uses;
  wave_ends_ = wave_ends;
  settle_guesses(index);
  cache_.begin_layer(index);
  const auto is_there = [&](const ExpertUse& use) {
    const uint32_t slot = cache_.slot_of(index, use.expert);
    return slot != ExpertCache::kNone && cache_.is_loaded(slot);
  };
  const auto missing = std::partition(uses.begin(), uses.end(), is_there);
  const auto hits = static_cast<uint32_t>(missing - uses.begin()), all = static_cast<uint32_t>(uses.size());
  for (const ExpertUse& use : uses) cache_.note_use(index, use.expert);
  report_.uses += all;
  report_.hits += hits;

  wave_ends[0] = std::min(hits, wave_experts_);
  for (ExpertUse& use : wave_uses(0)) {
    use.slot = cache_.slot_of(index, use.expert);
    cache_.pin(use.slot);
  }
  const auto rest = static_cast<uint32_t>(wave_ends.size() - 1);
  for (uint32_t wave = 1; wave <= rest; ++wave) wave_ends[wave] = wave_ends[0] + static_cast<uint32_t>(uint64_t{all - wave_ends[0]} * wave / rest);
  routed_.store(index, std::memory_order_release);
}

Result<uint32_t> ExpertPool::bring(uint32_t index, uint32_t expert) {
  uint32_t slot = cache_.slot_of(index, expert);
  if (slot != ExpertCache::kNone) return slot;
  slot = cache_.claim(index, expert);
  if (slot != ExpertCache::kNone) OTR_TRY(begin_reading(index, expert, slot));
  return slot;
}

Status ExpertPool::begin_reading(uint32_t index, uint32_t expert, uint32_t slot) {
  const Layer& layer = layers_[index];
  for (size_t part = 0; part < layer.matrices.size(); ++part) {
    const uint32_t matrix = layer.matrices[part];
    const uint64_t blocks = blocks_per_expert_[matrix];
    OTR_TRY(reader_.add(first_job_ + slot, {matrix, expert * blocks, blocks, memory_ + slot * slot_bytes_ + layer.offsets[part]}));
  }
  ++report_.reads;
  return {};
}

Status ExpertPool::finish_reading(uint32_t slot) {
  OTR_TRY(reader_.finish(first_job_ + slot));
  const std::lock_guard lock(mutex_);
  cache_.loaded(slot);
  return {};
}

// The next wave's reads are begun as well, as far as there are slots, so that the disk has always something to do.
Status ExpertPool::fetch(uint32_t wave) {
  const uint32_t index = routed_.load(std::memory_order_acquire);
  std::span<ExpertUse> mine;
  {
    const std::lock_guard lock(mutex_);
    mine = wave_uses(wave);
    for (ExpertUse& use : mine) {
      OTR_ASSIGN(use.slot, bring(index, use.expert));
      if (use.slot == ExpertCache::kNone) return Status(StatusCode::kInternal, "a wave of experts does not fit its slots");
      cache_.pin(use.slot);
    }
    if (wave + 1 < wave_ends_.size()) {
      for (const ExpertUse& use : wave_uses(wave + 1)) {
        OTR_ASSIGN(const uint32_t slot, bring(index, use.expert));
        if (slot == ExpertCache::kNone) break;
      }
    }
  }
  for (const ExpertUse& use : mine) OTR_TRY(finish_reading(use.slot));
  return {};
}

void ExpertPool::release(uint32_t wave) {
  const std::lock_guard lock(mutex_);
  for (const ExpertUse& use : wave_uses(wave)) cache_.unpin(use.slot);
}

void ExpertPool::guess(uint32_t index, std::span<const uint32_t> experts, bool is_certain) {
  const std::lock_guard lock(mutex_);
  guessed_layer_ = index;
  is_certain_ = is_certain;
  guesses_.clear();
  for (const uint32_t expert : experts) {
    if (guesses_.size() < most_guesses_ && cache_.slot_of(index, expert) == ExpertCache::kNone) guesses_.push_back(expert);
  }
}

// How many of the guesses were right is known once the layer is routed.
void ExpertPool::settle_guesses(uint32_t index) {
  const bool counts = guessed_layer_ == index && !is_certain_;
  guessed_layer_ = UINT32_MAX;
  if (!counts) return;
  const auto right = static_cast<uint64_t>(std::count_if(guesses_.begin(), guesses_.end(), [this](uint32_t expert) { return is_wanted(expert); }));
  report_.guesses += guesses_.size();
  report_.right_guesses += right;
  latest_guesses_ += guesses_.size();
  latest_right_ += right;
  if (latest_guesses_ > kRememberedGuesses) latest_guesses_ /= 2, latest_right_ /= 2;
}

Status ExpertPool::fetch_guesses(uint32_t index) {
  std::array<uint32_t, kMostGuesses> wanted;
  size_t count = 0;
  {
    const std::lock_guard lock(mutex_);
    const bool pays =
        is_certain_ || latest_guesses_ < kTrialGuesses || static_cast<double>(latest_right_) >= kWorthwhileShare * static_cast<double>(latest_guesses_);
    if (guessed_layer_ == index && pays) count = guesses_.size();
    std::copy_n(guesses_.begin(), count, wanted.begin());
  }
  for (size_t i = 0; i < count && !is_routed(index); ++i) OTR_TRY(fetch_guess(index, wanted[i]));
  return {};
}

// Once the layer is routed a read that is not wanted is taken back, and one that is is left to the layer's own fetch().
Status ExpertPool::fetch_guess(uint32_t index, uint32_t expert) {
  uint32_t slot = ExpertCache::kNone;
  {
    const std::lock_guard lock(mutex_);
    if (is_routed(index) || cache_.slot_of(index, expert) != ExpertCache::kNone) return {};
    OTR_ASSIGN(slot, bring(index, expert));
    if (slot == ExpertCache::kNone) return {};
  }
  while (!reader_.is_done(first_job_ + slot)) {
    if (!is_routed(index)) {
      OTR_TRY(reader_.advance());
      continue;
    }
    {
      const std::lock_guard lock(mutex_);
      if (is_wanted(expert)) return {};
    }
    OTR_TRY(reader_.abandon(first_job_ + slot));
    const std::lock_guard lock(mutex_);
    cache_.drop(slot);
    return {};
  }
  return finish_reading(slot);
}

void ExpertPool::invalidate() noexcept {
  const std::lock_guard lock(mutex_);
  cache_.forget_step();
  uses_ = {};
  wave_ends_ = {};
  guesses_.clear();
  guessed_layer_ = UINT32_MAX;
  routed_.store(UINT32_MAX, std::memory_order_release);
}

ExpertReport ExpertPool::report() const {
  const std::lock_guard lock(mutex_);
  return report_;
}

}  // namespace outrigger
