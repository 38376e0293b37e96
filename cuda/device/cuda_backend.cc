// A GPU as a backend: copying, waiting, failing. Its operations: cuda_launch.cc; its memory: cuda_memory.cc; opening it: cuda_open.cc.
#include "cuda/device/cuda_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "cuda/kernels/ops.h"
#include "src/base/bytes.h"
#include "src/base/macros.h"
#include "src/device/op_check.h"
#include "src/device/submission.h"

namespace outrigger::cuda {
namespace {

using Clock = std::chrono::steady_clock;

// Longer waits than this are as good as endless, and must not overflow the clock.
constexpr std::chrono::nanoseconds kLongestWait = std::chrono::hours(24 * 365);

// What lies between two looks at an event. The runtime's own waiting has no time-out; a sleep is 60 us late, so what takes less is not
// slept.
class Pauses {
 public:
  void next() {
    const Clock::time_point now = Clock::now();
    if (now - start_ < kSpin) {
      while (Clock::now() - now < kBetween) continue;  // others want the lock too
      return;
    }
    std::this_thread::sleep_for(nap_);
    nap_ = std::min(2 * nap_, kLongestNap);
  }

 private:
  static constexpr std::chrono::microseconds kSpin{50}, kBetween{1}, kLongestNap{100};
  Clock::time_point start_ = Clock::now();
  std::chrono::microseconds nap_{10};
};

// Which device the runtime has for this thread, as far as we set it.
struct ThreadDevice {
  const CudaApi* api = nullptr;
  int device = -1;
};
thread_local ThreadDevice thread_device;

bool is_no_kernel(CudaCode code) { return code == kCudaInvalidFunction || code == kCudaNoKernelImage; }

template <size_t... kIndices>
std::array<CudaStream, sizeof...(kIndices)> make_streams(const CudaApi& api, std::index_sequence<kIndices...>) {
  return {((void)kIndices, CudaStream(api))...};
}

}  // namespace

CudaBackend::CudaBackend(const CudaApi& api, const CudaDeviceOptions& options, const DeviceFacts& facts)
    : api_(api), options_(options), facts_(facts), streams_(make_streams(api, std::make_index_sequence<kStreams + 1>())), runs_(api) {}

Status CudaBackend::start() {
  OTR_TRY(open_streams());
  if (!options_.repeats_runs) return {};
  OTR_ASSIGN(device_positions_, allocate(RecordedRuns::kDeviceBytes));
  OTR_ASSIGN(host_positions_, allocate_pinned(RecordedRuns::kHostBytes));
  const Lock lock(mutex_);
  runs_.open(device_positions_.data(), host_positions_.data());
  return {};
}

Status CudaBackend::open_streams() {
  const Lock lock(mutex_);
  if (uint64_t free_bytes = 0; api_.free_before(options_.device, &free_bytes)) free_before_ = free_bytes;
  thread_device = {};  // that an earlier backend chose it is not enough: this call makes the context
  const CudaCode code = use_device();
  if (code == kCudaOutOfMemory || is_no_kernel(code)) return ended(lock, code, "opening");
  if (code != kCudaOk) {
    return Status(StatusCode::kUnavailable,
                  fmt::format("cuda:{}: {} cannot be used: {} (error {})", options_.device, facts_.name, api_.error_text(code), code));
  }
  for (size_t i = 0; i < streams_.size(); ++i) {
    // A small model's steps are short and gate the large one's.
    OTR_TRY(ended(lock, streams_[i].open(i == static_cast<size_t>(Stream::kDraft)), "making a stream"));
  }
  return {};
}

Inventory CudaBackend::inventory() const {
  Inventory inventory{fmt::format("{}:{} {}", name(), options_.device, facts_.name), facts_.memory_bytes};
  uint64_t all = 0;
  if (use_device() != kCudaOk || api_.memory(&inventory.free_bytes, &all) != kCudaOk) {
    inventory.free_bytes = 0;
    return inventory;
  }
  inventory.free_bytes = std::min(inventory.free_bytes, inventory.memory_bytes);
  inventory.taken_bytes = taken_bytes(inventory.free_bytes);
  return inventory;
}

// What others took or gave back meanwhile is taken for ours: it is measured when a machine's profile is, and then once.
uint64_t CudaBackend::taken_bytes(uint64_t free_bytes) const {
  const Lock lock(mutex_);
  if (!free_before_) return 0;
  uint64_t allocated = 0;
  for (const auto& [address, bytes] : memory_.ranges()) allocated += bytes;
  return *free_before_ - std::min(*free_before_, free_bytes + allocated);
}

uint64_t CudaBackend::scratch_bytes(const DeviceOp& op) const {
  const auto* const attention = std::get_if<AttentionArgs>(&op);
  return attention != nullptr ? attention_scratch_on_device(attention->head_dim) : 0;
}

CudaCode CudaBackend::use_device() const {
  if (thread_device.api == &api_ && thread_device.device == options_.device) return kCudaOk;
  const CudaCode code = api_.use_device(options_.device);
  if (code == kCudaOk) thread_device = {&api_, options_.device};
  return code;
}

Status CudaBackend::enter(const Lock& lock) {
  if (!failure_.is_ok()) return failure_;
  return ended(lock, use_device(), "choosing the device");
}

Status CudaBackend::fail(const Lock&, Status status) {
  if (failure_.is_ok()) failure_ = std::move(status);
  return failure_;
}

Status CudaBackend::out_of_memory(uint64_t needed_bytes) const {
  uint64_t free_bytes = 0, all = 0;
  if (api_.memory(&free_bytes, &all) != kCudaOk) free_bytes = 0;
  const std::string needed = needed_bytes > 0 ? format_bytes(needed_bytes) : "memory of its own";
  return Status(StatusCode::kOutOfMemory, fmt::format("cuda:{}: needs {}, and {} of {} are free", options_.device, needed,
                                                      format_bytes(free_bytes), format_bytes(facts_.memory_bytes)))
      .with_bytes(needed_bytes, free_bytes);
}

Status CudaBackend::ended(const Lock& lock, CudaCode code, const char* call, uint64_t needed_bytes) {
  if (code == kCudaOk) return {};
  if (code == kCudaOutOfMemory) return out_of_memory(needed_bytes);
  if (is_no_kernel(code)) {
    return fail(lock, Status(StatusCode::kUnavailable,
                             fmt::format("cuda:{}: {} is of compute capability {}.{}, and this build has kernels for {}; build with "
                                         "-DOTR_CUDA_ARCHITECTURES={}{}",
                                         options_.device, facts_.name, facts_.compute_major, facts_.compute_minor, options_.architectures,
                                         facts_.compute_major, facts_.compute_minor)));
  }
  return fail(lock,
              Status(StatusCode::kDevice, fmt::format("cuda:{}: {}: {} (error {})", options_.device, call, api_.error_text(code), code)));
}

// Pinned memory is known to the runtime in pieces, and no copy may cross from one into the next.
Status CudaBackend::copy(Stream which, std::byte* dst, const std::byte* src, const std::byte* device, const std::byte* host,
                         uint64_t bytes) {
  const Lock lock(mutex_);
  OTR_TRY(enter(lock));
  OTR_TRY(check_stream(which));
  if (bytes == 0) return {};
  OTR_TRY(check_pinned(pinned_, host, bytes));
  OTR_TRY(flush(lock, static_cast<size_t>(which)));
  if (memory_.find(device, bytes) == nullptr) return fail(lock, illegal_address(device, bytes));
  CudaStream& stream = streams_[static_cast<size_t>(which)];
  for (uint64_t done = 0, some; done < bytes; done += some) {
    some = std::min(bytes - done, pinned_piece_bytes(host + done));
    stream.note_work();
    OTR_TRY(ended(lock, api_.copy(stream.handle(), dst + done, src + done, some), "copying"));
  }
  return {};
}

Status CudaBackend::copy_to_device(Stream stream, std::byte* dst, const std::byte* src, uint64_t bytes) {
  return copy(stream, dst, src, dst, src, bytes);
}
Status CudaBackend::copy_to_host(Stream stream, std::byte* dst, const std::byte* src, uint64_t bytes) {
  return copy(stream, dst, src, src, dst, bytes);
}

Result<Event> CudaBackend::record(Stream which) {
  const Lock lock(mutex_);
  OTR_TRY(enter(lock));
  OTR_TRY(check_stream(which));
  OTR_TRY(flush(lock, static_cast<size_t>(which)));
  Event event{which, 0};
  OTR_TRY(ended(lock, streams_[static_cast<size_t>(which)].record(&event.sequence), "recording an event"));
  return event;
}

Status CudaBackend::check_event(const Event& event) const {
  OTR_TRY(check_stream(event.stream));
  if (streams_[static_cast<size_t>(event.stream)].is_known(event.sequence)) return {};
  return Status(StatusCode::kInvalidArgument, "event: got one of another device, need one that this device recorded");
}

Status CudaBackend::wait(Stream which, const Event& event) {
  const Lock lock(mutex_);
  OTR_TRY(enter(lock));
  OTR_TRY(check_event(event));
  OTR_TRY(check_stream(which));
  OTR_TRY(flush(lock, static_cast<size_t>(which)));
  CudaStream& waiting = streams_[static_cast<size_t>(which)];
  return ended(lock, streams_[static_cast<size_t>(event.stream)].make_wait(waiting, event.sequence), "waiting for an event");
}

Result<bool> CudaBackend::query(const Event& event) {
  const Lock lock(mutex_);
  OTR_TRY(enter(lock));
  OTR_TRY(check_event(event));
  const CudaCode code = streams_[static_cast<size_t>(event.stream)].query(event.sequence);
  if (code == kCudaNotReady) return false;
  OTR_TRY(ended(lock, code, "asking for an event"));
  return true;
}

Status CudaBackend::synchronize(const Event& event, std::chrono::nanoseconds timeout) {
  const Clock::time_point deadline = Clock::now() + std::clamp(timeout, std::chrono::nanoseconds(0), kLongestWait);
  for (Pauses pauses;; pauses.next()) {
    OTR_ASSIGN(const bool is_ready, query(event));
    if (is_ready) return {};
    if (Clock::now() < deadline) continue;
    return Status(StatusCode::kDevice,
                  fmt::format("cuda:{}: not done after {:.3f} s", options_.device, std::chrono::duration<double>(timeout).count()));
  }
}

// Whatever was found wrong meanwhile: what runs on the device uses memory none the less. Without memory for asking it is asked again.
Status CudaBackend::finish(size_t stream) {
  const Clock::time_point deadline = Clock::now() + options_.patience;
  uint64_t point = 0;
  bool is_recorded = false;
  for (Pauses pauses;; pauses.next()) {
    const Lock lock(mutex_);
    CudaCode code = use_device();
    if (code == kCudaOk && !flush(lock, stream).is_ok()) return failure_;
    if (code == kCudaOk && !is_recorded) code = streams_[stream].record(&point);
    if (code == kCudaOk) {
      is_recorded = true;
      code = streams_[stream].query(point);
    }
    if (code != kCudaNotReady && code != kCudaOutOfMemory) return ended(lock, code, "finishing");
    if (Clock::now() < deadline) continue;
    is_lost_ = true;
    return fail(lock, Status(StatusCode::kDevice, fmt::format("cuda:{}: not done after {:.3f} s, and given up", options_.device,
                                                              std::chrono::duration<double>(options_.patience).count())));
  }
}

void CudaBackend::finish_all() noexcept {
  for (size_t i = 0; i < streams_.size(); ++i) {
    {
      const Lock lock(mutex_);
      if (is_lost_ || streams_[i].handle() == nullptr) return;
    }
    (void)finish(i);
  }
}

}  // namespace outrigger::cuda
