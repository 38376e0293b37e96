// GraphExecutor: counts down what each segment waits for; the one who brings a count to zero sees to it that the segment runs.
#include "src/graph/executor.h"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/task_arena.h>

#include <array>
#include <atomic>
#include <chrono>
#include <new>
#include <optional>
#include <thread>
#include <utility>

#include "src/base/macros.h"

namespace outrigger {
namespace {

constexpr uint32_t kNone = UINT32_MAX;

// A worker of TBB takes 2-10 us to begin, some 50 us when it slept. A host that is done before looks again until then, since sleeping and
// being woken costs it as much; after that it takes the work over or sleeps.
constexpr auto kPatience = std::chrono::microseconds(50);
// Bounded, since a caller whose own tasks occupy every worker of oneTBB may destroy an executor from inside one.
constexpr auto kFarewell = std::chrono::seconds(1);
constexpr auto kFarewellNap = std::chrono::microseconds(50);

// Where a lane's next segment waits for whoever takes it first. A lane's segments depend on one another, so there is at most one.
struct alignas(64) LaneQueue {
  std::atomic<uint32_t> ready{kNone};
  std::atomic<bool> is_queued{false};  // a task that will look at `ready` is with TBB
};

}  // namespace

// Kept alive by the tasks that are with TBB as well: one that comes late, after the host did its work, finds nothing and goes.
struct GraphExecutor::State : std::enable_shared_from_this<State> {
  // What run() was given: to be read by whoever holds a segment.
  const TaskGraph* graph = nullptr;
  NodeRunner* runner = nullptr;
  const CancelToken* cancel = nullptr;
  tbb::task_arena* arena = nullptr;

  std::unique_ptr<std::atomic<uint32_t>[]> pending;  // per segment: dependencies that are not complete
  size_t pending_capacity = 0;
  std::array<LaneQueue, kLanes> lanes;  // the host's is not used
  std::atomic<uint32_t> unfinished{0};  // segments of the other lanes
  std::atomic<uint32_t> active{0};      // published, taken over or running in the other lanes
  std::atomic<uint32_t> events{0};      // changes whenever there is something that the host may sleep for
  std::atomic<bool> stopped{false};
  Status failure;  // written by the one who stopped, read when nothing is active

  void fail(Status status) {
    if (stopped.exchange(true, std::memory_order_acq_rel)) return;
    failure = std::move(status);
    runner->give_up();
  }

  // The read-modify-write is a full fence: the look for a sleeper cannot overtake what was stored before.
  void signal() {
    events.fetch_add(1, std::memory_order_seq_cst);
    events.notify_one();
  }

  // Runs a segment, or none of it once something has failed.
  void perform(uint32_t id) noexcept {
    if (stopped.load(std::memory_order_acquire)) return;
    try {
      if (cancel->is_cancelled()) return fail(Status(StatusCode::kCancelled, "the step was cancelled"));
      const TaskSegment& segment = graph->segments()[id];
      Status status = runner->run_segment(*graph, segment.lane, graph->lane_nodes(segment.lane).subspan(segment.first, segment.count));
      if (!status.is_ok()) fail(std::move(status));
    } catch (const std::bad_alloc&) {
      fail(Status(StatusCode::kOutOfMemory, "out of memory"));  // short enough to need none
    } catch (...) {
      fail(Status(StatusCode::kInternal, "a node threw"));
    }
  }

  // Tells those who wait for `id`. Of those that can run now, the one of the same lane is returned, those of other lanes are published;
  // the host looks for its own.
  uint32_t complete(uint32_t id, Lane lane) noexcept {
    uint32_t next = kNone;
    for (const uint32_t successor : graph->segment_successors(id)) {
      if (pending[successor].fetch_sub(1, std::memory_order_acq_rel) != 1) continue;
      const Lane its_lane = graph->segments()[successor].lane;
      if (its_lane == lane) {
        next = successor;
      } else if (its_lane != Lane::kHost) {
        publish(successor, its_lane);
      }
    }
    return next;
  }

  // Runs a segment of another lane than the host's; the lane's next one if that can run now.
  uint32_t step(uint32_t id, Lane lane) noexcept {
    perform(id);
    if (stopped.load(std::memory_order_acquire)) return kNone;
    const uint32_t next = complete(id, lane);
    unfinished.fetch_sub(1, std::memory_order_acq_rel);
    signal();
    return next;
  }

  void publish(uint32_t id, Lane lane) noexcept {
    LaneQueue& queue = lanes[static_cast<size_t>(lane)];
    active.fetch_add(1, std::memory_order_relaxed);
    queue.ready.store(id, std::memory_order_release);
    if (queue.is_queued.exchange(true, std::memory_order_acq_rel)) return;
    try {
      if (arena == nullptr) throw std::bad_alloc();
      arena->enqueue([self = shared_from_this(), lane] { self->serve(lane); });
    } catch (...) {
      queue.is_queued.store(false, std::memory_order_release);  // the host will take it over when it comes to wait for it
    }
  }

  uint32_t take(Lane lane) noexcept { return lanes[static_cast<size_t>(lane)].ready.exchange(kNone, std::memory_order_acq_rel); }

  void retire() noexcept {
    active.fetch_sub(1, std::memory_order_acq_rel);
    signal();
  }

  // A task's life: the lane's segments for as long as the next one is ready.
  void serve(Lane lane) noexcept {
    lanes[static_cast<size_t>(lane)].is_queued.exchange(false, std::memory_order_acq_rel);
    uint32_t id = take(lane);
    if (id == kNone) return;
    while (id != kNone) id = step(id, lane);
    retire();
  }

