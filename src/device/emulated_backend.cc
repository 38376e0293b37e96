// The emulated device: three engines, each a thread, that take work from the streams.
#include "src/device/emulated_backend.h"

#include <unistd.h>
#if defined(__linux__)
#include <sys/prctl.h>
#endif

#include <algorithm>
#include <cstring>
#include <exception>

#include "src/base/blocked_signals.h"
#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/device/host_pages.h"
#include "src/device/op_check.h"
#include "src/device/op_run.h"
#include "src/device/submission.h"

namespace outrigger {
namespace {

using Clock = std::chrono::steady_clock;

// Longer waits than this are as good as endless, and must not overflow the clock.
constexpr std::chrono::nanoseconds kLongestWait = std::chrono::hours(24 * 365);

// Sleeping threads are woken up to 50 us late unless they ask for better: the time of a copy of 200 KB at 4 GB/s.
void ask_for_exact_timers() {
#if defined(__linux__)
  ::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
#endif
}

}  // namespace

EmulatedBackend::EmulatedBackend(const EmulatedDevice& device, std::unique_ptr<DeviceArena> arena, std::unique_ptr<ThreadTeam> team,
                                 std::unique_ptr<ThreadTeam> alone)
    : device_(device),
      arena_(std::move(arena)),
      team_(std::move(team)),
      alone_(std::move(alone)),
      links_{LinkClock(device.link_bytes_per_s, device.latency), LinkClock(device.link_bytes_per_s, device.latency)} {}

EmulatedBackend::~EmulatedBackend() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  for (std::condition_variable& condition : has_work_) condition.notify_all();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

Status EmulatedBackend::start() try {
  const BlockedSignals blocked;
  for (size_t i = 0; i < kWorkEngines; ++i) threads_[i] = std::thread([this, i] { run_engine(static_cast<WorkEngine>(i)); });
  return {};
} catch (const std::exception& refused) {
  return Status(StatusCode::kOutOfMemory, formatted("the system refused a thread of the emulated device ({})", refused.what()));
}

Inventory EmulatedBackend::inventory() const {
  const std::lock_guard lock(mutex_);
  return {emulated_device_name(device_), arena_->capacity() + device_.taken_bytes, arena_->free_bytes(), false, device_.taken_bytes};
}

DeviceWorkCounts EmulatedBackend::work() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

Result<DeviceMemory> EmulatedBackend::allocate(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (!failure_.is_ok()) return failure_;
  if (bytes == 0) return DeviceMemory();
  OTR_ASSIGN(std::byte* const data, arena_->take(bytes));
  return DeviceMemory(this, data, bytes);
}

Result<PinnedMemory> EmulatedBackend::allocate_pinned(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (!failure_.is_ok()) return failure_;
  if (bytes == 0) return PinnedMemory();
  std::byte* const data = map_host_pages(bytes);
  if (data != nullptr && pinned_.insert(data, bytes)) return PinnedMemory(this, data, bytes);
  if (data != nullptr) unmap_host_pages(data, bytes);
  return Status(StatusCode::kOutOfMemory, formatted("the system refused {} of host memory for copies", format_bytes(bytes)));
}

// Once all that was submitted before is done, nothing can still use the memory.
void EmulatedBackend::take_back(MemoryPlace place, std::byte* data, uint64_t bytes) noexcept {
  std::unique_lock lock(mutex_);
  for (size_t i = 0; i < kStreams; ++i) {
    const Event all = queues_.last(static_cast<Stream>(i));
    has_progress_.wait(lock, [this, &all] { return !failure_.is_ok() || queues_.is_ready(all); });
  }
  // What runs while the device fails is not dropped but ends, soon.
  has_progress_.wait(lock, [this] { return failure_.is_ok() || running_ == 0; });
  if (place == MemoryPlace::kDevice) return arena_->give_back(data, bytes);
  pinned_.erase(data);
  unmap_host_pages(data, bytes);
}

uint64_t EmulatedBackend::scratch_bytes(const DeviceOp& op) const {
  const auto* const attention = std::get_if<AttentionArgs>(&op);
  return attention != nullptr ? device_.threads * attention_scratch_bytes(attention->head_dim) : 0;
}

Status EmulatedBackend::copy(Stream stream, WorkEngine engine, std::byte* device, std::byte* host, uint64_t bytes) {
  std::unique_lock lock(mutex_);
  if (!failure_.is_ok()) return failure_;
  OTR_TRY(check_stream(stream));
  if (bytes == 0) return {};
  OTR_TRY(check_pinned(pinned_, host, bytes));
  Work work;
  work.engine = engine;
  work.device = device, work.host = host, work.bytes = bytes;
  return submit(lock, stream, work);
}

Status EmulatedBackend::copy_to_device(Stream stream, std::byte* dst, const std::byte* src, uint64_t bytes) {
  return copy(stream, WorkEngine::kToDevice, dst, const_cast<std::byte*>(src), bytes);  // only read: the engine says which side is which
}
Status EmulatedBackend::copy_to_host(Stream stream, std::byte* dst, const std::byte* src, uint64_t bytes) {
  return copy(stream, WorkEngine::kToHost, const_cast<std::byte*>(src), dst, bytes);
}

Status EmulatedBackend::launch(Stream stream, const DeviceOp& op) {
  std::unique_lock lock(mutex_);
  if (!failure_.is_ok()) return failure_;
  OTR_TRY(check_stream(stream));
  OTR_TRY(check_op(op));
  Work work;
  work.engine = kind_of(op) == DeviceOpKind::kReceive ? WorkEngine::kHandoff : WorkEngine::kCompute;
  work.op = op;
  OTR_TRY(submit(lock, stream, work));
  ++counts_.operations, ++counts_.launches;
  counts_.handoffs += kind_of(op) == DeviceOpKind::kSend;
  return {};
}

// An event lies behind what was submitted before it, so what makes room never depends on what waits for it here.
Status EmulatedBackend::submit(Lock& lock, Stream stream, Work& work) {
  while (!queues_.has_room(stream)) {
    size_t& waiting = waiting_for_room_[static_cast<size_t>(stream)];
    ++waiting;
    has_room_.wait(lock, [this, stream] { return !failure_.is_ok() || queues_.has_ample_room(stream); });
    --waiting;
    if (!failure_.is_ok()) return failure_;
  }
  work.submitted = Clock::now();
  queues_.submit(stream, work);
  if (work.engine == WorkEngine::kNone) {
    wake_engines();
  } else {
    has_work_[static_cast<size_t>(work.engine)].notify_one();
  }
  return {};
}

void EmulatedBackend::wake_submitters() {
  for (size_t i = 0; i < kStreams; ++i) {
    const bool may_go_on = !failure_.is_ok() || queues_.has_ample_room(static_cast<Stream>(i));
    if (waiting_for_room_[i] > 0 && may_go_on) return has_room_.notify_all();
  }
}

void EmulatedBackend::wake_engines() {
  for (std::condition_variable& condition : has_work_) condition.notify_one();
}

Status EmulatedBackend::check_event(const Event& event) const {
  if (!failure_.is_ok()) return failure_;
  OTR_TRY(check_stream(event.stream));
  if (queues_.is_known(event)) return {};
  return Status(StatusCode::kInvalidArgument, "event: got one of another device, need one that this device recorded");
}

Result<Event> EmulatedBackend::record(Stream stream) {
  const std::lock_guard lock(mutex_);
  if (!failure_.is_ok()) return failure_;
  OTR_TRY(check_stream(stream));
  return queues_.last(stream);
}

Status EmulatedBackend::wait(Stream stream, const Event& event) {
  std::unique_lock lock(mutex_);
  OTR_TRY(check_event(event));
  OTR_TRY(check_stream(stream));
  if (event.stream == stream || queues_.is_ready(event)) return {};
  Work work;
  work.event = event;
  return submit(lock, stream, work);
}

Result<bool> EmulatedBackend::query(const Event& event) {
  const std::lock_guard lock(mutex_);
  OTR_TRY(check_event(event));
  return queues_.is_ready(event);
}

Status EmulatedBackend::synchronize(const Event& event, std::chrono::nanoseconds timeout) {
  const Clock::time_point deadline = Clock::now() + std::clamp(timeout, std::chrono::nanoseconds(0), kLongestWait);
  std::unique_lock lock(mutex_);
  OTR_TRY(check_event(event));
  if (has_progress_.wait_until(lock, deadline, [this, &event] { return !failure_.is_ok() || queues_.is_ready(event); })) return failure_;
  return Status(StatusCode::kDevice, formatted("device: not done after {:.3f} s", std::chrono::duration<double>(timeout).count()));
}

void EmulatedBackend::run_engine(WorkEngine engine) {
  ask_for_exact_timers();
  std::condition_variable& has_work = has_work_[static_cast<size_t>(engine)];
  std::unique_lock lock(mutex_);
  for (;;) {
    std::optional<WorkQueues::Begun> begun;
    has_work.wait(lock, [&] { return is_stopping_ || (failure_.is_ok() && (begun = queues_.begin(engine))); });
    if (is_stopping_) return;
    ++running_;
    const bool copies = engine == WorkEngine::kToDevice || engine == WorkEngine::kToHost;
    const Status status = copies                                 ? transfer(lock, *begun, engine)
                          : is_handoff(kind_of(begun->work->op)) ? hand_over(lock, *begun, engine)
                                                                 : compute(lock, *begun);
    --running_;
    if (!status.is_ok() && failure_.is_ok()) failure_ = status;
    has_progress_.notify_all();
    wake_submitters();
    wake_engines();
  }
}

Status EmulatedBackend::compute(Lock& lock, const WorkQueues::Begun& begun) {
  DeviceOp op = begun.work->op;
  OTR_TRY(translate_op(arena_->table(), pinned_, scratch_bytes(op), &op));
  lock.unlock();
  team_->run_elastic([&op](const TeamMember& member) { run_op(op, member); });
  lock.lock();
  queues_.finish(begun.stream, Clock::now());
  return {};
}

Status EmulatedBackend::transfer(Lock& lock, const WorkQueues::Begun& begun, WorkEngine engine) {
  const Work& work = *begun.work;
  std::byte* const device = arena_->table().find(work.device, work.bytes);
  if (device == nullptr) return illegal_address(work.device, work.bytes);
  const bool is_to_device = engine == WorkEngine::kToDevice;
  const Clock::time_point end = links_[is_to_device ? 0 : 1].next_end(begun.ready, work.bytes);
  std::byte* const host = work.host;
  const uint64_t bytes = work.bytes;
  lock.unlock();
  std::memcpy(is_to_device ? device : host, is_to_device ? host : device, bytes);
  lock.lock();
  if (sleep_until(lock, engine, end)) queues_.finish(begun.stream, end);
  return {};
}

// False when nothing is to be done any more.
bool EmulatedBackend::sleep_until(Lock& lock, WorkEngine engine, Clock::time_point end) {
  return !has_work_[static_cast<size_t>(engine)].wait_until(lock, end, [this] { return is_stopping_ || !failure_.is_ok(); });
}

Result<std::unique_ptr<Backend>> open_emulated_device(const EmulatedDevice& device) {
  const uint64_t most =
      static_cast<uint64_t>(std::max(0L, ::sysconf(_SC_PHYS_PAGES))) * static_cast<uint64_t>(std::max(0L, ::sysconf(_SC_PAGESIZE)));
  if (device.memory_bytes > most) {
    return Status(StatusCode::kOutOfMemory,
                  formatted("device: memory: got {}, need at most this machine's {}, of which it takes what is used",
                            format_bytes(device.memory_bytes), format_bytes(most)))
        .with_bytes(device.memory_bytes, most);
  }
  OTR_ASSIGN(std::unique_ptr<DeviceArena> arena, DeviceArena::create(device.memory_bytes - device.taken_bytes));
  OTR_ASSIGN(std::unique_ptr<ThreadTeam> team, ThreadTeam::create(device.threads));
  OTR_ASSIGN(std::unique_ptr<ThreadTeam> alone, ThreadTeam::create(1));
  auto backend = std::make_unique<EmulatedBackend>(device, std::move(arena), std::move(team), std::move(alone));
  OTR_TRY(backend->start());
  return std::unique_ptr<Backend>(std::move(backend));
}

}  // namespace outrigger
