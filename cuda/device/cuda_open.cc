// Opening a GPU, and what is said when there is none that can be used.
#include <fmt/format.h>

#include "cuda/device/cuda_backend.h"
#include "src/base/macros.h"

namespace outrigger::cuda {
namespace {

// Turing, the first with products of 8-bit integers in its tensor cores.
constexpr int kLeastMajor = 7, kLeastMinor = 5;

Status unavailable(int device, const std::string& why) { return Status(StatusCode::kUnavailable, fmt::format("cuda:{}: {}", device, why)); }

Result<DeviceFacts> find_device(const CudaApi& api, int device) {
  int count = 0;
  if (const CudaCode code = api.device_count(&count); code != kCudaOk) {
    // The runtime's text speaks of an old driver also where there is none.
    const char* const why =
        code == kCudaInsufficientDriver ? "there is no NVIDIA driver, or one that is older than this build's CUDA" : api.error_text(code);
    return unavailable(device, fmt::format("no GPU can be used: {} (error {}); nvidia-smi shows what there is", why, code));
  }
  if (count == 0) return unavailable(device, "there is no GPU; nvidia-smi and CUDA_VISIBLE_DEVICES tell which can be seen");
  if (device < 0 || device >= count) {
    return unavailable(device, fmt::format("there {}; CUDA_VISIBLE_DEVICES may hide others",
                                           count == 1 ? "is only cuda:0" : fmt::format("are only cuda:0 to cuda:{}", count - 1)));
  }
  DeviceFacts facts;
  if (const CudaCode code = api.device_facts(device, &facts); code != kCudaOk) {
    return unavailable(device, fmt::format("it cannot be asked what it is: {} (error {})", api.error_text(code), code));
  }
  if (facts.compute_major < kLeastMajor || (facts.compute_major == kLeastMajor && facts.compute_minor < kLeastMinor)) {
    return unavailable(device, fmt::format("{} is of compute capability {}.{}, need {}.{} or later", facts.name, facts.compute_major,
                                           facts.compute_minor, kLeastMajor, kLeastMinor));
  }
  return facts;
}

// Loading kernels that the card cannot run fails only with the first of them, so one is run: 0 + 0.
Status run_a_kernel(Backend& backend, std::chrono::nanoseconds patience) {
  OTR_ASSIGN(const DeviceMemory memory, backend.allocate(2 * sizeof(float)));
  auto* const floats = reinterpret_cast<float*>(memory.data());
  OTR_TRY(backend.launch(Stream::kCompute, AddArgs{floats, 1, floats + 1, 1, 1, 1}));
  OTR_ASSIGN(const Event done, backend.record(Stream::kCompute));
  return backend.synchronize(done, patience);
}

}  // namespace

Result<std::unique_ptr<Backend>> open_cuda_device(const CudaApi& api, const CudaDeviceOptions& options) {
  OTR_ASSIGN(const DeviceFacts facts, find_device(api, options.device));
  auto backend = std::make_unique<CudaBackend>(api, options, facts);
  OTR_TRY(backend->start());
  OTR_TRY(run_a_kernel(*backend, options.patience));
  return std::unique_ptr<Backend>(std::move(backend));
}

}  // namespace outrigger::cuda
