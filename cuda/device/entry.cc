// The shared object's one function.
#include <cstdlib>
#include <string_view>

#include "cuda/device/cuda_backend.h"
#include "cuda/device/runtime_api.h"
#include "src/device/cuda_interface.h"

namespace outrigger {
namespace {

// Read by the driver as it starts: before the first call of the runtime. What the user has set stays.
void set_up_driver() {
  // A kernel that is loaded when it is first launched waits for those that run: a stall in the middle of a step.
  (void)::setenv("CUDA_MODULE_LOADING", "EAGER", 0);
  // Streams that share one of the 8 default queues to the device wait for each other.
  (void)::setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const char* outrigger_cuda_open(const char* interface, int device,
                                                                                  Result<std::unique_ptr<Backend>>* result) {
  if (std::string_view(interface) != kCudaInterface) return kCudaInterface;
  [[maybe_unused]] static const bool is_set_up = (set_up_driver(), true);
  cuda::CudaDeviceOptions options;
  options.device = device;
  options.architectures = OTR_CUDA_ARCHITECTURES;
  // Worth a tenth of a decoding step of 5 ms: design/0017.
  const char* const graphs = std::getenv("OUTRIGGER_CUDA_GRAPHS");
  options.repeats_runs = graphs == nullptr || std::string_view(graphs) != "0";
  const char* const handoff = std::getenv("OUTRIGGER_CUDA_HANDOFF");
  options.hands_over = handoff == nullptr || std::string_view(handoff) != "0";
  *result = cuda::open_cuda_device(cuda::runtime_api(), options);
  return kCudaInterface;
}
static_assert(std::is_same_v<decltype(&outrigger_cuda_open), CudaOpen>);

}  // namespace outrigger
