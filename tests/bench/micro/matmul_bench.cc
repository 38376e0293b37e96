// Rows of the matrix product: one token over weights that no cache holds, as a fraction of a bare read of the same memory; several tokens,
// as a fraction of the arithmetic peak of what the kernels multiply.
#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "src/kernels/activations.h"
#include "src/kernels/bf16_activations.h"
#include "src/kernels/matmul.h"
#include "src/kernels/simd.h"
#include "tests/bench/micro/bench_case.h"
#include "tests/bench/micro/peaks.h"

namespace outrigger::bench {
namespace {

struct Shape {
  size_t rows, columns;
};

// Fused q, k, v (960) and gate and up (3072) of the default model, its other matrices, and those of an 8 G parameter model.
constexpr Shape kColdShapes[] = {{4096, 4096}, {14336, 4096}, {1536, 576}, {3072, 576}, {576, 576}, {960, 576}};
constexpr Shape kSquare = {4096, 4096};
constexpr size_t kTokens[] = {1, 2, 3, 4, 8, 16, 32, 128, 512};

// Activations in the form in which the kernels take them for a kind of weights.
class Activations {
 public:
  Activations(const WeightKind& kind, size_t tokens, size_t columns) : src_(tokens * columns) {
    for (size_t i = 0; i < src_.size(); ++i) src_[i] = std::sin(static_cast<float>(i));
    if (takes_int8_activations(kind.packed)) {
      panel_.resize(activation_panel_bytes(tokens, columns) + kPackAlignment);
      quantize_activations({src_.data(), columns, panel(), tokens, columns}, 0, tokens);
    } else if (takes_bf16_activations(kind.packed)) {
      panel_.resize(bf16_panel_bytes(tokens, columns) + kPackAlignment);
      round_activations({src_.data(), columns, panel(), columns}, 0, tokens);
    }
  }

  const float* src() const { return src_.data(); }
  std::byte* panel() {
    if (panel_.empty()) return nullptr;
    return panel_.data() + (kPackAlignment - reinterpret_cast<uintptr_t>(panel_.data()) % kPackAlignment) % kPackAlignment;
  }

 private:
  std::vector<float> src_;
  std::vector<std::byte> panel_;
};

// What a kind's products are made of at a level, and so what their peak is.
Unit unit_of(const WeightKind& kind, SimdLevel level) {
  if (takes_int8_activations(kind.packed)) return Unit::kInt8;
  return takes_bf16_activations(kind.packed) && peak_loop(Unit::kBf16, level).run != nullptr ? Unit::kBf16 : Unit::kFp32;
}

// A product over copies of a matrix, each thread its row blocks.
class Product {
 public:
  Product(const WeightKind& kind, Shape shape, size_t tokens, size_t copies, ThreadTeam& team)
      : team_(team),
        matrix_(fill_arena(kind, shape.rows, shape.columns, copies, team)),
        activations_(kind, tokens, shape.columns),
        dst_(tokens * shape.rows) {
    args_.kind = kind.packed, args_.weights = matrix_.first, args_.rows = shape.rows, args_.columns = shape.columns;
    args_.src = activations_.src(), args_.src_stride = shape.columns, args_.panel = activations_.panel();
    args_.dst = dst_.data(), args_.dst_stride = shape.rows, args_.tokens = tokens, args_.accumulate = false;
  }

  double bytes() const { return static_cast<double>(matrix_.bytes) * static_cast<double>(matrix_.copies); }
  /// Of one copy.
  double ops() const { return 2.0 * static_cast<double>(args_.rows * args_.columns) * static_cast<double>(args_.tokens); }

  /// One region over all copies, with a barrier after each as after an operator of a step.
  void run() {
    team_.run([&](const TeamMember& member) {
      size_t begin, end;
      member.share(matmul_blocks(args_.rows), 1, &begin, &end);
      MatmulArgs args = args_;
      for (size_t copy = 0; copy < matrix_.copies; ++copy) {
        if (begin < end) matmul(args, begin, end);
        args.weights += matrix_.bytes;
        member.barrier();
      }
    });
  }

