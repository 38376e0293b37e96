// Recording runs of operations and launching them again.
#include "cuda/device/recorded_runs.h"

#include <algorithm>
#include <variant>

#include "cuda/device/joined_ops.h"

namespace outrigger::cuda {
namespace {

// Launches operations in order, as one where they may be, with what varies read from memory.
CudaCode launch_all(const Launcher& launcher, std::span<const DeviceOp> operations, const uint32_t* varying) {
  JoinedOps joined;
  const auto launch_joined = [&] { return joined.is_empty() ? kCudaOk : joined.launch(launcher); };
  for (const DeviceOp& op : operations) {
    if (joined.add(op)) continue;
    if (const CudaCode code = launch_joined(); code != kCudaOk) return code;
    if (joined.add(op)) continue;
    const Launcher reading{launcher.api, launcher.stream, launcher.multiprocessors, varying_of(op) != nullptr ? varying++ : nullptr};
    const CudaCode code = std::visit([&reading](const auto& args) { return launch_op(reading, args); }, op);
    if (code != kCudaOk) return code;
  }
  return launch_joined();
}

}  // namespace

void PointAhead::set(CudaStream& stream) {
  stream_ = &stream;
  is_recorded_ = stream.record(&point_) == kCudaOk;
}

bool PointAhead::is_reached() {
  if (stream_ == nullptr) return true;
  if (!is_recorded_) is_recorded_ = stream_->record(&point_) == kCudaOk;
  if (!is_recorded_ || stream_->query(point_) != kCudaOk) return false;
  stream_ = nullptr;
  return true;
}

void RecordedRuns::open(std::byte* on_device, std::byte* on_host) {
  on_device_ = reinterpret_cast<uint32_t*>(on_device);
  on_host_ = reinterpret_cast<uint32_t*>(on_host);
}

void RecordedRuns::close() noexcept {
  for (Recorded& recorded : runs_) {
    if (recorded.graph != nullptr) (void)api_.destroy_graph(recorded.graph);
    recorded = {};
  }
  on_device_ = on_host_ = nullptr;
}

bool RecordedRuns::begins_so(const Recorded& recorded, const OperationRun& run, const CudaStream& stream) {
  return recorded.can_launch && recorded.stream == &stream && recorded.size >= run.size() &&
         std::equal(run.keys().begin(), run.keys().end(), recorded.keys.begin());
}

bool RecordedRuns::begins(const OperationRun& run, const CudaStream& stream, size_t* candidate) const {
  const size_t last = run.size() - 1;
  const Recorded& known = runs_[*candidate];
  if (last > 0 && known.can_launch && known.size > last && known.keys[last] == run.keys()[last]) return true;
  for (const Recorded& recorded : runs_) {
    if (!begins_so(recorded, run, stream)) continue;
    *candidate = static_cast<size_t>(&recorded - runs_.data());
    return true;
  }
  return false;
}

RecordedRuns::Recorded* RecordedRuns::find(const OperationRun& run, const CudaStream& stream) {
  for (Recorded& recorded : runs_) {
    if (recorded.stream == &stream && recorded.hash == run.hash() && recorded.size == run.size() &&
        std::equal(run.keys().begin(), run.keys().end(), recorded.keys.begin()))
      return &recorded;
  }
  return nullptr;
}

// A slot that is not free again means that the host is far ahead of the device, to which launching is no loss then.
bool RecordedRuns::send_varying(const Recorded& recorded, const OperationRun& run, CudaStream& stream) {
  PointAhead& slot = slots_[next_slot_];
  if (!slot.is_reached()) return false;
  uint32_t* const from = on_host_ + next_slot_ * OperationRun::kMost;
  const size_t count = run.copy_varying(from);
  if (count == 0) return true;
  next_slot_ = (next_slot_ + 1) % kSlots;
  stream.note_work();
  const CudaCode code = api_.copy(stream.handle(), varying_at(recorded), from, count * sizeof(uint32_t));
  slot.set(stream);
  return code == kCudaOk;
}

bool RecordedRuns::replay(const OperationRun& run, CudaStream& stream) {
  Recorded* const recorded = find(run, stream);
  if (recorded == nullptr || !recorded->can_launch || !send_varying(*recorded, run, stream)) return false;
  recorded->used = ++uses_;
  stream.note_work();
  recorded->can_launch = api_.launch_graph(stream.handle(), recorded->graph) == kCudaOk;
  recorded->last.set(stream);
  return recorded->can_launch;
}

bool RecordedRuns::was_seen(uint64_t hash) {
  if (std::find(seen_.begin(), seen_.end(), hash) != seen_.end()) return true;
  seen_[next_seen_] = hash;
  next_seen_ = (next_seen_ + 1) % seen_.size();
  return false;
}

RecordedRuns::Recorded* RecordedRuns::make_place() {
  Recorded& oldest = *std::min_element(runs_.begin(), runs_.end(), [](const Recorded& a, const Recorded& b) { return a.used < b.used; });
  if (oldest.stream == nullptr) return &oldest;
  if (uses_ - oldest.used < kKeptUses || !oldest.last.is_reached()) return nullptr;
  if (oldest.graph != nullptr) (void)api_.destroy_graph(oldest.graph);
  oldest = {};
  return &oldest;
}

void RecordedRuns::note(const OperationRun& run, CudaStream& stream, const Launcher& launcher) {
  if (on_device_ == nullptr || run.size() < kLeastOperations || !run.is_repeatable()) return;
  ++uses_;
  if (Recorded* const recorded = find(run, stream)) {
    recorded->used = uses_;
    return;
  }
  if (!was_seen(run.hash() ^ reinterpret_cast<uintptr_t>(&stream))) return;
  if (Recorded* const place = make_place()) record(*place, run, stream, launcher);
}

// Between the two calls nothing else may be asked of the stream.
void RecordedRuns::record(Recorded& recorded, const OperationRun& run, const CudaStream& stream, const Launcher& launcher) {
  recorded.stream = &stream;
  recorded.size = run.size();
  recorded.hash = run.hash();
  recorded.used = uses_;
  std::copy(run.keys().begin(), run.keys().end(), recorded.keys.begin());
  if (api_.begin_capture(stream.handle()) != kCudaOk) return;
  const CudaCode code = launch_all(launcher, run.operations(), varying_at(recorded));
  GraphHandle graph = nullptr;
  if (api_.end_capture(stream.handle(), &graph) != kCudaOk) return;
  recorded.graph = graph;
  recorded.can_launch = code == kCudaOk;
}

}  // namespace outrigger::cuda
