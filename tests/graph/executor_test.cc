// GraphExecutor: order, failure, cancellation, and its manners towards oneTBB. The first case must run before any that starts TBB.
#include "src/graph/executor.h"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <iterator>
#include <stdexcept>
#include <thread>

#include "tests/graph/random_graph.h"
#include "tests/support/catch.h"
#include "tests/support/heap_watch.h"

namespace outrigger {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

std::ptrdiff_t process_threads() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
}

bool eventually(const std::function<bool()>& condition) {
  for (const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20); std::chrono::steady_clock::now() < end;) {
    if (condition()) return true;
    std::this_thread::sleep_for(microseconds(100));
  }
  return false;
}

/// Notes what ran and whether it was its turn. Nothing is asserted on other threads: Catch does not allow it.
class Recorder : public NodeRunner {
 public:
  using Body = std::function<Status(Lane lane, NodeId node)>;

  explicit Recorder(const TaskGraph& graph, Body body = {})
      : body_(std::move(body)), runs_(graph.nodes().size()), owner_(std::this_thread::get_id()) {}

  void give_up() noexcept override { ++given_up; }
  Status run_segment(const TaskGraph& graph, Lane lane, std::span<const NodeId> nodes) override {
    auto& busy = busy_[static_cast<size_t>(lane)];
    if (busy.exchange(true)) ++violations;
    if (lane == Lane::kHost && std::this_thread::get_id() != owner_) ++violations;
    Status status;
    for (const NodeId node : nodes) {
      for (const NodeId dependency : graph.dependencies(graph.nodes()[node])) violations += runs_[dependency] != 1;
      violations += runs_[node] != 0 || graph.nodes()[node].lane != lane;
      if (body_) status = body_(lane, node);
      if (!status.is_ok()) break;
      ++runs_[node];
    }
    busy = false;
    return status;
  }

  bool is_complete() const {
    for (const auto& runs : runs_) {
      if (runs != 1) return false;
    }
    return true;
  }
  uint32_t runs(NodeId node) const { return runs_[node]; }
  bool nothing_runs() const { return !busy_[0] && !busy_[1]; }
  void reset() {
    for (auto& runs : runs_) runs = 0;
  }

  std::atomic<uint32_t> violations{0}, given_up{0};

 private:
  const Body body_;
  std::vector<std::atomic<uint32_t>> runs_;
  std::atomic<bool> busy_[kLanes] = {};
  const std::thread::id owner_;
};

/// A body that takes 0 to 60 us, most often nothing, on each lane by its own dice.
Recorder::Body random_delays(unsigned seed) {
  struct Dice {
    std::mt19937 lane[kLanes];
  };
  auto dice = std::make_shared<Dice>();
  for (unsigned i = 0; i < kLanes; ++i) dice->lane[i].seed(seed * kLanes + i);
  return [dice](Lane lane, NodeId) {
    const unsigned thrown = dice->lane[static_cast<size_t>(lane)]();
    if (thrown % 8 == 0) std::this_thread::sleep_for(microseconds(thrown / 8 % 60));
    return Status();
  };
}

std::unique_ptr<GraphExecutor> make_executor() {
  auto executor = GraphExecutor::create();
  REQUIRE(executor.is_ok());
  return std::move(executor).value();
}

/// host 0..n-1 and disk 0..n-1, where host i needs disk i, and disk i + 2 needs host i.
TaskGraph ladder(uint32_t rungs) {
  TaskGraph graph;
  std::vector<NodeId> host;
  for (uint32_t i = 0; i < rungs; ++i) {
    const NodeId disk = graph.add(Lane::kDisk, 0, i, {}, i < 2 ? std::vector<NodeId>{} : std::vector<NodeId>{host[i - 2]});
    host.push_back(graph.add(Lane::kHost, 0, i, {}, std::vector<NodeId>{disk}));
  }
  REQUIRE(graph.finish().is_ok());
  return graph;
}

TEST_CASE("GraphExecutor: a graph of the host lane alone starts no thread, one with a disk lane does") {
  const std::ptrdiff_t before = process_threads();
  auto executor = make_executor();
  TaskGraph graph;
  for (uint32_t i = 0; i < 10; ++i) graph.add(Lane::kHost, 0, i);
  REQUIRE(graph.finish().is_ok());
  Recorder recorder(graph);
  REQUIRE(executor->run(graph, recorder, CancelToken()).is_ok());
  REQUIRE(recorder.is_complete());
  REQUIRE(process_threads() == before);

  // The disk node waits for the host's and the other way round: they must run at once.
  TaskGraph both;
  both.add(Lane::kDisk, 0, 0);
  both.add(Lane::kHost, 0, 0);
  REQUIRE(both.finish().is_ok());
  std::atomic<int> arrived{0};
  std::atomic<bool> met{true};
  Recorder meeting(both, [&](Lane, NodeId) {
    ++arrived;
    if (!eventually([&] { return arrived == 2; })) met = false;
    return Status();
  });
  REQUIRE(executor->run(both, meeting, CancelToken()).is_ok());
  REQUIRE(met);
  REQUIRE(process_threads() > before);
}

