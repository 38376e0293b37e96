// The emulator of a device's threads: a kernel's block runs as fibers on the calling thread, each until it waits for others.
#ifndef OUTRIGGER_TESTS_CUDA_EMULATOR_EMULATOR_H_
#define OUTRIGGER_TESTS_CUDA_EMULATOR_EMULATOR_H_

#include "cuda/device/cuda_api.h"

namespace outrigger::cuda::emulator {

/// Runs all blocks of the call, one after the other; the threads of a block take turns in an order that is drawn anew each time, so that
/// what depends on an order shows. Ends the program where a device would hang or fault: threads that wait for one that is gone, a
/// misaligned vector load, more shared memory or threads than a block may have. Threads: one call at a time, from any thread.
void run(const KernelCall& call);

/// A table in which nothing but launching is there: a kernel runs at once and is done when the call returns.
const CudaApi& launch_only();

}  // namespace outrigger::cuda::emulator

#endif  // OUTRIGGER_TESTS_CUDA_EMULATOR_EMULATOR_H_
