// The table of the real CUDA runtime: the only file that knows it.
#include "cuda/device/runtime_api.h"

#include <cuda_runtime_api.h>

#include <cstdio>
#include <string_view>
#include <utility>

#include "cuda/device/free_memory.h"

namespace outrigger::cuda {
namespace {

static_assert(kCudaOk == cudaSuccess && kCudaOutOfMemory == cudaErrorMemoryAllocation && kCudaNotReady == cudaErrorNotReady);
static_assert(kCudaInsufficientDriver == cudaErrorInsufficientDriver);
static_assert(kCudaInvalidFunction == cudaErrorInvalidDeviceFunction && kCudaNoKernelImage == cudaErrorNoKernelImageForDevice);

cudaStream_t of(StreamHandle stream) { return reinterpret_cast<cudaStream_t>(stream); }
cudaEvent_t of(EventHandle event) { return reinterpret_cast<cudaEvent_t>(event); }
cudaGraphExec_t of(GraphHandle graph) { return reinterpret_cast<cudaGraphExec_t>(graph); }

// Windows' driver, which also serves Linux within Windows, lets the host see what a kernel wrote when the kernel has ended, or later.
bool is_within_windows() {
  std::FILE* const file = std::fopen("/proc/version", "re");
  if (file == nullptr) return true;
  char version[512] = "";
  const size_t length = std::fread(version, 1, sizeof version - 1, file);
  (void)std::fclose(file);
  const std::string_view text(version, length);
  return text.find("icrosoft") != std::string_view::npos;
}

// A card that shows a screen ends kernels that take long.
CudaCode find_handoff(int device, bool* can_hand_over) {
  int maps = 0, has_same_addresses = 0, is_watched = 0;
  for (const auto& [value, attribute] : {std::pair(&maps, cudaDevAttrCanMapHostMemory),
                                         {&has_same_addresses, cudaDevAttrCanUseHostPointerForRegisteredMem},
                                         {&is_watched, cudaDevAttrKernelExecTimeout}}) {
    if (const cudaError_t code = cudaDeviceGetAttribute(value, attribute, device); code != cudaSuccess) return code;
  }
  *can_hand_over = maps != 0 && has_same_addresses != 0 && is_watched == 0 && !is_within_windows();
  return kCudaOk;
}

CudaCode device_facts(int device, DeviceFacts* facts) {
  cudaDeviceProp properties;
  if (const cudaError_t code = cudaGetDeviceProperties(&properties, device); code != cudaSuccess) return code;
  std::snprintf(facts->name, sizeof facts->name, "%s", properties.name);
  facts->compute_major = properties.major;
  facts->compute_minor = properties.minor;
  facts->multiprocessors = static_cast<uint32_t>(properties.multiProcessorCount);
  facts->memory_bytes = properties.totalGlobalMem;
  return find_handoff(device, &facts->can_hand_over);
}

bool free_before(int device, uint64_t* free_bytes) {
  char bus_id[32] = "";
  return cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, device) == cudaSuccess && free_memory_of(bus_id, free_bytes);
}

CudaCode memory(uint64_t* free_bytes, uint64_t* total_bytes) {
  size_t free = 0, total = 0;
  const cudaError_t code = cudaMemGetInfo(&free, &total);
  *free_bytes = free;
  *total_bytes = total;
  return code;
}

CudaCode create_stream(StreamHandle* stream, bool is_urgent) {
  int least = 0, greatest = 0;
  if (const cudaError_t code = cudaDeviceGetStreamPriorityRange(&least, &greatest); code != cudaSuccess) return code;
  return cudaStreamCreateWithPriority(reinterpret_cast<cudaStream_t*>(stream), cudaStreamNonBlocking, is_urgent ? greatest : least);
}

CudaCode launch(StreamHandle stream, const KernelCall& call) {
  return cudaLaunchKernel(call.function, dim3(call.grid.x, call.grid.y, call.grid.z), dim3(call.block_threads), call.arguments,
                          call.shared_bytes, of(stream));
}

CudaCode allow_shared(const void* function, uint32_t shared_bytes) {
  return cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
}

CudaCode end_capture(StreamHandle stream, GraphHandle* graph) {
  cudaGraph_t recorded = nullptr;
  if (const cudaError_t code = cudaStreamEndCapture(of(stream), &recorded); code != cudaSuccess) return code;
  const cudaError_t code = cudaGraphInstantiate(reinterpret_cast<cudaGraphExec_t*>(graph), recorded, 0);
  (void)cudaGraphDestroy(recorded);
  return code;
}

constexpr CudaApi kApi = {
    .error_text = [](CudaCode code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); },
    .device_count = [](int* count) -> CudaCode { return cudaGetDeviceCount(count); },
    .free_before = free_before,
    .use_device = [](int device) -> CudaCode { return cudaSetDevice(device); },
    .device_facts = device_facts,
    .memory = memory,
    .allocate = [](void** data, uint64_t bytes) -> CudaCode { return cudaMalloc(data, bytes); },
    .release = [](void* data) -> CudaCode { return cudaFree(data); },
    .pin = [](void* data, uint64_t bytes) -> CudaCode {
      return cudaHostRegister(data, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped);
    },
    .unpin = [](void* data) -> CudaCode { return cudaHostUnregister(data); },
    .create_stream = create_stream,
    .destroy_stream = [](StreamHandle stream) -> CudaCode { return cudaStreamDestroy(of(stream)); },
    .create_event = [](EventHandle* event) -> CudaCode {
      return cudaEventCreateWithFlags(reinterpret_cast<cudaEvent_t*>(event), cudaEventDisableTiming);
    },
    .destroy_event = [](EventHandle event) -> CudaCode { return cudaEventDestroy(of(event)); },
    .record_event = [](EventHandle event, StreamHandle stream) -> CudaCode { return cudaEventRecord(of(event), of(stream)); },
    .wait_event = [](StreamHandle stream, EventHandle event) -> CudaCode { return cudaStreamWaitEvent(of(stream), of(event), 0); },
    .query_event = [](EventHandle event) -> CudaCode { return cudaEventQuery(of(event)); },
    .copy = [](StreamHandle stream, void* dst, const void* src, uint64_t bytes) -> CudaCode {
      return cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, of(stream));
    },
    .clear = [](StreamHandle stream, void* dst, uint64_t bytes) -> CudaCode { return cudaMemsetAsync(dst, 0, bytes, of(stream)); },
    .launch = launch,
    .allow_shared = allow_shared,
    .begin_capture = [](StreamHandle stream) -> CudaCode { return cudaStreamBeginCapture(of(stream), cudaStreamCaptureModeThreadLocal); },
    .end_capture = end_capture,
    .launch_graph = [](StreamHandle stream, GraphHandle graph) -> CudaCode { return cudaGraphLaunch(of(graph), of(stream)); },
    .destroy_graph = [](GraphHandle graph) -> CudaCode { return cudaGraphExecDestroy(of(graph)); },
};

}  // namespace

const CudaApi& runtime_api() { return kApi; }

}  // namespace outrigger::cuda
