// TaskGraph: collects nodes, then cuts each lane into segments where another lane has to wait or is waited for.
#include "src/graph/task_graph.h"

#include <algorithm>
#include <array>
#include <utility>

#include "src/base/formatted.h"

namespace outrigger {
namespace {

constexpr uint32_t kNone = UINT32_MAX;

struct Edge {
  NodeId before, after;
};

}  // namespace

const char* lane_name(Lane lane) {
  constexpr const char* kNames[kLanes] = {"host", "disk", "h2d", "device", "d2h"};
  return kNames[static_cast<size_t>(lane)];
}

NodeId TaskGraph::add(Lane lane, uint16_t op, uint32_t argument, std::span<const OperandRef> operands,
                      std::span<const NodeId> dependencies) {
  const auto id = static_cast<NodeId>(nodes_.size());
  nodes_.push_back({lane, op, argument, static_cast<uint32_t>(operands_.size()), static_cast<uint32_t>(operands.size()),
                    static_cast<uint32_t>(dependencies_.size()), static_cast<uint32_t>(dependencies.size())});
  operands_.insert(operands_.end(), operands.begin(), operands.end());
  dependencies_.insert(dependencies_.end(), dependencies.begin(), dependencies.end());
  lanes_[static_cast<size_t>(lane)].push_back(id);
  return id;
}

Status TaskGraph::finish() {
  for (NodeId id = 0; id < nodes_.size(); ++id) {
    for (const NodeId dependency : dependencies(nodes_[id])) {
      if (dependency < id) continue;
      return Status(StatusCode::kInternal, formatted("node {} depends on node {}, which does not come earlier", id, dependency));
    }
  }

  // What another lane has to be waited for. Once a lane has waited for a node of another, all before that node are complete as well, so
  // only a later one is news: the rest would cut segments for nothing.
  std::vector<Edge> edges;
  std::vector<bool> begins(nodes_.size()), ends(nodes_.size());
  std::array<std::array<uint64_t, kLanes>, kLanes> known{};  // [lane][other]: id of other's last node that lane has waited for, plus 1
  for (NodeId id = 0; id < nodes_.size(); ++id) {
    const auto lane = static_cast<size_t>(nodes_[id].lane);
    std::array<uint64_t, kLanes> wanted = known[lane];
    for (const NodeId dependency : dependencies(nodes_[id])) {
      uint64_t& last = wanted[static_cast<size_t>(nodes_[dependency].lane)];
      last = std::max<uint64_t>(last, dependency + uint64_t{1});
    }
    for (size_t other = 0; other < kLanes; ++other) {
      if (other == lane || wanted[other] == known[lane][other]) continue;
      const auto before = static_cast<NodeId>(wanted[other] - 1);
      edges.push_back({before, id});
      ends[before] = begins[id] = true;
      known[lane][other] = wanted[other];
    }
  }

  // A segment is entered at its first node and left at its last, so an edge always leads from a smaller to a greater node id: the order of
  // first nodes is one in which segments can run.
  std::vector<uint32_t> segment_of(nodes_.size());
  std::array<uint32_t, kLanes> open, position{};
  open.fill(kNone);
  std::vector<Edge> between;
  for (NodeId id = 0; id < nodes_.size(); ++id) {
    const auto lane = static_cast<size_t>(nodes_[id].lane);
    if (open[lane] == kNone || begins[id] || ends[lanes_[lane][position[lane] - 1]]) {
      const auto segment = static_cast<uint32_t>(segments_.size());
      if (open[lane] != kNone) between.push_back({open[lane], segment});
      segments_.push_back({nodes_[id].lane, position[lane], 0});
      open[lane] = segment;
    }
    segment_of[id] = open[lane];
    ++segments_[open[lane]].count;
    ++position[lane];
  }
  for (const Edge& edge : edges) between.push_back({segment_of[edge.before], segment_of[edge.after]});

  const auto compress = [&](std::vector<uint32_t>& values, std::vector<uint32_t>& begin, NodeId Edge::*row, NodeId Edge::*value) {
    begin.assign(segments_.size() + 1, 0);
    for (const Edge& edge : between) ++begin[edge.*row + 1];
    for (size_t i = 1; i < begin.size(); ++i) begin[i] += begin[i - 1];
    values.resize(between.size());
    std::vector<uint32_t> next(begin.begin(), begin.end() - 1);
    for (const Edge& edge : between) values[next[edge.*row]++] = edge.*value;
  };
  compress(before_, before_begin_, &Edge::after, &Edge::before);
  compress(after_, after_begin_, &Edge::before, &Edge::after);
  return {};
}

std::span<const uint32_t> TaskGraph::segment_dependencies(uint32_t segment) const {
  return std::span(before_).subspan(before_begin_[segment], before_begin_[segment + 1] - before_begin_[segment]);
}

std::span<const uint32_t> TaskGraph::segment_successors(uint32_t segment) const {
  return std::span(after_).subspan(after_begin_[segment], after_begin_[segment + 1] - after_begin_[segment]);
}

}  // namespace outrigger
