// How fast the products are on this card, as fractions of its memory's measured rate: cuda_product_bench [KIND...], or for a profiler
// cuda_product_bench KIND ROWS COLUMNS TOKENS, which launches that product once.
//
// Weights are random codes with scales of about 1. Launches are recorded once and repeated, so that what the host takes to submit is not in
// the time; each goes to another copy of the matrix, so that none is found in a cache.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "cuda/device/runtime_api.h"
#include "cuda/kernels/ops.h"
#include "src/kernels/activations.h"
#include "src/tensor/packed_layout.h"
#include "tests/cuda/gpu/read_ceiling.h"

namespace outrigger::cuda {
namespace {

using Clock = std::chrono::steady_clock;

const CudaApi& api = runtime_api();

void must(CudaCode code, const char* what) {
  if (code == kCudaOk) return;
  std::fprintf(stderr, "%s: %s (%d)\n", what, api.error_text(code), code);
  std::exit(1);
}

std::byte* device_memory(uint64_t bytes) {
  void* data = nullptr;
  must(api.allocate(&data, bytes), "allocate");
  return static_cast<std::byte*>(data);
}

class Bench {
 public:
  Bench() {
    must(api.use_device(0), "use_device");
    must(api.device_facts(0, &facts_), "device_facts");
    must(api.create_stream(&stream_, false), "create_stream");
    must(api.create_event(&event_), "create_event");
    weights_ = device_memory(kWeightBytes);
    fill_weights();
    panel_ = device_memory(64 << 20);
    fill_activations();
    dst_ = device_memory(256 << 20);
  }

  Launcher launcher() const { return {api, stream_, facts_.multiprocessors}; }
  const DeviceFacts& facts() const { return facts_; }

