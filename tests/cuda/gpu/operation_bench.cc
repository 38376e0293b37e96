// What every operation of a decoding step but the products takes on this card: operation_bench [POSITIONS...]
//
// Shapes are those of Llama 3 with 8 billion parameters, one token; POSITIONS are what attention sees, 128, 1024 and 4096 unless they are
// named.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cuda/kernels/ops.h"
#include "src/kernels/kv_layout.h"
#include "tests/cuda/gpu/bench_device.h"

namespace outrigger::cuda {
namespace {

constexpr size_t kWidth = 4096, kFfn = 14336, kHeads = 32, kKvHeads = 8, kHeadDim = 128;

class Bench {
 public:
  Bench() {
    for (std::byte*& memory : memory_) {
      memory = device_.memory(kBytes);
      const std::vector<float> some(kBytes / sizeof(float), 0.5f);
      device_.copy(memory, some.data(), kBytes);
    }
  }

  template <typename Args>
  void time(const char* name, const Args& args) {
    const double seconds = device_.seconds(200, [&](uint32_t) { return launch_op(device_.launcher(), args); });
    std::printf("%-28s %8.2f us\n", name, seconds * 1e6);
  }

  void run(const std::vector<size_t>& positions) {
    std::printf("%s\n", device_.facts().name);
    time("rms_norm 4096", RmsNormArgs{floats(0), floats(1), floats(2), 1, kWidth, 1e-5f});
    time("quantize 4096", QuantizeArgs{floats(0), kWidth, memory_[2], 1, kWidth});
    time("quantize 14336", QuantizeArgs{floats(0), kFfn, memory_[2], 1, kFfn});
    time("remainder 4096", RemainderArgs{{floats(0), kWidth, memory_[2], 1, kWidth}, floats(1)});
    time("rope 40 heads", RopeArgs{floats(0), kWidth + 2048, 1, kHeads + kKvHeads, kHeadDim, kHeadDim, floats(1), RopeStyle::kInterleaved});
    time("silu_mul 14336", SiluMulArgs{floats(0), floats(1), floats(2), kFfn});
    time("add 4096", AddArgs{floats(0), kWidth, floats(1), kWidth, 1, kWidth});
    for (const size_t position : positions) attend(position);
  }

 private:
  static constexpr uint64_t kBytes = 128 << 20;

  float* floats(size_t i) const { return reinterpret_cast<float*>(memory_[i]); }

  void attend(size_t position) {
    const size_t capacity = kv_positions(position + 1);
    AppendKvArgs append{};
    append.k = floats(0), append.v = floats(0), append.k_stride = append.v_stride = kKvHeads * kHeadDim;
    append.k_cache = memory_[1], append.v_cache = memory_[2], append.tokens = 1, append.kv_heads = kKvHeads, append.head_dim = kHeadDim;
    append.capacity = capacity, append.first_position = position;
    time("append_kv", append);
    AttentionArgs args{};
    args.q = floats(0), args.q_stride = args.dst_stride = kHeads * kHeadDim, args.dst = floats(3), args.scratch = memory_[4];
    args.k_cache = memory_[1], args.v_cache = memory_[2], args.tokens = 1, args.heads = kHeads, args.kv_heads = kKvHeads,
    args.head_dim = kHeadDim;
    args.capacity = capacity, args.first_position = position, args.scale = 0.088f;
    char name[64];
    std::snprintf(name, sizeof name, "attention, %zu positions", position + 1);
    time(name, args);
  }

  BenchDevice device_;
  std::byte* memory_[5];
};

}  // namespace
}  // namespace outrigger::cuda

int main(int argc, char** argv) {
  std::vector<size_t> positions;
  for (int i = 1; i < argc; ++i) positions.push_back(static_cast<size_t>(std::atoi(argv[i])) - 1);
  if (positions.empty()) positions = {127, 1023, 4095};
  outrigger::cuda::Bench().run(positions);
}
