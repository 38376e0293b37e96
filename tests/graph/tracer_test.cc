// Tracer: what it keeps, what it drops, what it sums up, and that it writes a trace.
#include "src/graph/tracer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "src/graph/executor.h"
#include "tests/graph/random_graph.h"
#include "tests/support/catch.h"
#include "tests/support/heap_watch.h"

namespace outrigger {
namespace {

using nlohmann::json;

std::unique_ptr<Tracer> make_tracer(uint64_t events) {
  auto tracer = Tracer::create(events);
  REQUIRE(tracer.is_ok());
  return std::move(tracer).value();
}

/// Runs nodes as the model does: each lane's segments through a NodeTrace, with a little work in every node.
class TracedRunner : public NodeRunner {
 public:
  explicit TracedRunner(Tracer* tracer, NodeId failing = UINT32_MAX) : tracer_(tracer), failing_(failing) {}
  Status run_segment(const TaskGraph&, Lane lane, std::span<const NodeId> nodes) override {
    NodeTrace trace(tracer_, lane);
    for (const NodeId node : nodes) {
      trace.next(node);
      if (node == failing_) return Status(StatusCode::kIo, "a node failed");
      std::this_thread::sleep_for(std::chrono::microseconds(node % 7 == 0 ? 20 : 0));
    }
    return {};
  }