TEST_CASE("GraphExecutor: in random graphs with random delays every node runs once, after its dependencies, in its lane") {
  std::mt19937 random(7);
  auto executor = make_executor();
  for (unsigned round = 0; round < 150; ++round) {
    CAPTURE(round);
    TaskGraph graph = random_graph(random, 1 + random() % 80, random() % 4, 1 + random() % 20);
    REQUIRE(graph.finish().is_ok());
    Recorder recorder(graph, random_delays(round));
    REQUIRE(executor->run(graph, recorder, CancelToken()).is_ok());
    REQUIRE(recorder.is_complete());
    REQUIRE(recorder.violations == 0);
  }
}

TEST_CASE("GraphExecutor: an empty graph succeeds, an unfinished one is our mistake") {
  auto executor = make_executor();
  TaskGraph graph;
  REQUIRE(graph.finish().is_ok());
  Recorder recorder(graph);
  REQUIRE(executor->run(graph, recorder, CancelToken()).is_ok());
  TaskGraph unfinished;
  unfinished.add(Lane::kHost, 0, 0);
  Recorder other(unfinished);
  REQUIRE(executor->run(unfinished, other, CancelToken()).code() == StatusCode::kInternal);
}

TEST_CASE("GraphExecutor: a failing node ends the run with its status, what depends on it never starts, the next run is right") {
  std::mt19937 random(3);
  auto executor = make_executor();
  for (unsigned round = 0; round < 150; ++round) {
    CAPTURE(round);
    TaskGraph graph = random_graph(random, 2 + random() % 60, 2, 8);
    REQUIRE(graph.finish().is_ok());
    const NodeId failing = random() % graph.nodes().size();
    const auto delay = random_delays(round);
    std::atomic<bool> fails{true};
    Recorder recorder(graph, [&](Lane lane, NodeId node) {
      if (node == failing && fails) return Status(StatusCode::kIo, "broken on purpose");
      return delay(lane, node);
    });
    const Status status = executor->run(graph, recorder, CancelToken());
    REQUIRE(status.code() == StatusCode::kIo);
    REQUIRE(status.message() == "broken on purpose");
    REQUIRE(recorder.given_up == 1);
    REQUIRE(recorder.nothing_runs());
    REQUIRE(recorder.violations == 0);
    REQUIRE(recorder.runs(failing) == 0);
    bool is_after = false;  // what follows in the lane must not have run
    for (const NodeId node : graph.lane_nodes(graph.nodes()[failing].lane)) {
      if (is_after) REQUIRE(recorder.runs(node) == 0);
      is_after |= node == failing;
    }
    fails = false;
    recorder.reset();
    REQUIRE(executor->run(graph, recorder, CancelToken()).is_ok());
    REQUIRE(recorder.given_up == 1);
    REQUIRE(recorder.is_complete());
    REQUIRE(recorder.violations == 0);
  }
}

TEST_CASE("GraphExecutor: of two failures the first wins, and the run does not return before the second is over") {
  auto executor = make_executor();
  for (const Lane first : {Lane::kHost, Lane::kDisk}) {
    CAPTURE(lane_name(first));
    TaskGraph graph;
    graph.add(Lane::kHost, 0, 0);
    graph.add(Lane::kDisk, 0, 0);
    REQUIRE(graph.finish().is_ok());
    std::atomic<int> begun{0};
    std::atomic<bool> late_is_over{false};
    Recorder recorder(graph, [&](Lane lane, NodeId) {
      ++begun;
      eventually([&] { return begun == 2; });
      if (lane == first) return Status(StatusCode::kIo, "first");
      std::this_thread::sleep_for(milliseconds(30));
      late_is_over = true;
      return Status(StatusCode::kDevice, "second");
    });
    const Status status = executor->run(graph, recorder, CancelToken());
    REQUIRE(late_is_over);
    REQUIRE(status.message() == "first");
  }
}

TEST_CASE("GraphExecutor: another thread cancels a run, and the token's reset makes the next one work") {
  auto executor = make_executor();
  const TaskGraph graph = ladder(2000);
  const CancelToken cancel;
  std::atomic<int> done{0};
  Recorder recorder(graph, [&](Lane, NodeId) {
    ++done;
    std::this_thread::sleep_for(microseconds(200));
    return Status();
  });
  std::thread other([&] {
    eventually([&] { return done > 20; });
    cancel.cancel();
  });
  const Status status = executor->run(graph, recorder, cancel);
  other.join();
  REQUIRE(status.code() == StatusCode::kCancelled);
  REQUIRE(recorder.nothing_runs());
  REQUIRE(done < 1000);

  REQUIRE(executor->run(graph, recorder, cancel).code() == StatusCode::kCancelled);
  cancel.reset();
  const TaskGraph small = ladder(20);
  Recorder again(small);
  REQUIRE(executor->run(small, again, cancel).is_ok());
  REQUIRE(again.is_complete());
}

