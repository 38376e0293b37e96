// ExpertCache: who makes room for whom.
#include "src/memory/expert_cache.h"

#include <random>
#include <set>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

constexpr uint32_t kNone = ExpertCache::kNone;

uint32_t bring(ExpertCache& cache, uint32_t layer, uint32_t expert) {
  const uint32_t slot = cache.claim(layer, expert);
  if (slot != kNone) cache.loaded(slot);
  return slot;
}

// What a layer does with the experts a step uses; returns how many were there.
uint32_t use(ExpertCache& cache, uint32_t layer, const std::set<uint32_t>& experts) {
  cache.begin_layer(layer);
  uint32_t hits = 0;
  for (const uint32_t expert : experts) {
    cache.note_use(layer, expert);
    if (cache.slot_of(layer, expert) != kNone) {
      ++hits;
    } else {
      REQUIRE(bring(cache, layer, expert) != kNone);
    }
  }
  return hits;
}

TEST_CASE("ExpertCache: an expert is in its slot until another takes it, and no slot has two") {
  std::mt19937 random(1);
  ExpertCache cache({3, 8, 2, 7});
  for (int i = 0; i < 2000; ++i) {
    const uint32_t layer = random() % 3, expert = random() % 8;
    cache.begin_layer(layer);
    cache.note_use(layer, expert);
    if (cache.slot_of(layer, expert) == kNone) {
      const uint32_t slot = bring(cache, layer, expert);
      REQUIRE(slot < 7);
      REQUIRE(cache.slot_of(layer, expert) == slot);
    }
    std::set<uint32_t> taken;
    uint32_t present = 0;
    for (uint32_t l = 0; l < 3; ++l) {
      for (uint32_t e = 0; e < 8; ++e) {
        if (cache.slot_of(l, e) == kNone) continue;
        ++present;
        taken.insert(cache.slot_of(l, e));
      }
    }
    REQUIRE(taken.size() == present);
    REQUIRE(present == std::min(present, 7u));
  }
}

TEST_CASE("ExpertCache: what is pinned or loading is not given up, and without anything else there is no slot") {
  ExpertCache cache({1, 4, 1, 2});
  cache.begin_layer(0);
  const uint32_t pinned = bring(cache, 0, 0), loading = cache.claim(0, 1);
  cache.pin(pinned);
  REQUIRE(cache.claim(0, 2) == kNone);
  cache.loaded(loading);
  REQUIRE(cache.claim(0, 2) == loading);
  REQUIRE(cache.slot_of(0, 1) == kNone);
  cache.unpin(pinned);
  cache.pin(loading);
  REQUIRE(cache.claim(0, 3) == pinned);
}

TEST_CASE("ExpertCache: a dropped slot is free, and after a step that failed so is everything that was loading or pinned") {
  ExpertCache cache({1, 4, 1, 2});
  cache.begin_layer(0);
  const uint32_t first = cache.claim(0, 0), second = bring(cache, 0, 1);
  cache.pin(second);
  cache.forget_step();
  REQUIRE(cache.slot_of(0, 0) == kNone);
  REQUIRE(cache.slot_of(0, 1) == second);
  REQUIRE(cache.claim(0, 2) == first);
  cache.drop(first);
  REQUIRE(cache.slot_of(0, 2) == kNone);
  cache.loaded(cache.claim(0, 2));
  REQUIRE(cache.claim(0, 3) != kNone);  // the pin is gone
}

TEST_CASE("ExpertCache: what is used often stays, what was used once goes") {
  ExpertCache cache({1, 16, 2, 4});
  for (uint32_t step = 0; step < 40; ++step) use(cache, 0, {0, 1, 2 + step % 14});
  REQUIRE(cache.slot_of(0, 0) != kNone);
  REQUIRE(cache.slot_of(0, 1) != kNone);
}

TEST_CASE(
    "ExpertCache: steps that use every expert keep as many of them as there are slots, where the least recently used would keep none") {
  constexpr uint32_t kLayers = 10, kExperts = 8, kSlots = 40;
  ExpertCache cache({kLayers, kExperts, 2, kSlots});
  std::set<uint32_t> all;
  for (uint32_t expert = 0; expert < kExperts; ++expert) all.insert(expert);
  uint32_t hits = 0;
  for (int step = 0; step < 20; ++step) {
    hits = 0;
    for (uint32_t layer = 0; layer < kLayers; ++layer) hits += use(cache, layer, all);
  }
  REQUIRE(hits >= kSlots * 3 / 4);
}

TEST_CASE("ExpertCache: with experts of uneven use it has more of what a step needs than the share of slots") {
  constexpr uint32_t kLayers = 6, kExperts = 32;
  std::mt19937 random(3);
  std::geometric_distribution<uint32_t> draw(0.1);
  ExpertCache cache({kLayers, kExperts, 2, kLayers * kExperts / 4});
  uint64_t hits = 0, uses = 0;
  for (int step = 0; step < 600; ++step) {
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      const std::set<uint32_t> experts{(draw(random) + layer * 5) % kExperts, (draw(random) + layer * 5) % kExperts};
      const uint32_t found = use(cache, layer, experts);
      if (step >= 100) hits += found, uses += experts.size();
    }
  }
  REQUIRE(static_cast<double>(hits) > 1.5 * 0.25 * static_cast<double>(uses));
}

}  // namespace
}  // namespace outrigger
