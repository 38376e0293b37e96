// A random task graph: lanes mixed, dependencies on any earlier nodes.
#ifndef OUTRIGGER_TESTS_GRAPH_RANDOM_GRAPH_H_
#define OUTRIGGER_TESTS_GRAPH_RANDOM_GRAPH_H_

#include <random>
#include <vector>

#include "src/graph/task_graph.h"

namespace outrigger {

inline constexpr Lane kAllLanes[kLanes] = {Lane::kHost, Lane::kDisk, Lane::kToDevice, Lane::kDevice, Lane::kToHost};

/// `nodes` nodes, each with up to `most_dependencies` on nodes at most `reach` before it. finish() is left to the caller.
inline TaskGraph random_graph(std::mt19937& random, uint32_t nodes, uint32_t most_dependencies, uint32_t reach) {
  TaskGraph graph;
  for (NodeId id = 0; id < nodes; ++id) {
    std::vector<NodeId> dependencies;
    for (uint32_t n = random() % (most_dependencies + 1); n > 0 && id > 0; --n)
      dependencies.push_back(id - 1 - random() % std::min(id, reach));
    graph.add(random() % 3 == 0 ? static_cast<Lane>(1 + random() % (kLanes - 1)) : Lane::kHost, 0, id, {}, dependencies);
  }
  return graph;
}

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_GRAPH_RANDOM_GRAPH_H_
