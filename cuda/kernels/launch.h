// Handing a kernel to a stream: the one way for both compilers.
#ifndef OUTRIGGER_CUDA_KERNELS_LAUNCH_H_
#define OUTRIGGER_CUDA_KERNELS_LAUNCH_H_

#include <array>
#include <cstddef>
#include <tuple>
#include <utility>

#include "cuda/device/cuda_api.h"

namespace outrigger::cuda {

/// Where kernels go.
struct Launcher {
  const CudaApi& api;
  StreamHandle stream = nullptr;
  uint32_t multiprocessors = 1;
  /// Where the operation's first_position, or a handoff's number, stands in the device's memory when the kernel runs; null: in its
  /// arguments. A launch that is recorded and repeated reads it there, and attention's grid is that of the whole cache.
  const uint32_t* varying_at = nullptr;
};

/// A kernel's parameter that is a number now, or one that will stand in memory.
struct Varying {
  const uint32_t* at;
  uint32_t value;
};
inline Varying varying(const Launcher& launcher, size_t value) { return {launcher.varying_at, static_cast<uint32_t>(value)}; }

/// A block gets more shared memory than this only where the kernel was allowed it.
inline constexpr uint32_t kSharedBytesUnasked = 48 << 10;

struct LaunchSize {
  GridSize grid;
  uint32_t block_threads = 0;
  uint32_t shared_bytes = 0;
};

/// Submits kernel(arguments...). The arguments are copied. Returns the runtime's code.
template <typename... P, typename... A>
CudaCode launch(const Launcher& launcher, void (*kernel)(P...), const LaunchSize& size, A&&... arguments) {
  static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has parameters");
  std::tuple<P...> values(std::forward<A>(arguments)...);
  std::array<void*, sizeof...(P)> addresses = std::apply([](auto&... value) { return std::array<void*, sizeof...(P)>{&value...}; }, values);
  static constexpr std::array<size_t, sizeof...(P)> kBytes{sizeof(P)...};
  KernelCall call;
  call.function = reinterpret_cast<const void*>(kernel);
  call.grid = size.grid;
  call.block_threads = size.block_threads;
  call.shared_bytes = size.shared_bytes;
  call.arguments = addresses.data();
  call.argument_count = sizeof...(P);
  call.argument_bytes = kBytes.data();
#if !defined(__CUDACC__)
  call.invoke = [](const void* function, void** given) {
    [&]<size_t... I>(std::index_sequence<I...>) {
      reinterpret_cast<void (*)(P...)>(const_cast<void*>(function))(*static_cast<P*>(given[I])...);
    }
    (std::index_sequence_for<P...>{});
  };
#endif
  if (size.shared_bytes > kSharedBytesUnasked) {
    if (const CudaCode code = launcher.api.allow_shared(call.function, size.shared_bytes); code != kCudaOk) return code;
  }
  return launcher.api.launch(launcher.stream, call);
}

/// Blocks of `each` items for so many.
inline uint32_t blocks_of(size_t items, size_t each) { return static_cast<uint32_t>((items + each - 1) / each); }

/// A grid's second and third dimension are at most this.
inline constexpr size_t kMostRows = 65535;

/// launch_some(first, count) for runs of tokens that a grid's second dimension has room for: one run for any step.
template <typename LaunchSome>
CudaCode launch_tokens(size_t tokens, LaunchSome launch_some) {
  for (size_t first = 0; first < tokens; first += kMostRows) {
    const size_t count = tokens - first < kMostRows ? tokens - first : kMostRows;
    if (const CudaCode code = launch_some(first, static_cast<uint32_t>(count)); code != kCudaOk) return code;
  }
  return kCudaOk;
}

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_LAUNCH_H_
