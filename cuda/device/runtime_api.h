// The table of the real CUDA runtime.
#ifndef OUTRIGGER_CUDA_DEVICE_RUNTIME_API_H_
#define OUTRIGGER_CUDA_DEVICE_RUNTIME_API_H_

#include "cuda/device/cuda_api.h"

namespace outrigger::cuda {

const CudaApi& runtime_api();

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_DEVICE_RUNTIME_API_H_
