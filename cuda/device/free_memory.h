// What a GPU has free before anybody here has made a context on it, which takes some of it.
#ifndef OUTRIGGER_CUDA_DEVICE_FREE_MEMORY_H_
#define OUTRIGGER_CUDA_DEVICE_FREE_MEMORY_H_

#include <cstdint>

namespace outrigger::cuda {

/// By the driver's management library, which comes with it and is opened for the call; the runtime cannot be asked without a context.
/// `bus_id` as "0000:65:00.0". False where that library is not there or does not say; *free_bytes is then as it was.
bool free_memory_of(const char* bus_id, uint64_t* free_bytes);

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_DEVICE_FREE_MEMORY_H_
