// TaskGraph: how lanes are cut into segments, and that the segments keep every dependency of the nodes.
#include "src/graph/task_graph.h"

#include <algorithm>
#include <set>

#include "tests/graph/random_graph.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

std::vector<NodeId> nodes_of(const TaskGraph& graph, uint32_t segment) {
  const TaskSegment& s = graph.segments()[segment];
  const auto nodes = graph.lane_nodes(s.lane).subspan(s.first, s.count);
  return {nodes.begin(), nodes.end()};
}

std::vector<uint32_t> sorted(std::span<const uint32_t> values) {
  std::vector<uint32_t> copy(values.begin(), values.end());
  std::sort(copy.begin(), copy.end());
  return copy;
}

TEST_CASE("TaskGraph: a lane that nobody disturbs is one segment") {
  TaskGraph graph;
  for (uint32_t i = 0; i < 5; ++i) graph.add(Lane::kHost, 1, i);
  REQUIRE(graph.finish().is_ok());
  REQUIRE(graph.segments().size() == 1);
  REQUIRE(nodes_of(graph, 0) == std::vector<NodeId>{0, 1, 2, 3, 4});
  REQUIRE(graph.segment_dependencies(0).empty());
  REQUIRE(graph.segment_successors(0).empty());
}

TEST_CASE("TaskGraph: an empty graph has no segments") {
  TaskGraph graph;
  REQUIRE(graph.finish().is_ok());
  REQUIRE(graph.segments().empty());
}

TEST_CASE("TaskGraph: nodes keep what they were added with") {
  TaskGraph graph;
  const OperandRef operands[] = {{7, 1, 2}, {8, 0, 4}};
  const NodeId first = graph.add(Lane::kDisk, 3, 42);
  const NodeId second = graph.add(Lane::kHost, 4, 43, operands, std::vector<NodeId>{first});
  REQUIRE(graph.finish().is_ok());
  const TaskNode& node = graph.nodes()[second];
  REQUIRE(node.lane == Lane::kHost);
  REQUIRE(node.op == 4);
  REQUIRE(node.argument == 43);
  REQUIRE(graph.operands(node).size() == 2);
  REQUIRE(graph.operands(node)[1].matrix == 8);
  REQUIRE(graph.operands(node)[1].blocks == 4);
  REQUIRE(graph.dependencies(node).size() == 1);
  REQUIRE(graph.operands(graph.nodes()[first]).empty());
  REQUIRE(std::string(lane_name(Lane::kDisk)) == "disk");
  REQUIRE(std::string(lane_name(Lane::kHost)) == "host");
}

TEST_CASE("TaskGraph: a segment begins where a node waits for another lane and ends where one is waited for") {
  TaskGraph graph;
  const auto add = [&](Lane lane, std::vector<NodeId> dependencies) { return graph.add(lane, 0, 0, {}, dependencies); };
  add(Lane::kHost, {});         // 0
  add(Lane::kHost, {0});        // 1: waited for by 3
  add(Lane::kHost, {});         // 2
  add(Lane::kDisk, {1});        // 3: waited for by 5
  add(Lane::kHost, {2});        // 4
  add(Lane::kHost, {3});        // 5
  add(Lane::kDisk, {});         // 6: nobody waits
  add(Lane::kHost, {3, 4, 5});  // 7: waits for nothing that 5 has not waited for
  REQUIRE(graph.finish().is_ok());
  REQUIRE(graph.segments().size() == 5);
  REQUIRE(nodes_of(graph, 0) == std::vector<NodeId>{0, 1});
  REQUIRE(nodes_of(graph, 1) == std::vector<NodeId>{2, 4});
  REQUIRE(nodes_of(graph, 2) == std::vector<NodeId>{3});
  REQUIRE(nodes_of(graph, 3) == std::vector<NodeId>{5, 7});
  REQUIRE(nodes_of(graph, 4) == std::vector<NodeId>{6});
  REQUIRE(sorted(graph.segment_dependencies(1)) == std::vector<uint32_t>{0});
  REQUIRE(sorted(graph.segment_dependencies(2)) == std::vector<uint32_t>{0});
  REQUIRE(sorted(graph.segment_dependencies(3)) == std::vector<uint32_t>{1, 2});
  REQUIRE(sorted(graph.segment_dependencies(4)) == std::vector<uint32_t>{2});
  REQUIRE(sorted(graph.segment_successors(0)) == std::vector<uint32_t>{1, 2});
  REQUIRE(sorted(graph.segment_successors(2)) == std::vector<uint32_t>{3, 4});
}

