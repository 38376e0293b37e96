// Tracer: what each lane did and when, kept for the last steps and written as a Chrome trace.
#ifndef OUTRIGGER_SRC_GRAPH_TRACER_H_
#define OUTRIGGER_SRC_GRAPH_TRACER_H_

#include <outrigger/status.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/graph/draft_track.h"
#include "src/graph/task_graph.h"
#include "src/graph/trace_ring.h"

namespace outrigger {

inline constexpr uint64_t kTracePageBytes = 4096;

/// One node that ran. Times are of the steady clock.
struct TraceEvent {
  int64_t begin_ns = 0, end_ns = 0;
  uint64_t step = 0;  ///< counted from 0 since the tracer was made
  NodeId node = 0;
  uint32_t pages = 0;  ///< of 4096 bytes that it moved, where that changes from step to step; 0: what its label says
};

/// One step: its graph is what its nodes' numbers mean.
struct TraceStep {
  int64_t begin_ns = 0, end_ns = 0;
  const TaskGraph* graph = nullptr;
  uint32_t tokens = 0, logit_rows = 0;
  bool is_complete = false;
};

/// What a person calls a node on the track of a lane, which need not be its own. Asked for when the trace is written, never during a step.
struct NodeLabel {
  std::string name;
  uint64_t bytes = 0;   ///< that it reads; 0: not told
  int64_t layer = -1;   ///< -1: none
};
using NodeNamer = std::function<NodeLabel(const TaskGraph& graph, NodeId node, Lane lane)>;

/// Which lane works while a node is on the track of that one; none: it only waits for another, which has a track of its own.
using LaneTeller = std::optional<Lane> (*)(const TaskGraph& graph, NodeId node, Lane lane);

/// The steps whose every event is still kept, and how long each lane was busy in them.
struct TraceTotals {
  uint64_t steps = 0;
  int64_t wall_ns = 0;  ///< of the steps; what lies between them does not count
  std::array<int64_t, kLanes> busy_ns{};
};

/// Keeps the latest events of each lane in a ring that is allocated once. Recording costs a look at the clock and 32 bytes written, 30 to
/// 60 ns; a step of 30 layers has some 300 nodes.
/// Threads: record() from one thread at a time for each lane, from several lanes at once; everything else while no step runs, as
/// GraphExecutor::run begins and returns.
class Tracer {
 public:
  /// Room for `events` of each of the first `lanes` lanes and as many steps: 32 bytes an event and lane, 40 a step. Nothing may be recorded
  /// of other lanes. Errors: kInvalidArgument for 0, kOutOfMemory.
  static Result<std::unique_ptr<Tracer>> create(uint64_t events, size_t lanes = kLanes);

  static int64_t now_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }

  /// Everything recorded until end_step() belongs to this step. `graph` must live as long as the tracer. Allocates nothing.
  void begin_step(const TaskGraph& graph, uint32_t tokens, uint32_t logit_rows);
  void end_step(bool is_complete);
  /// Precondition: between begin_step() and end_step(); not before the end of the lane's last event. Allocates nothing.
  void record(Lane lane, NodeId node, int64_t begin_ns, int64_t end_ns, uint32_t pages = 0) {
    lanes_[static_cast<size_t>(lane)].push({begin_ns, end_ns, step_number_, node, pages});
  }

  /// What is kept, oldest first.
  std::vector<TraceEvent> events(Lane lane) const { return lanes_[static_cast<size_t>(lane)].kept(); }
  std::vector<TraceStep> steps() const { return steps_.kept(); }
  uint64_t first_kept_step() const { return steps_.dropped; }
  /// Events that made room for later ones.
  uint64_t dropped(Lane lane) const { return lanes_[static_cast<size_t>(lane)].dropped; }

  /// Over the latest `most_steps` of the steps that are kept whole. A node's time is that of the lane that `works_of` says; null: of its
  /// track. Allocates nothing.
  TraceTotals totals(uint64_t most_steps, LaneTeller works_of = nullptr) const;
  /// The trace as JSON that ui.perfetto.dev and chrome://tracing open: a track for the steps, one for each lane that did anything, and one
  /// for `drafts` if there were any. That may be null.
  std::string to_json(const NodeNamer& name_of, const DraftTrack* drafts = nullptr) const;

 private:
  Tracer() = default;
  std::array<TraceRing<TraceEvent>, kLanes> lanes_;
  TraceRing<TraceStep> steps_;
  TraceStep* step_ = nullptr;
  uint64_t step_number_ = 0;
  int64_t origin_ns_ = 0;
};

/// Records nodes that a lane runs one after the other: each ends when the next begins, the last when this goes out of scope.
/// With a null tracer it costs a branch a node.
class NodeTrace {
 public:
  NodeTrace(Tracer* tracer, Lane lane) : tracer_(tracer), lane_(lane) {}
  ~NodeTrace() {
    if (tracer_ != nullptr && is_running_) tracer_->record(lane_, node_, begin_ns_, Tracer::now_ns(), pages_);
  }
  NodeTrace(const NodeTrace&) = delete;
  NodeTrace& operator=(const NodeTrace&) = delete;

  void next(NodeId node) {
    if (tracer_ == nullptr) return;
    const int64_t now = Tracer::now_ns();
    if (is_running_) tracer_->record(lane_, node_, begin_ns_, now, pages_);
    is_running_ = true;
    pages_ = 0;
    node_ = node;
    begin_ns_ = now;
  }

  /// By the node that runs; whole pages.
  void moved(uint64_t bytes) { pages_ = static_cast<uint32_t>(bytes / kTracePageBytes); }

 private:
  Tracer* const tracer_;
  const Lane lane_;
  bool is_running_ = false;
  NodeId node_ = 0;
  uint32_t pages_ = 0;
  int64_t begin_ns_ = 0;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_GRAPH_TRACER_H_
