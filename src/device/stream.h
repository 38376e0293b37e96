// Streams and events: the order of a device's work.
#ifndef OUTRIGGER_SRC_DEVICE_STREAM_H_
#define OUTRIGGER_SRC_DEVICE_STREAM_H_

#include <cstddef>
#include <cstdint>

namespace outrigger {

/// A queue of a device's work, done in the order it was submitted; streams run beside each other. Each takes any kind of work: the names
/// say what each is for.
enum class Stream : uint8_t {
  kCompute,
  kToDevice,  ///< copies from the host
  kToHost,    ///< copies to the host
  kDraft,     ///< a second model's computing
};
inline constexpr size_t kStreams = 4;

/// The streams of one model's work, by kind.
struct StreamSet {
  Stream compute = Stream::kCompute, to_device = Stream::kToDevice, to_host = Stream::kToHost;
};
/// A draft model's copies are few and small, and go with its computing: behind its target's they would wait for weights.
inline constexpr StreamSet kDraftStreams{Stream::kDraft, Stream::kDraft, Stream::kDraft};

/// A point in a stream: ready once all that was submitted before it is done. Plain data, nothing to free. A new one is ready at once.
///
/// It is a place in the order and not an object of the device, so that the emulated device needs no pool, and one of CUDA's events can
/// serve many: a backend that keeps a ring of them may take a later event of the same stream for an earlier one. All that an event waits
/// for was submitted before it, so that cannot make a circle.
struct Event {
  Stream stream = Stream::kCompute;
  uint64_t sequence = 0;  ///< how much work had been submitted to the stream, or how often a point of it recorded: the backend's to count
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_STREAM_H_
