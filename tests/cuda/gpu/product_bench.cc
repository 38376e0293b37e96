// How fast the products are on this card, as fractions of its memory's measured rate: cuda_product_bench [KIND...], or for a profiler
// cuda_product_bench KIND ROWS COLUMNS TOKENS, which launches that product once.
//
// Weights are random codes with scales of about 1. Launches are recorded once and repeated, so that what the host takes to submit is not in
// the time; each goes to another copy of the matrix, so that none is found in a cache.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "cuda/kernels/ops.h"
#include "src/kernels/activations.h"
#include "src/tensor/packed_layout.h"
#include "tests/cuda/gpu/bench_device.h"
#include "tests/cuda/gpu/read_ceiling.h"

namespace outrigger::cuda {
namespace {

class Bench {
 public:
  Bench() : weights_(device_.memory(kWeightBytes)), panel_(device_.memory(kPanelBytes)), dst_(device_.memory(256 << 20)) {
    fill_weights();
    const std::vector<uint32_t> some(kPanelBytes / 4, 0x3c3c3c3c);
    device_.copy(panel_, some.data(), kPanelBytes);
  }

  const DeviceFacts& facts() const { return device_.facts(); }

  double read_ceiling() {
    auto* const unlikely = reinterpret_cast<uint32_t*>(dst_);
    return kWeightBytes / device_.seconds(4, [&](uint32_t) { return launch_read(device_.launcher(), weights_, kWeightBytes, unlikely); });
  }

  void once(PackedKind kind, uint32_t rows, uint32_t columns, uint32_t tokens) {
    device_.must(launch_op(device_.launcher(), product_args(kind, rows, columns, tokens, 0)), "launch");
    device_.wait();
  }

  void product(PackedKind kind, uint32_t rows, uint32_t columns, uint32_t tokens, double ceiling) {
    const uint64_t bytes = packed_bytes(kind, rows, columns);
    const auto copies = static_cast<uint32_t>(kWeightBytes / bytes);
    const uint32_t count = tokens > 64 ? 8 : std::min(copies, 100u);
    const double time = device_.seconds(
        count, [&](uint32_t i) { return launch_op(device_.launcher(), product_args(kind, rows, columns, tokens, i % copies * bytes)); });
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
    device_.copy(weights.data(), weights_, weights.size());
    for (size_t i = 0; i < src.size(); ++i) src[i] = std::sin(static_cast<float>(i));
    quantize_activations_ref({src.data(), kColumns, panel.data(), tokens, kColumns}, 0, tokens);
    device_.copy(panel_, panel.data(), panel.size());
    MatmulArgs args{};
    args.kind = kind, args.weights = weights.data(), args.rows = kRows, args.columns = kColumns, args.panel = panel.data();
    args.dst = host.data(), args.dst_stride = kRows, args.tokens = tokens;
    matmul_ref(args, 0, matmul_blocks(kRows));
    args.weights = weights_, args.panel = panel_, args.dst = reinterpret_cast<float*>(dst_);
    device_.must(launch_op(device_.launcher(), args), "launch");
    device_.copy(device.data(), dst_, device.size() * sizeof(float));
    return std::memcmp(host.data(), device.data(), host.size() * sizeof(float)) == 0;
  }

  static const char* name(PackedKind kind) {
    for (const GroupLayout& layout : kGroupLayouts) {
      if (layout.kind == kind) return traits(layout.type).name;
    }
    return "?";
  }

 private:
  static constexpr uint64_t kWeightBytes = uint64_t{2} << 30, kPanelBytes = 64 << 20;

  MatmulArgs product_args(PackedKind kind, uint32_t rows, uint32_t columns, uint32_t tokens, uint64_t offset) const {
    MatmulArgs args{};
    args.kind = kind, args.weights = weights_ + offset, args.rows = rows, args.columns = columns;
    args.panel = panel_, args.dst = reinterpret_cast<float*>(dst_), args.dst_stride = rows, args.tokens = tokens;
    return args;
  }

  // Bytes 0x20 to 0x3f: as float16 scales 2^-7 to 2, as codes anything.
  void fill_weights() {
    std::vector<uint32_t> some(4 << 20);
    std::mt19937 random(1);
    for (uint32_t& word : some) word = (random() & 0x1f1f1f1f) | 0x20202020;
    for (uint64_t done = 0; done < kWeightBytes; done += some.size() * 4) device_.copy(weights_ + done, some.data(), some.size() * 4);
  }

  BenchDevice device_;
  std::byte *weights_, *panel_, *dst_;
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
