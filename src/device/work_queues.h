// WorkQueues: what was submitted to a device's streams, and which of it may begin.
#ifndef OUTRIGGER_SRC_DEVICE_WORK_QUEUES_H_
#define OUTRIGGER_SRC_DEVICE_WORK_QUEUES_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "src/device/device_op.h"
#include "src/device/stream.h"

namespace outrigger {

/// What does the work: a part of a device that does one thing at a time, beside the others.
/// kHandoff waits for the host's words, which on a card a few threads do beside whatever computes.
enum class WorkEngine : uint8_t { kCompute, kToDevice, kToHost, kHandoff, kNone };
inline constexpr size_t kWorkEngines = 4;

struct Work {
  WorkEngine engine = WorkEngine::kNone;  ///< kNone: a wait for `event`
  Event event;
  std::byte* device = nullptr;  ///< of a copy: the device's and the host's side
  std::byte* host = nullptr;
  uint64_t bytes = 0;
  DeviceOp op;                  ///< of kCompute and kHandoff: kReceive is this one's
  std::chrono::steady_clock::time_point submitted{};
};

/// Streams in order, engines in parallel: an engine takes, of the streams whose next work is its kind, the work that was submitted first.
/// Allocates when it is made and never again. Not thread-safe: one lock is held around every call.
class WorkQueues {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  /// Of each stream: more than a step of a large model has nodes would not make anything faster.
  static constexpr size_t kDepth = 512;

  WorkQueues();

  bool has_room(Stream stream) const { return queue(stream).size < kDepth; }
  /// Half of it: what a submitter that found none waits for, so that it is not woken for every place.
  bool has_ample_room(Stream stream) const { return queue(stream).size <= kDepth / 2; }
  /// Precondition: has_room, and a wait's event is known.
  void submit(Stream stream, const Work& work);
  /// The point behind all that was submitted.
  Event last(Stream stream) const { return {stream, queue(stream).submitted}; }
  /// Whether the event is one of these queues'.
  bool is_known(const Event& event) const { return event.sequence <= queue(event.stream).submitted; }
  bool is_ready(const Event& event) const { return queue(event.stream).done >= event.sequence; }

  struct Begun {
    Stream stream;
    const Work* work;  ///< stays until finish()
    TimePoint ready;   ///< when it could have begun: after it was submitted, and what came before it ended
  };
  /// The next work for the engine, if any may begin.
  std::optional<Begun> begin(WorkEngine engine);
  /// The stream's begun work ended at `end`, in the engine's own time.
  void finish(Stream stream, TimePoint end);

 private:
  struct Queue {
    std::vector<Work> ring;
    std::vector<uint64_t> tickets;  // of each: how many were submitted, to any stream, before it
    size_t first = 0, size = 0;
    bool is_running = false;        // its first work
    uint64_t submitted = 0, done = 0;
    TimePoint ended{};              // of what was done last
  };
  Queue& queue(Stream stream) { return queues_[static_cast<size_t>(stream)]; }
  const Queue& queue(Stream stream) const { return queues_[static_cast<size_t>(stream)]; }
  static void pop(Queue& queue);
  void pass_waits();

  std::array<Queue, kStreams> queues_;
  uint64_t tickets_ = 0;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_WORK_QUEUES_H_