  // The host has nothing else to do: it runs a segment that TBB has not begun. Without this a caller whose own tasks occupy every worker
  // of TBB would wait for ever.
  bool take_over() noexcept {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const uint32_t id = take(static_cast<Lane>(lane));
      if (id == kNone) continue;
      const uint32_t next = step(id, static_cast<Lane>(lane));
      if (next != kNone) publish(next, static_cast<Lane>(lane));
      retire();
      return true;
    }
    return false;
  }

  template <typename Condition>
  void wait_until(Condition condition) noexcept {
    if (condition()) return;
    for (const auto begin = std::chrono::steady_clock::now(); std::chrono::steady_clock::now() - begin < kPatience;) {
      std::this_thread::yield();
      if (condition()) return;
    }
    for (;;) {
      const uint32_t seen = events.load(std::memory_order_seq_cst);
      if (condition()) return;
      if (!take_over()) events.wait(seen, std::memory_order_seq_cst);
    }
  }

  Status reserve(size_t segments) {
    if (segments <= pending_capacity) return {};
    pending.reset(new (std::nothrow) std::atomic<uint32_t>[segments]);
    pending_capacity = pending ? segments : 0;
    return pending ? Status() : Status(StatusCode::kOutOfMemory, "out of memory");
  }

  Status prepare() {
    const std::span<const TaskSegment> segments = graph->segments();
    if (segments.empty() && !graph->nodes().empty()) return Status(StatusCode::kInternal, "a graph was run before it was finished");
    OTR_TRY(reserve(segments.size()));
    uint32_t others = 0;
    for (uint32_t id = 0; id < segments.size(); ++id) {
      pending[id].store(static_cast<uint32_t>(graph->segment_dependencies(id).size()), std::memory_order_relaxed);
      others += segments[id].lane != Lane::kHost;
    }
    unfinished.store(others, std::memory_order_relaxed);
    stopped.store(false, std::memory_order_relaxed);
    failure = Status();
    return {};
  }

  Status run() {
    const std::span<const TaskSegment> segments = graph->segments();
    const auto is_stopped = [&] { return stopped.load(std::memory_order_acquire); };
    for (uint32_t id = 0; id < segments.size(); ++id) {
      if (segments[id].lane != Lane::kHost && graph->segment_dependencies(id).empty()) publish(id, segments[id].lane);
    }
    for (uint32_t id = 0; id < segments.size() && !is_stopped(); ++id) {
      if (segments[id].lane != Lane::kHost) continue;
      wait_until([&] { return pending[id].load(std::memory_order_acquire) == 0 || is_stopped(); });
      perform(id);
      if (!is_stopped()) complete(id, Lane::kHost);
    }
    wait_until([&] { return unfinished.load(std::memory_order_acquire) == 0 || is_stopped(); });
    wait_until([&] { return active.load(std::memory_order_acquire) == 0; });
    return is_stopped() ? std::move(failure) : Status();
  }
};

struct GraphExecutor::Arena {
  // One worker for each lane beside the host, no place kept for a caller. High priority: its tasks are few, and somebody waits for each.
  std::optional<tbb::task_arena> arena;
  // oneTBB has a worker less than there are processors, on a single one none, and complains on stderr when asked for more. Lanes mostly
  // wait, for a disk or a device, which needs no processor: each is worth a worker.
  std::optional<tbb::global_control> more_workers;

  // Before a graph that has so many lanes beside the host's.
  void prepare(size_t lanes) noexcept {
    if (lanes <= prepared_lanes_) return;
    prepared_lanes_ = lanes;
    try {
      arena.emplace(static_cast<int>(lanes), 0u, tbb::task_arena::priority::high);
      if (static_cast<size_t>(tbb::info::default_concurrency()) <= lanes)
        more_workers.emplace(tbb::global_control::max_allowed_parallelism, lanes + 1);
    } catch (...) {
      // Without it the host takes the work over.
    }
  }

 private:
  size_t prepared_lanes_ = 0;
};

GraphExecutor::GraphExecutor(std::shared_ptr<State> state, std::unique_ptr<Arena> arena)
    : state_(std::move(state)), arena_(std::move(arena)) {}

// A segment that the host took over leaves its task in oneTBB's queue, and the task holds the state. A starved worker may be long in
// coming for it, and the next executor's arena would then be served first: a moment's patience lets nothing outlive the executor.
GraphExecutor::~GraphExecutor() {
  const auto begin = std::chrono::steady_clock::now();
  while (state_.use_count() > 1 && std::chrono::steady_clock::now() - begin < kFarewell) std::this_thread::sleep_for(kFarewellNap);
}

Result<std::unique_ptr<GraphExecutor>> GraphExecutor::create() {
  try {
    return std::unique_ptr<GraphExecutor>(new GraphExecutor(std::make_shared<State>(), std::make_unique<Arena>()));
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kOutOfMemory, "out of memory");
  }
}

Status GraphExecutor::reserve(const TaskGraph& graph) { return state_->reserve(graph.segments().size()); }

Status GraphExecutor::run(const TaskGraph& graph, NodeRunner& runner, const CancelToken& cancel) {
  state_->graph = &graph;
  state_->runner = &runner;
  state_->cancel = &cancel;
  OTR_TRY(state_->prepare());
  size_t lanes = 0;
  for (const Lane lane : {Lane::kDisk, Lane::kToDevice, Lane::kDevice, Lane::kToHost}) lanes += !graph.lane_nodes(lane).empty();
  arena_->prepare(lanes);
  state_->arena = arena_->arena ? &*arena_->arena : nullptr;
  return state_->run();
}

}  // namespace outrigger
