// A GPU to measure kernels on: memory, and the time of launches that are recorded once and repeated.
#ifndef OUTRIGGER_TESTS_CUDA_GPU_BENCH_DEVICE_H_
#define OUTRIGGER_TESTS_CUDA_GPU_BENCH_DEVICE_H_

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cuda/device/runtime_api.h"
#include "cuda/kernels/launch.h"

namespace outrigger::cuda {

/// The first GPU. Ends the program where the runtime fails.
class BenchDevice {
 public:
  BenchDevice() {
    must(api_.use_device(0), "use_device");
    must(api_.device_facts(0, &facts_), "device_facts");
    must(api_.create_stream(&stream_, false), "create_stream");
    must(api_.create_event(&event_), "create_event");
  }

  void must(CudaCode code, const char* what) const {
    if (code == kCudaOk) return;
    std::fprintf(stderr, "%s: %s (%d)\n", what, api_.error_text(code), code);
    std::exit(1);
  }

  Launcher launcher() const { return {api_, stream_, facts_.multiprocessors}; }
  const DeviceFacts& facts() const { return facts_; }

  std::byte* memory(uint64_t bytes) const {
    void* data = nullptr;
    must(api_.allocate(&data, bytes), "allocate");
    return static_cast<std::byte*>(data);
  }
  /// From or to the host; done when it returns.
  void copy(void* dst, const void* src, uint64_t bytes) const {
    must(api_.copy(stream_, dst, src, bytes), "copy");
    wait();
  }
  void wait() const {
    must(api_.record_event(event_, stream_), "record_event");
    CudaCode code;
    while ((code = api_.query_event(event_)) == kCudaNotReady) continue;
    must(code, "query_event");
  }

  /// Seconds of one of `count` launches, launch(i) submitting the i-th: the median of 7 repeats of all, without what the host takes to
  /// submit.
  template <typename Launch>
  double seconds(uint32_t count, Launch launch) const {
    using Clock = std::chrono::steady_clock;
    must(launch(0), "launch");
    wait();
    must(api_.begin_capture(stream_), "begin_capture");
    for (uint32_t i = 0; i < count; ++i) must(launch(i), "launch");
    GraphHandle graph = nullptr;
    must(api_.end_capture(stream_, &graph), "end_capture");
    std::vector<double> times;
    for (int repeat = 0; repeat < 8; ++repeat) {
      const Clock::time_point start = Clock::now();
      must(api_.launch_graph(stream_, graph), "launch_graph");
      wait();
      if (repeat > 0) times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    must(api_.destroy_graph(graph), "destroy_graph");
    std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
    return times[times.size() / 2] / count;
  }

 private:
  const CudaApi& api_ = runtime_api();
  DeviceFacts facts_;
  StreamHandle stream_ = nullptr;
  EventHandle event_ = nullptr;
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_TESTS_CUDA_GPU_BENCH_DEVICE_H_
