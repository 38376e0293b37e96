// CudaApi: the CUDA runtime as a table of functions. The backend and the launchers of kernels call CUDA through it alone, so that
// everything but the table of the real runtime is built, and tested against a fake device, where there is no CUDA.
#ifndef OUTRIGGER_CUDA_DEVICE_CUDA_API_H_
#define OUTRIGGER_CUDA_DEVICE_CUDA_API_H_

#include <cstddef>
#include <cstdint>

namespace outrigger::cuda {

/// Objects of the runtime; null is none.
using StreamHandle = struct StreamTag*;
using EventHandle = struct EventTag*;
using GraphHandle = struct GraphTag*;  ///< one that can be launched

/// What the runtime returns: cudaError_t's numbers, of which these have a meaning here.
using CudaCode = int;
inline constexpr CudaCode kCudaOk = 0, kCudaInvalidValue = 1, kCudaOutOfMemory = 2, kCudaNotReady = 600;
/// The file has no code for this card.
inline constexpr CudaCode kCudaInvalidFunction = 98, kCudaNoKernelImage = 209;
/// There is no driver, or an old one.
inline constexpr CudaCode kCudaInsufficientDriver = 35;

struct GridSize {
  uint32_t x = 1, y = 1, z = 1;
};

/// A kernel and what it is given. `invoke` calls it with `arguments` on the host, for the emulator; null
/// where nvcc compiled it.
struct KernelCall {
  const void* function = nullptr;
  GridSize grid;
  uint32_t block_threads = 0;
  uint32_t shared_bytes = 0;  ///< of dynamic_shared()
  void** arguments = nullptr;
  void (*invoke)(const void* function, void** arguments) = nullptr;
  uint32_t argument_count = 0;
  const size_t* argument_bytes = nullptr;
};

struct DeviceFacts {
  char name[256] = "";
  int compute_major = 0, compute_minor = 0;
  uint32_t multiprocessors = 0;
  uint64_t memory_bytes = 0;
  /// Kernels may wait for what the host writes into pinned memory: it has the host's addresses, what is written there is seen at once by
  /// both sides, and nobody ends kernels that take long.
  bool can_hand_over = false;
};

/// Each function is the runtime's of the like name (in brackets), for the calling thread's device where that matters.
struct CudaApi {
  const char* (*error_text)(CudaCode code);                                           // cudaGetErrorString
  CudaCode (*device_count)(int* count);                                               // cudaGetDeviceCount
  // Of no context, and false where that is not known: free_memory.h
  bool (*free_before)(int device, uint64_t* free_bytes);
  CudaCode (*use_device)(int device);                                                 // cudaSetDevice, and makes its context
  CudaCode (*device_facts)(int device, DeviceFacts* facts);                           // cudaGetDeviceProperties
  CudaCode (*memory)(uint64_t* free_bytes, uint64_t* total_bytes);                    // cudaMemGetInfo
  CudaCode (*allocate)(void** data, uint64_t bytes);                                  // cudaMalloc
  CudaCode (*release)(void* data);                                                    // cudaFree
  CudaCode (*pin)(void* data, uint64_t bytes);                                        // cudaHostRegister, portable and mapped
  CudaCode (*unpin)(void* data);                                                      // cudaHostUnregister
  CudaCode (*create_stream)(StreamHandle* stream, bool is_urgent);                    // cudaStreamCreateWithPriority, non-blocking
  CudaCode (*destroy_stream)(StreamHandle stream);                                    // cudaStreamDestroy
  CudaCode (*create_event)(EventHandle* event);                                       // cudaEventCreateWithFlags, no timing
  CudaCode (*destroy_event)(EventHandle event);                                       // cudaEventDestroy
  CudaCode (*record_event)(EventHandle event, StreamHandle stream);                   // cudaEventRecord
  CudaCode (*wait_event)(StreamHandle stream, EventHandle event);                     // cudaStreamWaitEvent
  CudaCode (*query_event)(EventHandle event);                                         // cudaEventQuery
  CudaCode (*copy)(StreamHandle stream, void* dst, const void* src, uint64_t bytes);  // cudaMemcpyAsync, kind by address
  CudaCode (*clear)(StreamHandle stream, void* dst, uint64_t bytes);                  // cudaMemsetAsync, zeros
  CudaCode (*launch)(StreamHandle stream, const KernelCall& call);                    // cudaLaunchKernel
  CudaCode (*allow_shared)(const void* function, uint32_t shared_bytes);              // cudaFuncSetAttribute, for more than 48 KiB
  CudaCode (*begin_capture)(StreamHandle stream);                                     // cudaStreamBeginCapture, thread-local
  CudaCode (*end_capture)(StreamHandle stream, GraphHandle* graph);                   // cudaStreamEndCapture and cudaGraphInstantiate
  CudaCode (*launch_graph)(StreamHandle stream, GraphHandle graph);                   // cudaGraphLaunch
  CudaCode (*destroy_graph)(GraphHandle graph);                                       // cudaGraphExecDestroy
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_DEVICE_CUDA_API_H_
