// The choice of a backend by name.
#include "src/device/backend.h"

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/device/cpu_backend.h"
#include "src/device/cuda_loader.h"
#include "src/device/emulated_device.h"

namespace outrigger {

Result<std::unique_ptr<Backend>> open_backend(const std::string& device) {
  if (device == "cpu") return make_cpu_backend();
  if (device == "cuda" || device.starts_with("cuda:")) return open_cuda_backend(device);
  if (device == "emulated" || device.starts_with("emulated:")) {
    OTR_ASSIGN(const EmulatedDevice emulated, parse_emulated_device(device));
    return open_emulated_device(emulated);
  }
  return Status(
      StatusCode::kInvalidArgument,
      formatted(
          "device: got \"{}\", need \"cpu\", \"cuda[:N]\" or \"emulated:memory=SIZE,link=RATE[,latency=TIME][,threads=N][,taken=SIZE]\"",
          device));
}

}  // namespace outrigger
