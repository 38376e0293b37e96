// TaskGraph: one step as data: nodes with a lane, operands and dependencies. Built once per plan, run many times.
#ifndef OUTRIGGER_SRC_GRAPH_TASK_GRAPH_H_
#define OUTRIGGER_SRC_GRAPH_TASK_GRAPH_H_

#include <outrigger/status.h>

#include <cstdint>
#include <span>
#include <vector>

#include "src/graph/operand.h"

namespace outrigger {

/// A resource that works in parallel with the others. Nodes of one lane run one after the other, in the order they were added.
enum class Lane : uint8_t {
  kHost = 0,
  kDisk = 1,
  kToDevice = 2,  ///< copies over the link
  kDevice = 3,
  kToHost = 4,    ///< copies back
};
inline constexpr size_t kLanes = 5;
const char* lane_name(Lane lane);

using NodeId = uint32_t;

/// A coarse piece of work: a window's product, an attention, a chunk read. What `op` and `argument` mean is the runner's business; the
/// graph knows only what must happen before what.
struct TaskNode {
  Lane lane = Lane::kHost;
  uint16_t op = 0;
  uint32_t argument = 0;
  uint32_t first_operand = 0, operand_count = 0;        ///< in TaskGraph::operands()
  uint32_t first_dependency = 0, dependency_count = 0;  ///< in TaskGraph::dependencies()
};

/// Consecutive nodes of one lane that need no other lane in between: only the first waits for another lane, only the last is waited for.
/// The host lane runs a segment as one parallel region.
struct TaskSegment {
  Lane lane = Lane::kHost;
  uint32_t first = 0, count = 0;                        ///< in TaskGraph::lane_nodes(lane)
};

/// Immutable once finished. Threads: any number may read it.
class TaskGraph {
 public:
  /// Appends a node. Dependencies on earlier nodes of the same lane are implied and may be left out.
  /// Precondition: every dependency is the id of an earlier node, so that a cycle cannot be written down.
  NodeId add(Lane lane, uint16_t op, uint32_t argument, std::span<const OperandRef> operands = {},
             std::span<const NodeId> dependencies = {});
  /// Cuts the lanes into segments. Errors: kInternal for a dependency on a node that does not come earlier. No add() afterwards.
  Status finish();

  std::span<const TaskNode> nodes() const { return nodes_; }
  std::span<const NodeId> lane_nodes(Lane lane) const { return lanes_[static_cast<size_t>(lane)]; }
  std::span<const OperandRef> operands(const TaskNode& node) const {
    return std::span(operands_).subspan(node.first_operand, node.operand_count);
  }
  std::span<const NodeId> dependencies(const TaskNode& node) const {
    return std::span(dependencies_).subspan(node.first_dependency, node.dependency_count);
  }
  /// In an order in which running them one by one is correct.
  std::span<const TaskSegment> segments() const { return segments_; }
  /// Segments of other lanes, or of the same one just before, that must be complete before `segment` starts.
  std::span<const uint32_t> segment_dependencies(uint32_t segment) const;
  std::span<const uint32_t> segment_successors(uint32_t segment) const;

 private:
  std::vector<TaskNode> nodes_;
  std::vector<OperandRef> operands_;
  std::vector<NodeId> dependencies_;
  std::vector<NodeId> lanes_[kLanes];
  std::vector<TaskSegment> segments_;
  std::vector<uint32_t> before_, before_begin_, after_, after_begin_;  ///< segment edges, as compressed rows
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_GRAPH_TASK_GRAPH_H_
