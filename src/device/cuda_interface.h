// What the library and its CUDA backend, a shared object of its own, agree on.
#ifndef OUTRIGGER_SRC_DEVICE_CUDA_INTERFACE_H_
#define OUTRIGGER_SRC_DEVICE_CUDA_INTERFACE_H_

#include <outrigger/version.h>

#include <memory>

#include "src/device/backend.h"

namespace outrigger {

/// Must be equal on both sides, since C++ objects pass between them. The number goes up with every change of Backend, or of what its
/// functions take and return.
inline constexpr char kCudaInterface[] = OUTRIGGER_VERSION_STRING " interface 3";

/// The one function that liboutrigger_cuda.so exports, under the name kCudaOpenName. Returns the shared object's own kCudaInterface; only
/// if that equals the caller's is *result written: the GPU of that number as a backend, or why there is none. Threads: any.
using CudaOpen = const char* (*)(const char* interface, int device, Result<std::unique_ptr<Backend>>* result);
inline constexpr char kCudaOpenName[] = "outrigger_cuda_open";

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_CUDA_INTERFACE_H_
