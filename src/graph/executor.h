// GraphExecutor: runs a task graph: the host lane on the calling thread, the other lanes as oneTBB tasks beside it.
#ifndef OUTRIGGER_SRC_GRAPH_EXECUTOR_H_
#define OUTRIGGER_SRC_GRAPH_EXECUTOR_H_

#include <outrigger/cancel.h>
#include <outrigger/status.h>

#include <memory>
#include <span>

#include "src/graph/task_graph.h"

namespace outrigger {

/// Does what nodes say. Implemented by the model.
class NodeRunner {
 public:
  virtual ~NodeRunner() = default;
  /// Runs `nodes`, one segment of `lane`, in order. Called from one thread at a time per lane, from several lanes at once: the host lane
  /// always on the thread that called run(), the others mostly on a worker of TBB, and on that thread too when no worker came. Must not
  /// throw.
  virtual Status run_segment(const TaskGraph& graph, Lane lane, std::span<const NodeId> nodes) = 0;
  /// The run has failed or was cancelled: what segments that still run wait for from each other, beside the graph, will not come. Called
  /// once by whoever noticed, while others may be in run_segment().
  virtual void give_up() noexcept {}
};

/// One step at a time; reusable for any number of graphs. Threads: run() from one thread at a time.
class GraphExecutor {
 public:
  /// Starts nothing: oneTBB is first touched by a graph that has another lane than the host's. Errors: kOutOfMemory.
  static Result<std::unique_ptr<GraphExecutor>> create();
  ~GraphExecutor();

  /// Prepares for a graph of this size, so that no run of it allocates. Errors: kOutOfMemory.
  Status reserve(const TaskGraph& graph);
  /// Runs every segment once its dependencies are complete and returns when all are done. The first failure wins: segments not yet
  /// started are then skipped, running ones are waited for, and its Status is returned. A cancelled token counts as such a failure.
  /// The host never waits idly for a segment that no worker has begun, so a caller whose own tasks fill all of oneTBB's workers is slower,
  /// but never stuck.
  /// Cost: a graph of one lane costs two loads a segment; another lane's segment about 2-10 us to start, nothing when it follows one of its
  /// lane at once. Own code allocates nothing after the first run of the largest graph.
  /// Errors: what run_segment returned; kCancelled; kOutOfMemory, or kInternal for anything else that run_segment threw against the rule,
  /// and for a graph that was not finished. The executor is as good as new after each.
  Status run(const TaskGraph& graph, NodeRunner& runner, const CancelToken& cancel);

 private:
  struct State;
  struct Arena;
  GraphExecutor(std::shared_ptr<State> state, std::unique_ptr<Arena> arena);
  std::shared_ptr<State> state_;
  std::unique_ptr<Arena> arena_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_GRAPH_EXECUTOR_H_