TEST_CASE("TaskGraph: a dependency on a later node, on the node itself or on none at all is refused") {
  for (NodeId wrong : {NodeId{1}, NodeId{2}, NodeId{77}, UINT32_MAX}) {
    CAPTURE(wrong);
    TaskGraph graph;
    graph.add(Lane::kHost, 0, 0);
    graph.add(Lane::kDisk, 0, 0, {}, std::vector<NodeId>{0, wrong});
    graph.add(Lane::kHost, 0, 0);
    const Status status = graph.finish();
    REQUIRE(status.code() == StatusCode::kInternal);
    REQUIRE(status.message().find("node 1") != std::string::npos);
  }
}

// Every pair (a, b) where a must be complete before b begins, as the segments alone say it.
std::vector<std::set<NodeId>> order_by_segments(const TaskGraph& graph) {
  std::vector<std::set<NodeId>> before(graph.nodes().size());
  std::vector<std::set<NodeId>> through(graph.segments().size());  // nodes complete when a segment is
  for (uint32_t s = 0; s < graph.segments().size(); ++s) {
    std::set<NodeId> done;
    for (const uint32_t dependency : graph.segment_dependencies(s)) {
      REQUIRE(dependency < s);  // so the order of segments() is one in which they can run
      done.insert(through[dependency].begin(), through[dependency].end());
    }
    for (const NodeId node : nodes_of(graph, s)) {
      before[node] = done;
      done.insert(node);
    }
    through[s] = done;
  }
  return before;
}

TEST_CASE("TaskGraph: in random graphs segments keep all dependencies, cut nowhere else, and hold each node once") {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    CAPTURE(round);
    TaskGraph graph = random_graph(random, 1 + random() % 60, random() % 4, 1 + random() % 20);
    REQUIRE(graph.finish().is_ok());
    const std::vector<std::set<NodeId>> before = order_by_segments(graph);
    for (NodeId id = 0; id < graph.nodes().size(); ++id) {
      for (const NodeId dependency : graph.dependencies(graph.nodes()[id])) REQUIRE(before[id].count(dependency) == 1);
    }
    for (const Lane lane : kAllLanes) {
      std::vector<NodeId> all;
      for (uint32_t s = 0; s < graph.segments().size(); ++s) {
        if (graph.segments()[s].lane != lane) continue;
        const std::vector<NodeId> nodes = nodes_of(graph, s);
        REQUIRE_FALSE(nodes.empty());
        all.insert(all.end(), nodes.begin(), nodes.end());
      }
      REQUIRE(all == std::vector<NodeId>(graph.lane_nodes(lane).begin(), graph.lane_nodes(lane).end()));
    }
    for (uint32_t s = 0; s < graph.segments().size(); ++s) {
      // A cut has a reason: this segment waits for another lane, or the one before it in its lane is waited for by another.
      const Lane lane = graph.segments()[s].lane;
      const auto is_other = [&](uint32_t other) { return graph.segments()[other].lane != lane; };
      const auto previous = std::find_if_not(graph.segment_dependencies(s).begin(), graph.segment_dependencies(s).end(), is_other);
      if (previous == graph.segment_dependencies(s).end()) continue;
      const auto after = graph.segment_successors(*previous);
      REQUIRE((std::any_of(graph.segment_dependencies(s).begin(), graph.segment_dependencies(s).end(), is_other) ||
               std::any_of(after.begin(), after.end(), is_other)));
    }
  }
}

}  // namespace
}  // namespace outrigger
