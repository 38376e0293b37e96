// DraftTrack: the steps of the models that draft for another one, for the trace of that one.
#ifndef OUTRIGGER_SRC_GRAPH_DRAFT_TRACK_H_
#define OUTRIGGER_SRC_GRAPH_DRAFT_TRACK_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "src/graph/trace_ring.h"

namespace outrigger {

/// One step of a draft model. Times are of the steady clock, as those of a Tracer.
struct DraftStep {
  int64_t begin_ns = 0, end_ns = 0;
  uint32_t tokens = 0, texts = 0;
};

/// Keeps the latest of them. A draft has an engine of its own, whose steps lie between those that a Tracer knows, or beside them: so they
/// belong to none of these.
/// Threads: any, at any time.
class DraftTrack {
 public:
  /// Room for so many, 1 at least. May throw std::bad_alloc.
  explicit DraftTrack(size_t steps) { ring_.entries.resize(steps); }

  /// Allocates nothing.
  void record(const DraftStep& step) {
    const std::lock_guard lock(mutex_);
    ring_.push(step);
  }
  /// Oldest first.
  std::vector<DraftStep> kept() const {
    const std::lock_guard lock(mutex_);
    return ring_.kept();
  }
  /// Steps that made room for later ones.
  uint64_t dropped() const {
    const std::lock_guard lock(mutex_);
    return ring_.dropped;
  }

 private:
  mutable std::mutex mutex_;
  TraceRing<DraftStep> ring_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_GRAPH_DRAFT_TRACK_H_
