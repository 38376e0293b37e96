// Tracer: rings, and sums over what is in them.
#include "src/graph/tracer.h"

#include <algorithm>
#include <new>

namespace outrigger {
namespace {

// 128 GiB a lane. Beyond that the system need not even be asked.
constexpr uint64_t kMostEvents = uint64_t{1} << 32;

Status no_memory() { return Status(StatusCode::kOutOfMemory, "no memory for a trace of so many events"); }

}  // namespace

Result<std::unique_ptr<Tracer>> Tracer::create(uint64_t events, size_t lanes) try {
  if (events == 0) return Status(StatusCode::kInvalidArgument, "a trace of 0 events was asked for; give at least 1");
  if (events > kMostEvents) return no_memory();
  std::unique_ptr<Tracer> tracer(new Tracer());
  // Written to here, so that no step meets a page for the first time.
  for (size_t lane = 0; lane < lanes; ++lane) tracer->lanes_[lane].entries.resize(events);
  tracer->steps_.entries.resize(events);
  tracer->origin_ns_ = now_ns();
  return tracer;
} catch (const std::bad_alloc&) {
  return no_memory();
}

void Tracer::begin_step(const TaskGraph& graph, uint32_t tokens, uint32_t logit_rows) {
  step_number_ = steps_.dropped + steps_.count;
  step_ = &steps_.push({});
  *step_ = {now_ns(), 0, &graph, tokens, logit_rows, false};
}

void Tracer::end_step(bool is_complete) {
  step_->end_ns = now_ns();
  step_->is_complete = is_complete;
}

TraceTotals Tracer::totals(uint64_t most_steps, LaneTeller works_of) const {
  const uint64_t end = first_kept_step() + steps_.count;
  uint64_t first = std::max(first_kept_step(), end - std::min(end, most_steps));
  // A lane that dropped anything may have dropped part of the oldest step that it still knows.
  for (const TraceRing<TraceEvent>& lane : lanes_) {
    if (lane.dropped > 0) first = std::max(first, lane.at(0).step + 1);
  }
  TraceTotals totals;
  for (uint64_t step = first; step < end; ++step) {
    const TraceStep& of = steps_.at(step - first_kept_step());
    ++totals.steps;
    totals.wall_ns += of.end_ns - of.begin_ns;
  }
  for (size_t lane = 0; lane < kLanes; ++lane) {
    for (uint64_t i = 0; i < lanes_[lane].count; ++i) {
      const TraceEvent& event = lanes_[lane].at(i);
      if (event.step < first) continue;
      const TaskGraph& graph = *steps_.at(event.step - first_kept_step()).graph;
      const std::optional<Lane> works =
          works_of == nullptr ? static_cast<Lane>(lane) : works_of(graph, event.node, static_cast<Lane>(lane));
      if (works) totals.busy_ns[static_cast<size_t>(*works)] += event.end_ns - event.begin_ns;
    }
  }
  return totals;
}

}  // namespace outrigger
