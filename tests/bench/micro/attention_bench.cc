// Rows of attention: one query over a long context that no cache holds, as a fraction of a bare read of memory; a chunk of a prompt, as a
// fraction of the float32 peak.
#include <fmt/format.h>

#include <cmath>

#include "src/kernels/attention.h"
#include "src/kernels/simd.h"
#include "tests/bench/micro/bench_case.h"
#include "tests/bench/micro/peaks.h"

namespace outrigger::bench {
namespace {

struct Heads {
  size_t heads, kv_heads, head_dim;
};

// The default model, Llama 3 of 1 and of 8 G parameters, and one key-value head for each query head.
constexpr Heads kHeads[] = {{9, 3, 64}, {32, 8, 64}, {32, 8, 128}, {8, 8, 128}, {16, 2, 128}};

struct CacheType {
  KvType type;
  const char* name;
};
constexpr CacheType kTypes[] = {{KvType::kF16, "f16"}, {KvType::kQ8_0, "q8_0"}, {KvType::kF32, "f32"}};

// Attention of the last `tokens` positions of a context, over the caches of as many layers as fit into the arena.
class Attention {
 public:
  Attention(const CacheType& type, const Heads& heads, size_t context, size_t tokens, ThreadTeam& team)
      : team_(team), rows_(2 * tokens * heads.heads * heads.head_dim) {
    reset_arena();
    const size_t capacity = kv_positions(context), width = heads.heads * heads.head_dim;
    side_bytes_ = kv_head_offset(type.type, heads.head_dim, capacity, heads.kv_heads);
    layers_ = std::max<size_t>(1, arena().size() / (2 * side_bytes_));
    const uint64_t scratch_bytes = attention_scratch_bytes(heads.head_dim);
    scratch_.resize(scratch_bytes * team.threads() + 64);
    for (size_t i = 0; i < tokens * width; ++i) rows_[i] = std::sin(static_cast<float>(i));
    args_.q = rows_.data(), args_.q_stride = width;
    args_.dst = rows_.data() + tokens * width, args_.dst_stride = width;
    args_.tokens = tokens, args_.heads = heads.heads, args_.kv_heads = heads.kv_heads, args_.head_dim = heads.head_dim;
    args_.capacity = capacity, args_.first_position = context - tokens;
    args_.scale = 1 / std::sqrt(static_cast<float>(heads.head_dim));
    args_.scratch = scratch_.data() + (64 - reinterpret_cast<uintptr_t>(scratch_.data()) % 64) % 64;
    args_.type = type.type;
  }

  size_t layers() const { return layers_; }
  double bytes() const { return 2.0 * static_cast<double>(side_bytes_) * static_cast<double>(layers_); }
  /// Scores and values: two operations each for every element of every head and position seen.
  double flops() const {
    const auto tokens = static_cast<double>(args_.tokens), before = static_cast<double>(args_.first_position);
    return 4.0 * static_cast<double>(args_.heads * args_.head_dim) * tokens * (before + (tokens + 1) / 2);
  }

  void run(size_t layers) {
    team_.run([&](const TeamMember& member) {
      AttentionArgs args = args_;
      for (size_t layer = 0; layer < layers; ++layer) {
        args.k_cache = arena().data() + 2 * layer * side_bytes_, args.v_cache = arena().data() + (2 * layer + 1) * side_bytes_;
        attention(args, member);
        member.barrier();
      }
    });
  }

 private:
  ThreadTeam& team_;
  uint64_t side_bytes_;
  size_t layers_;
  std::vector<float> rows_;
  std::vector<std::byte> scratch_;
  AttentionArgs args_{};
};

std::string name_of(const char* what, const CacheType& type, const Heads& heads, size_t context, size_t threads) {
  return fmt::format("attention_{}/{}/heads:{}/kv_heads:{}/dim:{}/context:{}/threads:{}", what, type.name, heads.heads, heads.kv_heads,
                     heads.head_dim, context, threads);
}

void add_decode(const CacheType& type, const Heads& heads, size_t context, size_t threads) {
  add_row(name_of("decode", type, heads, context, threads), [=](benchmark::State& state) {
    ThreadTeam& team = team_of(threads);
    Attention attention(type, heads, context, 1, team);
    report(state, {attention.bytes(), [&] { attention.run(attention.layers()); }, stream_peak(team)});
  });
}

void add_prefill(const CacheType& type, const Heads& heads, size_t context, size_t threads) {
  add_row(name_of("prefill", type, heads, context, threads), [=](benchmark::State& state) {
    const PeakLoop loop = peak_loop(Unit::kFp32, best_simd_level());
    if (loop.run == nullptr) return state.SkipWithError("no peak loop for this processor");
    ThreadTeam& team = team_of(threads);
    Attention attention(type, heads, context, 128, team);
    report(state, {attention.flops(), [&] { attention.run(1); }, [&] { return measure_peak(team, loop); }});
  });
}

}  // namespace

void add_attention_rows() {
  const size_t threads = thread_counts().back();
  for (const CacheType& type : kTypes) {
    for (const Heads& heads : kHeads) add_decode(type, heads, 8192, threads);
  }
  add_decode(kTypes[0], kHeads[0], 512, threads);
  for (const size_t context : {512, 4096}) {
    for (const Heads& heads : {kHeads[0], kHeads[2]}) {
      for (const CacheType& type : {kTypes[0], kTypes[1]}) add_prefill(type, heads, context, threads);
    }
  }
}

}  // namespace outrigger::bench
