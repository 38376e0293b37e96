// What the parts of the backends' contract share: opening one, and getting bytes onto it and back.
#ifndef OUTRIGGER_TESTS_CONTRACT_BACKEND_CASE_H_
#define OUTRIGGER_TESTS_CONTRACT_BACKEND_CASE_H_

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "src/device/backend.h"
#include "tests/support/catch.h"

namespace outrigger::contract {

/// Opens a new device of the kind under test, with at least 32 MiB.
using OpenBackend = std::function<std::unique_ptr<Backend>()>;

inline constexpr std::chrono::seconds kPatience{60};  // a busy machine under a sanitizer included

inline void require_ok(const Status& status) {
  INFO(status.to_string());
  REQUIRE(status.is_ok());
}

template <typename T>
T must(Result<T> result) {
  require_ok(result.status());
  return std::move(result).value();
}

/// How the stream's work ended: also a failure that is found out before there is an event to wait for.
inline Status outcome(Backend& backend, Stream stream) {
  const Result<Event> event = backend.record(stream);
  return event.is_ok() ? backend.synchronize(event.value(), kPatience) : event.status();
}

/// All work of all streams is done.
inline void finish(Backend& backend) {
  for (size_t i = 0; i < kStreams; ++i) require_ok(outcome(backend, static_cast<Stream>(i)));
}

inline void put(Backend& backend, std::byte* dst, const void* src, uint64_t bytes) {
  const PinnedMemory pinned = must(backend.allocate_pinned(bytes));
  std::memcpy(pinned.data(), src, bytes);
  require_ok(backend.copy_to_device(Stream::kToDevice, dst, pinned.data(), bytes));
  require_ok(backend.synchronize(must(backend.record(Stream::kToDevice)), kPatience));
}

inline void get(Backend& backend, void* dst, const std::byte* src, uint64_t bytes) {
  const PinnedMemory pinned = must(backend.allocate_pinned(bytes));
  require_ok(backend.copy_to_host(Stream::kToHost, pinned.data(), src, bytes));
  require_ok(backend.synchronize(must(backend.record(Stream::kToHost)), kPatience));
  std::memcpy(dst, pinned.data(), bytes);
}

inline std::vector<std::byte> bytes_of(Backend& backend, const DeviceMemory& memory) {
  std::vector<std::byte> bytes(memory.bytes());
  get(backend, bytes.data(), memory.data(), memory.bytes());
  return bytes;
}

/// Device memory that holds these values.
template <typename T>
DeviceMemory on_device(Backend& backend, std::span<const T> values) {
  DeviceMemory memory = must(backend.allocate(values.size_bytes()));
  put(backend, memory.data(), values.data(), values.size_bytes());
  return memory;
}

template <typename T>
T* as(const DeviceMemory& memory) {
  return reinterpret_cast<T*>(memory.data());
}

/// dst[i] += src[i] for the floats of two pieces of device memory of the same size: the simplest of operations.
inline AddArgs addition(const DeviceMemory& src, const DeviceMemory& dst) {
  const size_t count = src.bytes() / sizeof(float);
  return {as<float>(src), count, as<float>(dst), count, 1, count};
}

/// A computation on memory of its own: `most` operations, or as many as take a tenth of a millisecond each on average, but at least one: an
/// emulated GPU takes longer than that for one.
class LongWork {
 public:
  LongWork(Backend& backend, size_t most)
      : weights_(must(backend.allocate(packed_bytes(PackedKind::kF32, kRows, kColumns)))),
        src_(must(backend.allocate(kColumns * sizeof(float)))),
        dst_(must(backend.allocate(kRows * sizeof(float)))) {
    const auto start = std::chrono::steady_clock::now();
    require_ok(backend.launch(Stream::kCompute, op()));
    require_ok(outcome(backend, Stream::kCompute));
    const auto one = std::chrono::steady_clock::now() - start;
    runs_ = std::clamp<size_t>(static_cast<size_t>(most * std::chrono::microseconds(100) / one), 1, most);
  }

  DeviceOp op() const {
    MatmulArgs args{};
    args.kind = PackedKind::kF32, args.weights = weights_.data(), args.rows = kRows, args.columns = kColumns;
    // Every token reads and writes the same row; all are zeros.
    args.src = as<float>(src_), args.src_stride = kColumns, args.dst = as<float>(dst_), args.dst_stride = kRows;
    args.tokens = 1;
    return args;
  }
  void submit(Backend& backend, Stream stream) const {
    for (size_t i = 0; i < runs_; ++i) require_ok(backend.launch(stream, op()));
  }

 private:
  static constexpr size_t kRows = 1024, kColumns = 512;
  size_t runs_ = 0;
  DeviceMemory weights_, src_, dst_;
};

}  // namespace outrigger::contract

#endif  // OUTRIGGER_TESTS_CONTRACT_BACKEND_CASE_H_