  /// Seconds of one of `count` launches, launch(i) submitting the i-th: the median of 7 repeats of all.
  double seconds(uint32_t count, const std::function<CudaCode(uint32_t i)>& launch) {
    must(launch(0), "launch");
    wait();
    must(api.begin_capture(stream_), "begin_capture");
    for (uint32_t i = 0; i < count; ++i) must(launch(i), "launch");
    GraphHandle graph = nullptr;
    must(api.end_capture(stream_, &graph), "end_capture");
    std::vector<double> times;
    for (int repeat = 0; repeat < 8; ++repeat) {
      const Clock::time_point start = Clock::now();
      must(api.launch_graph(stream_, graph), "launch_graph");
      wait();
      if (repeat > 0) times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    must(api.destroy_graph(graph), "destroy_graph");
    std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
    return times[times.size() / 2] / count;
  }

  double read_ceiling() {
    auto* const unlikely = reinterpret_cast<uint32_t*>(dst_);
    return kWeightBytes / seconds(4, [&](uint32_t) { return launch_read(launcher(), weights_, kWeightBytes, unlikely); });
  }

  void once(PackedKind kind, uint32_t rows, uint32_t columns, uint32_t tokens) {
    must(launch_op(launcher(), product_args(kind, rows, columns, tokens, 0)), "launch");
    wait();
  }

  void product(PackedKind kind, uint32_t rows, uint32_t columns, uint32_t tokens, double ceiling) {
    const uint64_t bytes = packed_bytes(kind, rows, columns);
    const auto copies = static_cast<uint32_t>(kWeightBytes / bytes);
    const uint32_t count = tokens > 64 ? 8 : std::min(copies, 100u);
    const double time =
        seconds(count, [&](uint32_t i) { return launch_op(launcher(), product_args(kind, rows, columns, tokens, i % copies * bytes)); });
    const double rate = static_cast<double>(bytes) / time, ops = 2.0 * rows * columns * tokens / time;
    std::printf("%-4s %6u x %-6u %4u tokens %9.2f us %7.0f GB/s %5.1f %% of reading %7.1f TOP/s\n", name(kind), rows, columns, tokens,
                time * 1e6, rate * 1e-9, 100 * rate / ceiling, ops * 1e-12);
    std::fflush(stdout);
  }

  /// Whether a small product has the bits of the plain twin, which alone makes the times worth telling.
  bool is_right(PackedKind kind, uint32_t tokens) {
    constexpr uint32_t kRows = 50, kColumns = 512;
    std::vector<std::byte> weights(packed_bytes(kind, kRows, kColumns)), panel(activation_panel_bytes(tokens, kColumns));
    std::vector<float> src(tokens * kColumns), host(tokens * kRows), device(tokens * kRows);
    must(api.copy(stream_, weights.data(), weights_, weights.size()), "copy");
    wait();
    for (size_t i = 0; i < src.size(); ++i) src[i] = std::sin(static_cast<float>(i));
    quantize_activations_ref({src.data(), kColumns, panel.data(), tokens, kColumns}, 0, tokens);
    must(api.copy(stream_, panel_, panel.data(), panel.size()), "copy");
    MatmulArgs args{};
    args.kind = kind, args.weights = weights.data(), args.rows = kRows, args.columns = kColumns, args.panel = panel.data();
    args.dst = host.data(), args.dst_stride = kRows, args.tokens = tokens;
    matmul_ref(args, 0, matmul_blocks(kRows));
    args.weights = weights_, args.panel = panel_, args.dst = reinterpret_cast<float*>(dst_);
    must(launch_op(launcher(), args), "launch");
    must(api.copy(stream_, device.data(), dst_, device.size() * sizeof(float)), "copy");
    wait();
    return std::memcmp(host.data(), device.data(), host.size() * sizeof(float)) == 0;
  }

  static const char* name(PackedKind kind) {
    for (const GroupLayout& layout : kGroupLayouts) {
      if (layout.kind == kind) return traits(layout.type).name;
    }
    return "?";
  }

 private:
  static constexpr uint64_t kWeightBytes = uint64_t{2} << 30;

  MatmulArgs product_args(PackedKind kind, uint32_t rows, uint32_t columns, uint32_t tokens, uint64_t offset) const {
    MatmulArgs args{};
    args.kind = kind, args.weights = weights_ + offset, args.rows = rows, args.columns = columns;
    args.panel = panel_, args.dst = reinterpret_cast<float*>(dst_), args.dst_stride = rows, args.tokens = tokens;
    return args;
  }

  void wait() {
    must(api.record_event(event_, stream_), "record_event");
    CudaCode code;
    while ((code = api.query_event(event_)) == kCudaNotReady) continue;
    must(code, "query_event");
  }

  // Bytes 0x20 to 0x3f: as float16 scales 2^-7 to 2, as codes anything.
  void fill_weights() {
    std::vector<uint32_t> some(4 << 20);
    std::mt19937 random(1);
    for (uint32_t& word : some) word = (random() & 0x1f1f1f1f) | 0x20202020;
    for (uint64_t done = 0; done < kWeightBytes; done += some.size() * 4)
      must(api.copy(stream_, weights_ + done, some.data(), some.size() * 4), "copy");
    wait();
  }

  void fill_activations() {
    std::vector<uint32_t> some(16 << 20, 0x3c3c3c3c);
    must(api.copy(stream_, panel_, some.data(), some.size() * 4), "copy");
    wait();
  }

  DeviceFacts facts_;
  StreamHandle stream_ = nullptr;
  EventHandle event_ = nullptr;
  std::byte *weights_ = nullptr, *panel_ = nullptr, *dst_ = nullptr;
};

int run(int count, char** names) {
  Bench bench;
  if (count == 4 && std::atoi(names[1]) > 0) {
    for (const GroupLayout& layout : kGroupLayouts) {
      if (std::strcmp(names[0], Bench::name(layout.kind)) == 0) {
        bench.once(layout.kind, static_cast<uint32_t>(std::atoi(names[1])), static_cast<uint32_t>(std::atoi(names[2])),
                   static_cast<uint32_t>(std::atoi(names[3])));
      }
    }
    return 0;
  }
  const double ceiling = bench.read_ceiling();
  std::printf("%s, %u multiprocessors: reading %.0f GB/s\n", bench.facts().name, bench.facts().multiprocessors, ceiling * 1e-9);
  for (const GroupLayout& layout : kGroupLayouts) {
    for (const uint32_t tokens : {1u, 2u, 3u, 8u, 20u, 40u}) {
      if (!bench.is_right(layout.kind, tokens))
        std::printf("%-4s %u tokens: NOT the bits of the plain twin\n", Bench::name(layout.kind), tokens);
    }
    bool is_wanted = count == 0;
    for (int i = 0; i < count; ++i) is_wanted |= std::strcmp(names[i], Bench::name(layout.kind)) == 0;
    if (!is_wanted) continue;
    for (const auto& [rows, columns] : {std::pair{4096u, 4096u}, {1024u, 4096u}, {28672u, 4096u}, {4096u, 14336u}, {128256u, 4096u}}) {
      if (count == 0 && rows != 28672) continue;
      for (const uint32_t tokens : {1u, 2u, 4u, 8u, 16u, 32u, 64u, 512u}) {
        if (rows == 128256 && tokens > 8) continue;
        bench.product(layout.kind, rows, columns, tokens, ceiling);
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace outrigger::cuda

int main(int argc, char** argv) { return outrigger::cuda::run(argc - 1, argv + 1); }
