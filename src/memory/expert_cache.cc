// ExpertCache: means of use, and the search for the slot that is missed least.
#include "src/memory/expert_cache.h"

#include <algorithm>

namespace outrigger {
namespace {

// Over about so many steps: one forgets a turn of the text, the other remembers what the whole text is about.
constexpr float kRecently = 1.0f / 4, kFrequently = 1.0f / 64;

}  // namespace

ExpertCache::ExpertCache(const ExpertCacheOptions& options)
    : options_(options),
      slots_(options.slots),
      slot_of_(size_t{options.layers} * options.experts, kNone),
      uses_(size_t{options.layers} * options.experts) {
  // Before anything is known every expert is as likely as another.
  const float prior = static_cast<float>(options.used) / static_cast<float>(std::max(options.experts, 1u));
  std::fill(uses_.begin(), uses_.end(), Use{prior, prior});
}

void ExpertCache::begin_layer(uint32_t layer) {
  layer_ = layer;
  for (uint32_t expert = 0; expert < options_.experts; ++expert) {
    Use& use = uses_[id(layer, expert)];
    use.recent *= 1 - kRecently;
    use.frequent *= 1 - kFrequently;
  }
}

void ExpertCache::note_use(uint32_t layer, uint32_t expert) {
  Use& use = uses_[id(layer, expert)];
  use.recent += kRecently;
  use.frequent += kFrequently;
}

double ExpertCache::expected_wait(uint32_t layer, uint32_t expert) const {
  const Use& use = uses_[id(layer, expert)];
  const double probability = std::clamp((use.recent + use.frequent) / 2.0, 1e-6, 1.0);
  const double layers = options_.layers, distance = (layer + options_.layers - layer_ - 1) % options_.layers + 1;
  return distance + layers * (1 / probability - 1);
}

uint32_t ExpertCache::claim(uint32_t layer, uint32_t expert) {
  uint32_t best = kNone;
  double longest = -1;
  for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
    const Slot& candidate = slots_[slot];
    if (candidate.state == State::kFree) {
      best = slot;
      break;
    }
    if (candidate.state == State::kLoading || candidate.pins > 0) continue;
    const double wait = expected_wait(candidate.owner / options_.experts, candidate.owner % options_.experts);
    if (wait > longest) longest = wait, best = slot;
  }
  if (best == kNone) return kNone;
  if (slots_[best].owner != kNone) slot_of_[slots_[best].owner] = kNone;
  slots_[best] = {State::kLoading, 0, id(layer, expert)};
  slot_of_[id(layer, expert)] = best;
  return best;
}

void ExpertCache::drop(uint32_t slot) {
  slot_of_[slots_[slot].owner] = kNone;
  slots_[slot] = Slot();
}

void ExpertCache::forget_step() {
  for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
    slots_[slot].pins = 0;
    if (slots_[slot].state == State::kLoading) drop(slot);
  }
}

}  // namespace outrigger
