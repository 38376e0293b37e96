// Lanes while others run.
#include "src/device/measure_busy.h"

#include <atomic>
#include <exception>
#include <thread>
#include <utility>

#include "src/base/blocked_signals.h"
#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/device/measure_disk.h"
#include "src/device/samples.h"

namespace outrigger {
namespace {

constexpr std::chrono::seconds kPatience{60};

// A lane on a thread of its own. work(stop) -> Status runs until it is done or stop is true.
class Lane {
 public:
  template <typename Work>
  Status start(Work work) try {
    const BlockedSignals blocked;
    thread_ = std::thread([this, work] {
      status_ = work(stop_);
      is_done_ = true;
    });
    return {};
  } catch (const std::exception& refused) {
    return Status(StatusCode::kOutOfMemory, formatted("the system refused a thread to measure with ({})", refused.what()));
  }
  ~Lane() { (void)end(); }

  bool is_done() const { return is_done_; }
  Status end() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    return std::exchange(status_, Status());
  }

 private:
  std::atomic<bool> stop_ = false, is_done_ = false;
  Status status_;  // the thread's until it is joined
  std::thread thread_;
};

// A chunk each way at a time, as a step's streamed weights and handed over activations.
Status keep_link_busy(Backend& device, const std::atomic<bool>& stop) {
  constexpr uint64_t kChunk = 1_MiB;
  OTR_ASSIGN(const DeviceMemory memory, device.allocate(2 * kChunk));
  OTR_ASSIGN(const PinnedMemory pinned, device.allocate_pinned(2 * kChunk));
  while (!stop) {
    OTR_TRY(device.copy_to_device(Stream::kToDevice, memory.data(), pinned.data(), kChunk));
    OTR_TRY(device.copy_to_host(Stream::kToHost, pinned.data() + kChunk, memory.data() + kChunk, kChunk));
    OTR_ASSIGN(const Event sent, device.record(Stream::kToDevice));
    OTR_ASSIGN(const Event received, device.record(Stream::kToHost));
    OTR_TRY(device.synchronize(sent, kPatience));
    OTR_TRY(device.synchronize(received, kPatience));
  }
  return {};
}

}  // namespace

Status measure_busy(Backend& host, ThreadTeam& team, const HostProduct& product, const BusyLanes& lanes, double seconds,
                    MachineProfile* profile) {
  const bool has_disk = !lanes.disk_path.empty();
  if (!has_disk && lanes.device == nullptr) return {};
  Rate disk_rate;  // outlives the lane that writes it
  Lane link, disk;
  if (lanes.device != nullptr) {
    OTR_TRY(link.start([device = lanes.device](const std::atomic<bool>& stop) { return keep_link_busy(*device, stop); }));
  }
  product.run(team);  // so that the disk finds the host at work
  if (has_disk) {
    OTR_TRY(disk.start([&](const std::atomic<bool>&) -> Status {
      OTR_ASSIGN(disk_rate, measure_disk(host, lanes.disk_path, seconds));
      return {};
    }));
  }
  Samples samples;
  const auto since = [](auto start) { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  const auto begin = std::chrono::steady_clock::now();
  do {
    product.evict(team);
    const auto start = std::chrono::steady_clock::now();
    product.run(team);
    samples.add(static_cast<double>(product.weight_bytes()), since(start));
  } while (has_disk ? !disk.is_done() : since(begin) < seconds);
  OTR_TRY(disk.end());
  OTR_TRY(link.end());

  const char* const beside = !has_disk                 ? "the link copies both ways"
                             : lanes.device == nullptr ? "the disk reads"
                                                       : "the disk reads and the link copies both ways";
  profile->host_stream_bytes_busy = samples.rate(formatted("one token's product with {} of Q4_1 weights, {} threads, while {}",
                                                           format_bytes(product.weight_bytes()), team.threads(), beside));
  if (!has_disk) return {};
  disk_rate.how += formatted(", while {} threads compute", team.threads());
  profile->disk_bytes_busy = std::move(disk_rate);
  return {};
}

}  // namespace outrigger
