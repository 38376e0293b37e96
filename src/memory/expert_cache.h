// ExpertCache: which experts are kept in a number of slots, and which one makes room: the one whose next use is expected last.
#ifndef OUTRIGGER_SRC_MEMORY_EXPERT_CACHE_H_
#define OUTRIGGER_SRC_MEMORY_EXPERT_CACHE_H_

#include <cstdint>
#include <vector>

namespace outrigger {

struct ExpertCacheOptions {
  uint32_t layers = 0, experts = 0;  ///< of each layer
  uint32_t used = 0;                 ///< by one token
  uint32_t slots = 0;
};

/// Decides; holds no memory and reads nothing. An expert is in a slot from claim() on, and in memory from loaded() on.
///
/// The expected wait for an expert's next use is the way to its layer plus, for each time that it is then passed over, a whole step: with p
/// the probability that a step uses it, distance + layers * (1/p - 1) layers. p is a mean of how often steps used it, over about 4 and
/// about 64 of them: recency and frequency. A long prompt uses every expert of a layer, p is 1, and the one just used is the one that is
/// given up, where the least recently used would be the one needed next.
/// Threads: one at a time. Allocates in the constructor only.
class ExpertCache {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  explicit ExpertCache(const ExpertCacheOptions& options);

  /// The expert's slot, or kNone.
  uint32_t slot_of(uint32_t layer, uint32_t expert) const { return slot_of_[id(layer, expert)]; }

  /// A step has been routed: of this layer it uses `uses` (once each).
  void begin_layer(uint32_t layer);
  void note_use(uint32_t layer, uint32_t expert);

  /// A slot for an expert that has none, from a free one or one whose expert is given up; kNone if all are pinned or loading.
  /// The slot is loading then.
  uint32_t claim(uint32_t layer, uint32_t expert);
  void loaded(uint32_t slot) { slots_[slot].state = State::kLoaded; }
  /// A loading slot becomes free.
  void drop(uint32_t slot);
  /// A pinned expert stays. Counted.
  void pin(uint32_t slot) { ++slots_[slot].pins; }
  void unpin(uint32_t slot) { --slots_[slot].pins; }
  /// After a step that did not complete: pins are gone, and what was loading is no longer there.
  void forget_step();

  /// How many layers of computing until the expert is expected to be used again, seen from the layer of begin_layer().
  double expected_wait(uint32_t layer, uint32_t expert) const;

 private:
  enum class State : uint8_t { kFree, kLoading, kLoaded };
  struct Slot {
    State state = State::kFree;
    uint32_t pins = 0;
    uint32_t owner = kNone;
  };
  struct Use {
    float recent = 0, frequent = 0;
  };

  uint32_t id(uint32_t layer, uint32_t expert) const { return layer * options_.experts + expert; }

  const ExpertCacheOptions options_;
  uint32_t layer_ = 0;               ///< being computed
  std::vector<Slot> slots_;
  std::vector<uint32_t> slot_of_;    ///< per expert
  std::vector<Use> uses_;            ///< per expert
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MEMORY_EXPERT_CACHE_H_
