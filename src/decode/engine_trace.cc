// What an engine that keeps a trace tells about its steps.
#include <outrigger/engine.h>

#include <new>

#include "src/decode/engine_impl.h"
#include "src/io/atomic_file.h"
#include "src/model/node_label.h"

namespace outrigger {

LaneBusy Engine::lane_busy(uint64_t most_steps) const {
  LaneBusy busy;
  if (!impl_->tracer) return busy;
  const std::lock_guard lock(impl_->step_mutex);
  const TraceTotals totals = impl_->tracer->totals(most_steps, &working_lane);
  const auto ms = [](int64_t ns) { return static_cast<double>(ns) * 1e-6; };
  busy.steps = totals.steps;
  busy.wall_ms = ms(totals.wall_ns);
  const auto lane_ms = [&](Lane lane) { return ms(totals.busy_ns[static_cast<size_t>(lane)]); };
  busy.disk_ms = lane_ms(Lane::kDisk);
  busy.h2d_ms = lane_ms(Lane::kToDevice);
  busy.d2h_ms = lane_ms(Lane::kToHost);
  busy.host_ms = lane_ms(Lane::kHost);
  busy.device_ms = lane_ms(Lane::kDevice);
  return busy;
}

Status Engine::write_trace(const std::string& path) const try {
  if (!impl_->tracer) return Status(StatusCode::kInvalidArgument, "this engine keeps no trace; open it with trace_events above 0");
  std::string text;
  {
    const std::lock_guard lock(impl_->step_mutex);
    const NodeNamer name_of = [this](const TaskGraph& graph, NodeId node, Lane lane) {
      return label_node(impl_->layout(), *impl_->residency, graph, node, lane);
    };
    text = impl_->tracer->to_json(name_of, impl_->draft_track.get());
  }
  return write_file_atomically(path, std::as_bytes(std::span(text)));
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