 private:
  Tracer* tracer_;
  NodeId failing_;
};

TaskGraph finished_random_graph(uint32_t seed, uint32_t nodes = 60) {
  std::mt19937 random(seed);
  TaskGraph graph = random_graph(random, nodes, 2, 10);
  REQUIRE(graph.finish().is_ok());
  return graph;
}

Status run_step(GraphExecutor& executor, const TaskGraph& graph, Tracer& tracer, NodeRunner& runner, uint32_t tokens = 1) {
  static const CancelToken never;
  tracer.begin_step(graph, tokens, 1);
  Status status = executor.run(graph, runner, never);
  tracer.end_step(status.is_ok());
  return status;
}

NodeLabel plain_label(const TaskGraph&, NodeId node, Lane) { return {"node " + std::to_string(node), node * uint64_t{100}, node % 3}; }

json written(const Tracer& tracer, const NodeNamer& namer = plain_label) {
  const json trace = json::parse(tracer.to_json(namer), nullptr, false);
  REQUIRE(trace.is_object());
  return trace;
}

TEST_CASE("Tracer: every node of every step is one event, inside its step, and no two of a lane overlap") {
  auto executor = std::move(GraphExecutor::create()).value();
  for (uint32_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    const TaskGraph graph = finished_random_graph(seed), other = finished_random_graph(seed + 100, 17);
    const auto tracer = make_tracer(1000);
    TracedRunner runner(tracer.get());
    for (const TaskGraph* of_step : {&graph, &other, &graph}) REQUIRE(run_step(*executor, *of_step, *tracer, runner).is_ok());

    const std::vector<TraceStep> steps = tracer->steps();
    REQUIRE(steps.size() == 3);
    std::vector<std::vector<int>> runs = {std::vector<int>(60), std::vector<int>(17), std::vector<int>(60)};
    for (const Lane lane : kAllLanes) {
      int64_t free_from = 0;
      for (const TraceEvent& event : tracer->events(lane)) {
        const TraceStep& step = steps[event.step];
        REQUIRE(event.begin_ns >= free_from);
        REQUIRE(event.end_ns >= event.begin_ns);
        REQUIRE(event.begin_ns >= step.begin_ns);
        REQUIRE(event.end_ns <= step.end_ns);
        REQUIRE(step.graph->nodes()[event.node].lane == lane);
        ++runs[event.step][event.node];
        free_from = event.end_ns;
      }
      REQUIRE(tracer->dropped(lane) == 0);
    }
    for (const std::vector<int>& of_step : runs) REQUIRE(std::all_of(of_step.begin(), of_step.end(), [](int count) { return count == 1; }));
  }
}

TEST_CASE("Tracer: nodes keep their dependencies' order on the clock, across lanes") {
  auto executor = std::move(GraphExecutor::create()).value();
  const TaskGraph graph = finished_random_graph(5, 200);
  const auto tracer = make_tracer(1000);
  TracedRunner runner(tracer.get());
  REQUIRE(run_step(*executor, graph, *tracer, runner).is_ok());
  std::vector<TraceEvent> by_node(graph.nodes().size());
  for (const Lane lane : kAllLanes) {
    for (const TraceEvent& event : tracer->events(lane)) by_node[event.node] = event;
  }
  for (NodeId node = 0; node < by_node.size(); ++node) {
    for (const NodeId dependency : graph.dependencies(graph.nodes()[node])) REQUIRE(by_node[dependency].end_ns <= by_node[node].begin_ns);
  }
}

TEST_CASE("Tracer: a ring that is full keeps the latest events, counts the others, and sums up whole steps only") {
  TaskGraph graph;
  for (uint32_t i = 0; i < 4; ++i) graph.add(i == 3 ? Lane::kDisk : Lane::kHost, 0, i);
  REQUIRE(graph.finish().is_ok());
  const auto tracer = make_tracer(7);
  for (int64_t step = 0; step < 5; ++step) {  // three host nodes and a disk node each
    tracer->begin_step(graph, 1, 1);
    for (NodeId node = 0; node < 3; ++node) tracer->record(Lane::kHost, node, 100 * step + 10 * node, 100 * step + 10 * node + 10);
    tracer->record(Lane::kDisk, 3, 100 * step, 100 * step + 7);
    tracer->end_step(true);
  }
  REQUIRE(tracer->dropped(Lane::kHost) == 8);
  REQUIRE(tracer->dropped(Lane::kDisk) == 0);
  REQUIRE(tracer->events(Lane::kHost).front().step == 2);
  REQUIRE(tracer->events(Lane::kHost).front().node == 2);
  REQUIRE(tracer->events(Lane::kHost).back().step == 4);
  REQUIRE(tracer->totals(UINT64_MAX).steps == 2);  // of step 2 one event is left
  REQUIRE(tracer->totals(UINT64_MAX).busy_ns[static_cast<size_t>(Lane::kHost)] == 60);
  REQUIRE(tracer->totals(UINT64_MAX).busy_ns[static_cast<size_t>(Lane::kDisk)] == 14);
  REQUIRE(tracer->totals(1).steps == 1);
  REQUIRE(tracer->totals(1).busy_ns[static_cast<size_t>(Lane::kHost)] == 30);
  REQUIRE(tracer->totals(0).steps == 0);
  const LaneTeller second_waits = [](const TaskGraph&, NodeId node, Lane lane) -> std::optional<Lane> {
    if (lane == Lane::kHost && node == 1) return std::nullopt;
    return lane;
  };
  REQUIRE(tracer->totals(UINT64_MAX, second_waits).busy_ns[static_cast<size_t>(Lane::kHost)] == 40);
  REQUIRE(tracer->totals(UINT64_MAX, second_waits).busy_ns[static_cast<size_t>(Lane::kDisk)] == 14);
  const LaneTeller second_is_the_disks = [](const TaskGraph&, NodeId node, Lane lane) -> std::optional<Lane> {
    return lane == Lane::kHost && node == 1 ? Lane::kDisk : lane;
  };
  REQUIRE(tracer->totals(UINT64_MAX, second_is_the_disks).busy_ns[static_cast<size_t>(Lane::kHost)] == 40);
  REQUIRE(tracer->totals(UINT64_MAX, second_is_the_disks).busy_ns[static_cast<size_t>(Lane::kDisk)] == 34);
  const json trace = written(*tracer);
  REQUIRE(trace["otherData"]["dropped_events"] == json{{"host", 8}, {"disk", 0}});
}

TEST_CASE("Tracer: what an idle lane remembers of steps that are forgotten is not written, and counted") {
  TaskGraph graph;
  graph.add(Lane::kHost, 0, 0);
  graph.add(Lane::kDisk, 0, 1);
  REQUIRE(graph.finish().is_ok());
  const auto tracer = make_tracer(3);
  for (int step = 0; step < 5; ++step) {
    tracer->begin_step(graph, 1, 1);
    if (step == 0) tracer->record(Lane::kDisk, 1, Tracer::now_ns(), Tracer::now_ns());
    tracer->record(Lane::kHost, 0, Tracer::now_ns(), Tracer::now_ns());
    tracer->end_step(true);
  }
  const json trace = written(*tracer);
  REQUIRE(trace["otherData"]["dropped_events"] == json{{"host", 2}, {"disk", 1}});
  REQUIRE(tracer->totals(UINT64_MAX).steps == 2);
  REQUIRE(tracer->totals(UINT64_MAX).busy_ns[static_cast<size_t>(Lane::kDisk)] == 0);
}

TEST_CASE("Tracer: the sums are those of the events, and busy is never more than the wall") {
  auto executor = std::move(GraphExecutor::create()).value();
  const TaskGraph graph = finished_random_graph(9);
  const auto tracer = make_tracer(500);
  TracedRunner runner(tracer.get());
  for (int i = 0; i < 4; ++i) REQUIRE(run_step(*executor, graph, *tracer, runner).is_ok());
  const TraceTotals totals = tracer->totals(UINT64_MAX);
  REQUIRE(totals.steps == 4);
  int64_t wall = 0;
  for (const TraceStep& step : tracer->steps()) wall += step.end_ns - step.begin_ns;
  REQUIRE(totals.wall_ns == wall);
  for (const Lane lane : kAllLanes) {
    int64_t busy = 0;
    for (const TraceEvent& event : tracer->events(lane)) busy += event.end_ns - event.begin_ns;
    REQUIRE(totals.busy_ns[static_cast<size_t>(lane)] == busy);
    REQUIRE(busy > 0);
    REQUIRE(busy <= wall);
  }
}

TEST_CASE("Tracer: recording allocates nothing, and nothing is recorded without a tracer") {
  auto executor = std::move(GraphExecutor::create()).value();
  TaskGraph graph;  // of one lane, so that TBB, which has allocations of its own, is not touched
  for (uint32_t i = 0; i < 50; ++i) graph.add(Lane::kHost, 0, i);
  REQUIRE(graph.finish().is_ok());
  const auto tracer = make_tracer(120);
  TracedRunner runner(tracer.get()), silent(nullptr);
  REQUIRE(run_step(*executor, graph, *tracer, runner).is_ok());
  const uint64_t before = heap_allocations();
  for (int i = 0; i < 10; ++i) (void)run_step(*executor, graph, *tracer, runner);
  (void)tracer->totals(3);
  REQUIRE(heap_allocations() == before);
  REQUIRE(tracer->dropped(Lane::kHost) == 11 * 50 - 120);
  REQUIRE(executor->run(graph, silent, CancelToken()).is_ok());
  REQUIRE(tracer->dropped(Lane::kHost) == 11 * 50 - 120);
}

TEST_CASE("Tracer: a step that failed is in the trace as one, up to the node that failed") {
  auto executor = std::move(GraphExecutor::create()).value();
  TaskGraph graph;
  for (uint32_t i = 0; i < 6; ++i) graph.add(Lane::kHost, 0, i);
  REQUIRE(graph.finish().is_ok());
  const auto tracer = make_tracer(20);
  TracedRunner runner(tracer.get(), 3);
  REQUIRE_FALSE(run_step(*executor, graph, *tracer, runner).is_ok());
  REQUIRE(tracer->events(Lane::kHost).size() == 4);
  REQUIRE_FALSE(tracer->steps().front().is_complete);
  REQUIRE(written(*tracer)["traceEvents"].dump().find("\"complete\":false") != std::string::npos);
}

TEST_CASE("Tracer: the JSON has a named track for the steps and each lane, and events with times, layers and bytes") {
  auto executor = std::move(GraphExecutor::create()).value();
  const TaskGraph graph = finished_random_graph(3);
  const auto tracer = make_tracer(500);
  TracedRunner runner(tracer.get());
  for (int i = 0; i < 2; ++i) REQUIRE(run_step(*executor, graph, *tracer, runner, 17).is_ok());
  const json trace = written(*tracer);
  std::map<int, std::string> tracks;
  std::map<std::string, int> events;
  for (const json& event : trace["traceEvents"]) {
    if (event["ph"] == "M") {
      if (event["name"] == "thread_name") tracks[event["tid"]] = event["args"]["name"];
      continue;
    }
    REQUIRE(event["ph"] == "X");
    REQUIRE(event["dur"].get<double>() >= 0);
    REQUIRE(event["args"]["tokens"] == 17);
    const std::string track = tracks.at(event["tid"]);
    ++events[track];
    if (track == "steps") continue;
    const std::string name = event["name"];
    REQUIRE(name.rfind("node ", 0) == 0);
    const uint64_t node = std::stoull(name.substr(5));
    REQUIRE(event["args"]["layer"] == node % 3);
    REQUIRE(event["args"].value("bytes", uint64_t{0}) == node * 100);
    REQUIRE(event["cat"] == lane_name(graph.nodes()[node].lane));
  }
  REQUIRE(events["steps"] == 2);
  REQUIRE(events["host lane"] == 2 * static_cast<int>(graph.lane_nodes(Lane::kHost).size()));
  REQUIRE(events["disk lane"] == 2 * static_cast<int>(graph.lane_nodes(Lane::kDisk).size()));
}

TEST_CASE("Tracer: whatever a node is called, the trace stays JSON") {
  TaskGraph graph;
  graph.add(Lane::kHost, 0, 0);
  REQUIRE(graph.finish().is_ok());
  for (const std::string& name : {std::string("a \"quoted\" \\ name\n"), std::string("\xff\xfe"), std::string(1, '\0'), std::string()}) {
    const auto tracer = make_tracer(2);
    tracer->begin_step(graph, 1, 0);
    tracer->record(Lane::kHost, 0, Tracer::now_ns(), Tracer::now_ns());
    tracer->end_step(true);
    REQUIRE(written(*tracer, [&](const TaskGraph&, NodeId, Lane) { return NodeLabel{name}; })["traceEvents"].size() > 3);
  }
}

TEST_CASE("Tracer: drafts are told from several threads while steps run, the latest are kept, and have a track of their own") {
  auto executor = std::move(GraphExecutor::create()).value();
  const TaskGraph graph = finished_random_graph(5);
  const auto tracer = make_tracer(500);
  TracedRunner runner(tracer.get());
  DraftTrack drafts(100);
  drafts.record({Tracer::now_ns() - int64_t{1'000'000'000}, Tracer::now_ns(), 9, 9});  // before the tracer was made
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < 3; ++i) {
    threads.emplace_back([&drafts, i] {
      for (int step = 0; step < 20; ++step) {
        const int64_t begin_ns = Tracer::now_ns();
        drafts.record({begin_ns, Tracer::now_ns(), i + 1, i});
      }
    });
  }
  for (int i = 0; i < 5; ++i) REQUIRE(run_step(*executor, graph, *tracer, runner).is_ok());
  for (std::thread& thread : threads) thread.join();
  const auto written_with_drafts = [&] { return json::parse(tracer->to_json(plain_label, &drafts), nullptr, false); };
  const json trace = written_with_drafts();
  std::map<std::string, int> names;
  std::string track;
  for (const json& event : trace["traceEvents"]) {
    if (event["name"] == "thread_name" && event["args"]["name"] == "draft") track = event["tid"].dump();
    if (event.value("cat", "") != "draft") continue;
    REQUIRE(event["tid"].dump() == track);
    REQUIRE(event["ts"].get<double>() >= 0);
    REQUIRE(event["args"]["tokens"] == event["args"]["texts"].get<int>() + 1);
    ++names[event["name"]];
  }
  REQUIRE(names == std::map<std::string, int>{{"draft step: 1 token", 20}, {"draft step: 2 tokens", 20}, {"draft step: 3 tokens", 20}});
  REQUIRE(trace["otherData"]["dropped_events"]["draft"] == 0);
  for (int step = 0; step < 60; ++step) drafts.record({Tracer::now_ns(), Tracer::now_ns(), 1, 1});
  REQUIRE(written_with_drafts()["otherData"]["dropped_events"]["draft"] == 21);
  REQUIRE(written(*tracer)["otherData"]["dropped_events"].count("draft") == 0);
}

TEST_CASE("Tracer: none of nothing, and none that memory does not hold") {
  REQUIRE(Tracer::create(0).status().code() == StatusCode::kInvalidArgument);
  REQUIRE(Tracer::create(UINT64_MAX).status().code() == StatusCode::kOutOfMemory);
  REQUIRE(Tracer::create(uint64_t{1} << 56).status().code() == StatusCode::kOutOfMemory);
}

}  // namespace
}  // namespace outrigger