 private:
  ThreadTeam& team_;
  ColdMatrix matrix_;
  Activations activations_;
  std::vector<float> dst_;
  MatmulArgs args_{};
};

// A level for as long as a row runs.
class AtLevel {
 public:
  explicit AtLevel(SimdLevel level) { limit_simd_level(level); }
  ~AtLevel() { limit_simd_level(best_simd_level()); }
};

void add_cold(const WeightKind& kind, Shape shape, size_t threads, SimdLevel level) {
  const std::string name =
      fmt::format("gemv_cold/{}/{}/{}x{}/threads:{}", simd_level_name(level), kind.name, shape.rows, shape.columns, threads);
  add_row(name, [=](benchmark::State& state) {
    const AtLevel at(level);
    ThreadTeam& team = team_of(threads);
    Product product(kind, shape, 1, SIZE_MAX, team);
    report(state, {product.bytes(), [&product] { product.run(); }, stream_peak(team)});
  });
}

void add_product(const WeightKind& kind, size_t tokens, size_t threads, SimdLevel level) {
  const std::string name = fmt::format("gemm/{}/{}/{}x{}/tokens:{}/threads:{}", simd_level_name(level), kind.name, kSquare.rows,
                                       kSquare.columns, tokens, threads);
  add_row(name, [=](benchmark::State& state) {
    const AtLevel at(level);
    const PeakLoop loop = peak_loop(unit_of(kind, level), level);
    if (loop.run == nullptr) return state.SkipWithError("no peak loop for this processor");
    ThreadTeam& team = team_of(threads);
    Product product(kind, kSquare, tokens, 1, team);
    const auto peak = [&] { return measure_peak(team, loop); };
    report(state, {product.ops(), [&product] { product.run(); }, peak});
    const PeakLoop vnni = peak_loop(Unit::kInt8, SimdLevel::kAvx512);
    if (level == SimdLevel::kAvx2 && vnni.run != nullptr)
      state.counters["fraction_of_vnni"] = state.counters["rate"] / measure_peak(team, vnni);
  });
}

// How much faster all threads are than one, in turns.
void add_scaling(const WeightKind& kind, size_t tokens) {
  const size_t threads = thread_counts().back();
  if (threads == 1) return;
  add_row(fmt::format("scaling/{}/tokens:{}/threads:{}", kind.name, tokens, threads), [=](benchmark::State& state) {
    Product alone(kind, kSquare, tokens, 1, team_of(1)), together(kind, kSquare, tokens, 1, team_of(threads));
    const auto one_thread = [&] {
      const auto begin = std::chrono::steady_clock::now();
      alone.run();
      return alone.ops() / std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    };
    report(state, {together.ops(), [&] { together.run(); }, one_thread});
    state.counters["speedup"] = double{state.counters["fraction"]};
    state.counters["fraction"] = state.counters["fraction"] / static_cast<double>(threads);
  });
}

}  // namespace

void add_matmul_rows() {
  const SimdLevel best = best_simd_level();
  for (const size_t threads : thread_counts()) {
    for (const Shape shape : kColdShapes) {
      for (const char* const name : {"Q4_0", "Q4_1"}) add_cold(weight_kind(name), shape, threads, best);
    }
    for (const WeightKind& kind : weight_kinds()) {
      if (std::string(kind.name) != "Q4_0" && std::string(kind.name) != "Q4_1") add_cold(kind, kSquare, threads, best);
    }
  }
  for (const size_t tokens : kTokens) {
    for (const WeightKind& kind : weight_kinds()) add_product(kind, tokens, thread_counts().back(), best);
    if (thread_counts().size() > 1) add_product(weight_kind("Q4_0"), tokens, 1, best);
  }
  for (const WeightKind& kind : weight_kinds()) {
    if (best <= SimdLevel::kAvx2) break;
    for (const size_t tokens : {8, 128}) add_product(kind, tokens, thread_counts().back(), SimdLevel::kAvx2);
    add_cold(kind, kSquare, thread_counts().back(), SimdLevel::kAvx2);
  }
  for (const char* const name : {"Q4_1", "F16"}) add_scaling(weight_kind(name), 128);
}

}  // namespace outrigger::bench
