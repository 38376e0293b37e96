// The emulated device by name: "emulated:memory=256MiB,link=4GB/s,latency=10us,threads=1,taken=8MiB".
#ifndef OUTRIGGER_SRC_DEVICE_EMULATED_DEVICE_H_
#define OUTRIGGER_SRC_DEVICE_EMULATED_DEVICE_H_

#include <outrigger/status.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "src/device/backend.h"

namespace outrigger {

struct EmulatedDevice {
  uint64_t memory_bytes = 0;   ///< at least 4 KiB, at most what this machine has
  double link_bytes_per_s = 0; ///< of each direction, at least 1 kB/s
  std::chrono::nanoseconds latency = std::chrono::microseconds(10);  ///< of each copy, at most 1 s; 10 us is a copy engine's
  size_t threads = 1;          ///< that compute: 1 to 256
  uint64_t taken_bytes = 0;    ///< of the memory, by the device itself as by a GPU's context: less than all of it
};

/// Reads the whole name. Errors: kInvalidArgument that quotes the part that is wrong and says what it needs.
Result<EmulatedDevice> parse_emulated_device(std::string_view device);
/// A name that reads back as the same device.
std::string emulated_device_name(const EmulatedDevice& device);

/// A device of host memory that host code cannot touch, behind a link of its own speed, computing on its own threads with the kernels of
/// src/kernels. Everything is as asynchronous as on a real one; how fast it computes says nothing about one.
/// Errors: kOutOfMemory, also for more memory than this machine has.
Result<std::unique_ptr<Backend>> open_emulated_device(const EmulatedDevice& device);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_EMULATED_DEVICE_H_
