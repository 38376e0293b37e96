// CUDA backends from a shared object that is loaded when one is asked for, so that nothing else needs CUDA.
#ifndef OUTRIGGER_SRC_DEVICE_CUDA_LOADER_H_
#define OUTRIGGER_SRC_DEVICE_CUDA_LOADER_H_

#include <memory>
#include <string_view>

#include "src/device/backend.h"

namespace outrigger {

/// The GPU that "cuda" (the first) or "cuda:N" names. Its shared object, liboutrigger_cuda.so, is looked for beside the library or program
/// that this code is in, in the folder of libraries beside that, and where the dynamic linker looks; the environment variable
/// OUTRIGGER_CUDA_LIBRARY names another file. It stays loaded. Threads: any. Errors: kInvalidArgument for another name; kUnavailable
/// without the shared object, a driver, that GPU, or kernels for it; kOutOfMemory; kDevice.
Result<std::unique_ptr<Backend>> open_cuda_backend(std::string_view device);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_CUDA_LOADER_H_
