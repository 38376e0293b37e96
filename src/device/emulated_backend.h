// The emulated device as a backend.
#ifndef OUTRIGGER_SRC_DEVICE_EMULATED_BACKEND_H_
#define OUTRIGGER_SRC_DEVICE_EMULATED_BACKEND_H_

#include <array>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "src/base/thread_team.h"
#include "src/device/device_arena.h"
#include "src/device/emulated_device.h"
#include "src/device/link_clock.h"
#include "src/device/work_queues.h"

namespace outrigger {

/// An engine each for computing, for the link's two directions and for the waits of handoffs, each with a thread of its own. Opened by
/// open_emulated_device.
class EmulatedBackend final : public Backend, private MemoryOwner {
 public:
  /// `team` computes, `alone` is a thread's worth of one.
  EmulatedBackend(const EmulatedDevice& device, std::unique_ptr<DeviceArena> arena, std::unique_ptr<ThreadTeam> team,
                  std::unique_ptr<ThreadTeam> alone);
  ~EmulatedBackend() override;
  /// Starts the engines. Errors: kOutOfMemory.
  Status start();

  Inventory inventory() const override;
  std::string name() const override { return "emulated"; }
  DeviceWorkCounts work() const override;
  Result<DeviceMemory> allocate(uint64_t bytes) override;
  Result<PinnedMemory> allocate_pinned(uint64_t bytes) override;
  bool supports(DeviceOpKind, PackedKind) const override { return true; }
  uint64_t scratch_bytes(const DeviceOp& op) const override;
  Status copy_to_device(Stream stream, std::byte* dst, const std::byte* src, uint64_t bytes) override;
  Status copy_to_host(Stream stream, std::byte* dst, const std::byte* src, uint64_t bytes) override;
  Status launch(Stream stream, const DeviceOp& op) override;
  Result<Event> record(Stream stream) override;
  Status wait(Stream stream, const Event& event) override;
  Result<bool> query(const Event& event) override;
  Status synchronize(const Event& event, std::chrono::nanoseconds timeout) override;

 private:
  using Lock = std::unique_lock<std::mutex>;
  void take_back(MemoryPlace place, std::byte* data, uint64_t bytes) noexcept override;
  Status copy(Stream stream, WorkEngine engine, std::byte* device, std::byte* host, uint64_t bytes);
  Status submit(Lock& lock, Stream stream, Work& work);
  Status check_event(const Event& event) const;
  void wake_submitters();
  void wake_engines();

  void run_engine(WorkEngine engine);
  // All let go of the lock while they work, and have it again when they return.
  Status compute(Lock& lock, const WorkQueues::Begun& begun);
  Status transfer(Lock& lock, const WorkQueues::Begun& begun, WorkEngine engine);
  Status hand_over(Lock& lock, const WorkQueues::Begun& begun, WorkEngine engine);
  bool wait_for_words(Lock& lock, const ReceiveArgs& args);
  bool sleep_until(Lock& lock, WorkEngine engine, std::chrono::steady_clock::time_point end);

  const EmulatedDevice device_;
  mutable std::mutex mutex_;  // of everything below but the teams, each of which is an engine's
  std::condition_variable has_progress_, has_room_;
  std::array<std::condition_variable, kWorkEngines> has_work_;
  Status failure_;
  DeviceWorkCounts counts_;
  bool is_stopping_ = false;
  size_t running_ = 0;  // engines at work
  std::array<size_t, kStreams> waiting_for_room_{};  // submitters
  std::unique_ptr<DeviceArena> arena_;
  AllocationTable pinned_;
  WorkQueues queues_;
  std::unique_ptr<ThreadTeam> team_, alone_;  // the computing engine's, and the handoffs'
  std::array<LinkClock, 2> links_;  // to the device, to the host
  std::array<std::thread, kWorkEngines> threads_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_EMULATED_BACKEND_H_
