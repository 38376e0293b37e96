// A GPU's operations: which are launched at once, and which are held until it is known whether they are a recorded run.
#include <utility>

#include "cuda/device/cuda_backend.h"
#include "cuda/kernels/ops.h"
#include "src/base/macros.h"
#include "src/device/op_check.h"
#include "src/device/submission.h"

namespace outrigger::cuda {

// While a recorded run begins like this one it is held. Otherwise it is launched as it comes, so that the device does not wait, and is kept
// to be recorded if it comes again.
Status CudaBackend::launch(Stream stream, const DeviceOp& op) {
  const Lock lock(mutex_);
  OTR_TRY(enter(lock));
  OTR_TRY(check_stream(stream));
  OTR_TRY(check_op(op));
  OTR_TRY(check_handoff(can_hand_over(), op));
  DeviceOp checked = op;
  if (Status status = translate_op(memory_, pinned_, scratch_bytes(op), &checked); !status.is_ok()) return fail(lock, std::move(status));
  const auto which = static_cast<size_t>(stream);
  Submitted& submitted = submitted_[which];
  OperationRun& run = submitted.run;
  if (run.is_full()) OTR_TRY(flush(lock, which));
  run.add(checked);
  ++counts_.operations;
  counts_.handoffs += kind_of(op) == DeviceOpKind::kSend;
  if (submitted.is_held) {
    if (runs_.begins(run, streams_[which], &submitted.candidate)) return {};
    submitted.is_held = false;
    OTR_TRY(launch_held(lock, which, run.size() - 1));
  }
  Status status = launch_now(lock, which, checked);
  if (!status.is_ok()) run.spoil();
  return status;
}

// What may be joined waits for what comes next.
Status CudaBackend::launch_now(const Lock& lock, size_t which, const DeviceOp& op) {
  JoinedOps& joined = submitted_[which].joined;
  if (joined.add(op)) return {};
  OTR_TRY(launch_joined(lock, which));
  if (joined.add(op)) return {};
  streams_[which].note_work();
  ++counts_.launches;
  const Launcher launcher = launcher_of(which);
  const CudaCode code = std::visit([&launcher](const auto& args) { return launch_op(launcher, args); }, op);
  return ended(lock, code, device_op_name(kind_of(op)));
}

DeviceWorkCounts CudaBackend::work() const {
  const Lock lock(mutex_);
  return counts_;
}

// The callers of what is launched later were told that it is submitted, so that whatever loses it stays.
Status CudaBackend::lose(const Lock& lock, const Status& status) {
  return status.is_ok() ? status : fail(lock, Status(StatusCode::kDevice, status.message()));
}

Status CudaBackend::launch_joined(const Lock& lock, size_t which) {
  JoinedOps& joined = submitted_[which].joined;
  if (joined.is_empty()) return {};
  streams_[which].note_work();
  counts_.launches += joined.launches();
  return lose(lock, ended(lock, joined.launch(launcher_of(which)), "launching"));
}

Status CudaBackend::launch_held(const Lock& lock, size_t which, size_t count) {
  for (const DeviceOp& op : submitted_[which].run.operations().first(count)) OTR_TRY(lose(lock, launch_now(lock, which, op)));
  return {};
}

Status CudaBackend::flush(const Lock& lock, size_t which) {
  if (which >= kStreams || submitted_[which].run.size() == 0) return {};
  Submitted& submitted = submitted_[which];
  CudaStream& stream = streams_[which];
  Status status;
  if (submitted.is_held && runs_.replay(submitted.run, stream)) {
    ++counts_.launches, ++counts_.graphs;
    counts_.graph_operations += submitted.run.size();
  } else {
    if (submitted.is_held) status = launch_held(lock, which, submitted.run.size());
    if (status.is_ok()) status = launch_joined(lock, which);
    if (status.is_ok() && failure_.is_ok()) runs_.note(submitted.run, stream, launcher_of(which));
  }
  submitted.run.clear();
  submitted.is_held = true;
  return status;
}

}  // namespace outrigger::cuda