TEST_CASE("GraphExecutor: what a runner throws becomes a status, on either lane") {
  auto executor = make_executor();
  const TaskGraph graph = ladder(6);
  for (NodeId thrower : {NodeId{4}, NodeId{5}}) {
    Recorder no_memory(graph, [&](Lane, NodeId node) -> Status {
      if (node == thrower) throw std::bad_alloc();
      return {};
    });
    REQUIRE(executor->run(graph, no_memory, CancelToken()).code() == StatusCode::kOutOfMemory);
    Recorder strange(graph, [&](Lane, NodeId node) -> Status {
      if (node == thrower) throw std::runtime_error("no");
      return {};
    });
    REQUIRE(executor->run(graph, strange, CancelToken()).code() == StatusCode::kInternal);
  }
}

TEST_CASE("GraphExecutor: runs to its end while the application keeps every worker of oneTBB busy") {
  auto executor = make_executor();
  const TaskGraph graph = ladder(50);
  std::atomic<bool> release{false};
  std::atomic<int> blocked{0}, left{0};
  const int workers = std::max(1, tbb::this_task_arena::max_concurrency() - 1), tasks = workers + 4;
  tbb::task_arena busy(workers, 0);
  for (int i = 0; i < tasks; ++i) {
    busy.enqueue([&] {
      ++blocked;
      eventually([&] { return release.load(); });
      ++left;
    });
  }
  REQUIRE(eventually([&] { return blocked > 0; }));
  std::this_thread::sleep_for(milliseconds(20));
  for (int run = 0; run < 20; ++run) {
    Recorder recorder(graph);
    REQUIRE(executor->run(graph, recorder, CancelToken()).is_ok());
    REQUIRE(recorder.is_complete());
    REQUIRE(recorder.violations == 0);
  }
  REQUIRE(left == 0);
  release = true;
  REQUIRE(eventually([&] { return left == tasks; }));
}

TEST_CASE("GraphExecutor: runs to its end where oneTBB may have a single thread") {
  const tbb::global_control one(tbb::global_control::max_allowed_parallelism, 1);
  auto executor = make_executor();
  const TaskGraph graph = ladder(50);
  for (unsigned run = 0; run < 20; ++run) {
    Recorder recorder(graph, random_delays(run));
    REQUIRE(executor->run(graph, recorder, CancelToken()).is_ok());
    REQUIRE(recorder.is_complete());
    REQUIRE(recorder.violations == 0);
  }
}

TEST_CASE("GraphExecutor: allocates nothing once it has run the largest graph") {
  auto executor = make_executor();
  const TaskGraph large = ladder(60), small = ladder(10);
  Recorder on_large(large), on_small(small);
  const CancelToken cancel;
  const uint64_t before_first = heap_allocations();
  REQUIRE(executor->run(large, on_large, cancel).is_ok());
  REQUIRE(heap_allocations() > before_first);
  on_large.reset();

  const uint64_t before = heap_allocations();
  const bool large_ok = executor->run(large, on_large, cancel).is_ok(), small_ok = executor->run(small, on_small, cancel).is_ok();
  const uint64_t after = heap_allocations();
  REQUIRE(large_ok);
  REQUIRE(small_ok);
  REQUIRE(after == before);
}

TEST_CASE("GraphExecutor: thousands of runs, executors that come and go, failures in between") {
  std::mt19937 random(11);
  std::vector<TaskGraph> graphs;
  for (int i = 0; i < 8; ++i) {
    graphs.push_back(random_graph(random, 4 + random() % 12, 2, 5));
    REQUIRE(graphs.back().finish().is_ok());
  }
  auto executor = make_executor();
  for (int run = 0; run < 4000; ++run) {
    CAPTURE(run);
    const TaskGraph& graph = graphs[random() % graphs.size()];
    const bool fails = run % 5 == 0;
    const NodeId failing = random() % graph.nodes().size();
    Recorder recorder(graph, [&](Lane, NodeId node) { return fails && node == failing ? Status(StatusCode::kIo, "x") : Status(); });
    const Status status = executor->run(graph, recorder, CancelToken());
    REQUIRE(status.is_ok() == !fails);
    if (!fails) REQUIRE(recorder.is_complete());
    REQUIRE(recorder.violations == 0);
    if (run % 20 == 0) executor = make_executor();
  }
}

}  // namespace
}  // namespace outrigger
