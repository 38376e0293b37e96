// What every backend promises of operations: the bits of src/kernels, at every shape and for every kind of weights.
#ifndef OUTRIGGER_TESTS_CONTRACT_BACKEND_OP_CONTRACT_H_
#define OUTRIGGER_TESTS_CONTRACT_BACKEND_OP_CONTRACT_H_

#include <vector>

#include "src/base/thread_team.h"
#include "src/device/op_run.h"
#include "tests/contract/backend_case.h"
#include "tests/kernels/kernel_case.h"

namespace outrigger::contract {

/// A piece of memory twice: the device's, and the host's that the kernels of src/kernels get.
struct Twin {
  DeviceMemory device;
  std::vector<std::byte> host;  // aligned by hand: see at()
  uint64_t bytes;

  Twin(Backend& backend, const void* values, uint64_t bytes) : device(must(backend.allocate(bytes))), host(bytes + 64), bytes(bytes) {
    std::memcpy(at(), values, bytes);
    put(backend, device.data(), values, bytes);
  }
  Twin(Backend& backend, const std::vector<float>& values) : Twin(backend, values.data(), values.size() * sizeof(float)) {}
  Twin(Backend& backend, uint64_t bytes) : Twin(backend, std::vector<std::byte>(bytes, std::byte{0x7b}).data(), bytes) {}

  std::byte* at() { return host.data() + -reinterpret_cast<uintptr_t>(host.data()) % 64; }
  /// The address that an operation on one side gets.
  template <typename T = float>
  T* on(bool is_device, size_t offset = 0) {
    return reinterpret_cast<T*>(is_device ? device.data() : at()) + offset;
  }
  bool is_equal(Backend& backend) {
    const std::vector<std::byte> theirs = bytes_of(backend, device);
    return std::equal(theirs.begin(), theirs.end(), at());
  }
};

/// Runs make(true) on the device and make(false) with the host's kernels, on one thread.
template <typename Make>
void run_twice(Backend& backend, ThreadTeam& team, Make make) {
  require_ok(backend.launch(Stream::kCompute, make(true)));
  require_ok(backend.synchronize(must(backend.record(Stream::kCompute)), kPatience));
  const DeviceOp op = make(false);
  team.run([&op](const TeamMember& member) { run_op(op, member); });
}

inline void check_matmul(Backend& backend, ThreadTeam& team, PackedKind kind, size_t rows, size_t columns, size_t tokens) {
  CAPTURE(static_cast<int>(kind), rows, columns, tokens);
  const PackedMatrix matrix(kind, rows, columns);
  Twin weights(backend, matrix.bytes.data(), matrix.bytes.size()), src(backend, normal_floats(tokens * (columns + 3), 3));
  Twin panel(backend, std::max(activation_panel_bytes(tokens, columns), bf16_panel_bytes(tokens, columns)));
  const bool is_int8 = takes_int8_activations(kind), takes_panel = is_int8 || takes_bf16_activations(kind);
  if (takes_panel) {
    run_twice(backend, team, [&](bool device) -> DeviceOp {
      if (is_int8) return QuantizeArgs{src.on(device), columns + 3, panel.on<std::byte>(device), tokens, columns};
      return RoundArgs{{src.on(device), columns + 3, panel.on<std::byte>(device), columns}, tokens};
    });
    REQUIRE(panel.is_equal(backend));
  }
  for (int way = 0; way < (takes_panel ? 4 : 2); ++way) {
    const bool uses_panel = way >= 2, accumulates = way % 2 == 1;
    CAPTURE(uses_panel, accumulates);
    Twin dst(backend, normal_floats(tokens * (rows + 1), 4));
    run_twice(backend, team, [&](bool device) -> DeviceOp {
      return MatmulArgs{kind, weights.on<std::byte>(device), rows, columns, src.on(device), columns + 3,
                        uses_panel ? panel.on<std::byte>(device) : nullptr, dst.on(device), rows + 1, tokens, accumulates};
    });
    REQUIRE(dst.is_equal(backend));
  }
}

inline void check_attention(Backend& backend, ThreadTeam& team, KvType type, size_t tokens, size_t first_position) {
  constexpr size_t kHeads = 6, kKvHeads = 2, kHeadDim = 64;
  const size_t capacity = kv_positions(first_position + tokens + 5);
  CAPTURE(static_cast<int>(type), tokens, first_position);
  const uint64_t side = kv_head_offset(type, kHeadDim, capacity, kKvHeads);
  const size_t count = (first_position + tokens) * kKvHeads * kHeadDim;
  Twin k(backend, normal_floats(count, 5)), v(backend, normal_floats(count, 6));
  Twin keys(backend, side), values(backend, side);
  const auto append = [&](size_t begin, size_t end) {
    run_twice(backend, team, [&](bool device) -> DeviceOp {
      const size_t width = kKvHeads * kHeadDim;
      return AppendKvArgs{k.on(device, begin * width), v.on(device, begin * width), width, width, keys.on<std::byte>(device),
                          values.on<std::byte>(device), end - begin, kKvHeads, kHeadDim, capacity, begin, type};
    });
  };
  if (first_position > 0) append(0, first_position);
  append(first_position, first_position + tokens);
  REQUIRE(keys.is_equal(backend));
  REQUIRE(values.is_equal(backend));

  Twin q(backend, normal_floats(tokens * kHeads * kHeadDim, 7)), dst(backend, tokens * kHeads * kHeadDim * sizeof(float));
  AttentionArgs args{};
  args.q_stride = args.dst_stride = kHeads * kHeadDim;
  args.tokens = tokens, args.heads = kHeads, args.kv_heads = kKvHeads, args.head_dim = kHeadDim, args.capacity = capacity;
  args.first_position = first_position, args.scale = 0.125f, args.type = type;
  Twin scratch(backend, std::max(backend.scratch_bytes(args), attention_scratch_bytes(kHeadDim)));
  run_twice(backend, team, [&](bool device) -> DeviceOp {
    args.q = q.on(device), args.k_cache = keys.on<std::byte>(device), args.v_cache = values.on<std::byte>(device),
    args.dst = dst.on(device);
    args.scratch = scratch.on<std::byte>(device);
    return args;
  });
  REQUIRE(dst.is_equal(backend));
}

/// A tree whose root has `first_position` before it: its attention, and then a path of it moved together, in two layers.
inline void check_tree(Backend& backend, ThreadTeam& team, KvType type, size_t first_position) {
  constexpr size_t kHeads = 6, kKvHeads = 2, kHeadDim = 64, kWidth = kKvHeads * kHeadDim, kLayers = 2;
  CAPTURE(static_cast<int>(type), first_position);
  TokenTree tree;
  for (const size_t parent : {0, 0, 0, 1, 2, 2, 4, 6}) tree.add(parent);
  const size_t tokens = tree.size(), capacity = kv_positions(first_position + tokens);
  const uint64_t side = kv_head_offset(type, kHeadDim, capacity, kKvHeads);
  Twin k(backend, normal_floats((first_position + tokens) * kWidth, 5)), v(backend, normal_floats((first_position + tokens) * kWidth, 6));
  Twin cache(backend, kLayers * 2 * side), nodes(backend, &tree, sizeof tree);
  for (size_t layer = 0; layer < kLayers; ++layer) {
    run_twice(backend, team, [&](bool device) -> DeviceOp {
      std::byte* const keys = cache.on<std::byte>(device, layer * 2 * side);
      return AppendKvArgs{k.on(device), v.on(device), kWidth, kWidth, keys, keys + side, first_position + tokens, kKvHeads,
                          kHeadDim, capacity, 0, type};
    });
  }
  Twin q(backend, normal_floats(tokens * kHeads * kHeadDim, 7)), dst(backend, tokens * kHeads * kHeadDim * sizeof(float));
  AttentionArgs args{};
  args.q_stride = args.dst_stride = kHeads * kHeadDim;
  args.heads = kHeads, args.kv_heads = kKvHeads, args.head_dim = kHeadDim, args.capacity = capacity;
  args.first_position = first_position, args.scale = 0.125f, args.type = type;
  Twin scratch(backend, std::max(backend.scratch_bytes(args), attention_scratch_bytes(kHeadDim)));
  for (const size_t begin : {size_t{0}, size_t{3}}) {
    run_twice(backend, team, [&](bool device) -> DeviceOp {
      args.tokens = tokens - begin, args.tree = nodes.on<TokenTree>(device), args.tree_begin = begin;
      args.q = q.on(device), args.k_cache = cache.on<std::byte>(device), args.v_cache = cache.on<std::byte>(device, side);
      args.dst = dst.on(device), args.scratch = scratch.on<std::byte>(device);
      return args;
    });
    REQUIRE(dst.is_equal(backend));
  }
  run_twice(backend, team, [&](bool device) -> DeviceOp {
    MoveKvArgs moves = path_moves(first_position, tree, tokens - 1);
    moves.cache = cache.on<std::byte>(device), moves.layers = kLayers, moves.kv_heads = kKvHeads, moves.head_dim = kHeadDim;
    moves.capacity = capacity, moves.type = type;
    return moves;
  });
  REQUIRE(cache.is_equal(backend));
}

inline void check_elementwise(Backend& backend, ThreadTeam& team, size_t tokens, size_t width) {
  CAPTURE(tokens, width);
  const size_t stride = width + 4;
  Twin a(backend, normal_floats(tokens * stride, 8)), b(backend, normal_floats(tokens * stride, 9)),
      weight(backend, normal_floats(width, 10));
  Twin dst(backend, tokens * stride * sizeof(float));
  run_twice(backend, team, [&](bool device) -> DeviceOp {
    return RmsNormArgs{a.on(device), weight.on(device), dst.on(device), tokens, width, 1e-5f};
  });
  REQUIRE(dst.is_equal(backend));
  run_twice(backend, team, [&](bool device) -> DeviceOp {
    return SiluMulArgs{a.on(device), b.on(device), dst.on(device), tokens * width};
  });
  REQUIRE(dst.is_equal(backend));
  run_twice(backend, team, [&](bool device) -> DeviceOp { return AddBiasArgs{weight.on(device), dst.on(device), stride, width, tokens}; });
  run_twice(backend, team, [&](bool device) -> DeviceOp { return AddArgs{a.on(device), stride, dst.on(device), stride, tokens, width}; });
  REQUIRE(dst.is_equal(backend));
  run_twice(backend, team, [&](bool device) -> DeviceOp {
    return CopyArgs{dst.on<std::byte>(device), b.on<std::byte>(device, 3), tokens * width * sizeof(float)};
  });
  REQUIRE(b.is_equal(backend));
}

inline void check_op_contract(const OpenBackend& open) {
  const std::unique_ptr<Backend> owner = open();
  Backend& backend = *owner;
  const std::unique_ptr<ThreadTeam> team = must(ThreadTeam::create(1));

  SECTION("products of every kind of weights have the host's bits, with and without panels, at odd shapes") {
    for (PackedKind kind : kAllKinds) {
      REQUIRE(backend.supports(DeviceOpKind::kMatmul, kind));
      for (size_t rows : {1, 17, 80}) {
        for (size_t tokens : {1, 3, 11}) check_matmul(backend, *team, kind, rows, whole_columns(kind, 96), tokens);
      }
    }
  }

  SECTION("attention and its cache have the host's bits, for every type of the cache") {
    for (KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8_0}) {
      check_attention(backend, *team, type, 1, 0);
      check_attention(backend, *team, type, 5, 19);
      check_attention(backend, *team, type, 1, 1600);  // enough for threads to share a head's positions
      check_tree(backend, *team, type, 0);
      check_tree(backend, *team, type, 509);
    }
  }

  SECTION("the other operations have the host's bits") {
    for (size_t tokens : {1, 2, 7}) {
      for (size_t width : {1, 31, 64, 577}) check_elementwise(backend, *team, tokens, width);
    }
  }

  SECTION("RoPE has the host's bits in both styles") {
    constexpr size_t kTokens = 3, kHeads = 5, kHeadDim = 64, kStride = kHeads * kHeadDim + 8;
    for (RopeStyle style : {RopeStyle::kInterleaved, RopeStyle::kHalves}) {
      for (size_t rotary_dim : {size_t{32}, kHeadDim}) {
        Twin x(backend, normal_floats(kTokens * kStride, 11)), angles(backend, normal_floats(kTokens * rotary_dim, 12));
        run_twice(backend, *team, [&](bool device) -> DeviceOp {
          return RopeArgs{x.on(device), kStride, kTokens, kHeads, kHeadDim, rotary_dim, angles.on(device), style};
        });
        REQUIRE(x.is_equal(backend));
      }
    }
  }

  SECTION("what quantising lost has the host's bits, also in place") {
    constexpr size_t kTokens = 9, kWidth = 96;
    Twin src(backend, normal_floats(kTokens * kWidth, 13)), panel(backend, activation_panel_bytes(kTokens, kWidth));
    const auto quantize = [&](bool device) { return QuantizeArgs{src.on(device), kWidth, panel.on<std::byte>(device), kTokens, kWidth}; };
    run_twice(backend, *team, [&](bool device) -> DeviceOp { return quantize(device); });
    run_twice(backend, *team, [&](bool device) -> DeviceOp { return RemainderArgs{quantize(device), src.on(device)}; });
    REQUIRE(src.is_equal(backend));
  }

  SECTION("dimensions that do not fit together are refused before anything is submitted") {
    const DeviceMemory memory = must(backend.allocate(1 << 20));
    float* const x = as<float>(memory);
    std::byte* const bytes = memory.data();
    AttentionArgs attention{};
    attention.q = attention.dst = x, attention.k_cache = attention.v_cache = x, attention.scratch = bytes;
    attention.q_stride = attention.dst_stride = 64, attention.tokens = 1, attention.heads = 1, attention.kv_heads = 1;
    attention.head_dim = 64, attention.capacity = 16;
    AttentionArgs no_heads = attention, shared = attention, full = attention, groups = attention, branching = attention;
    branching.tree = reinterpret_cast<const TokenTree*>(bytes), branching.tree_begin = kMostTreeTokens;
    AttentionArgs beyond = branching;
    beyond.tree_begin = 16;
    const MoveKvArgs move{bytes, 1, 1, 64, 16, 8, 2, {1, 3}};
    MoveKvArgs no_moves = move, back = move, outside = move, many = move;
    no_moves.count = 0, many.count = kMostTreeTokens + 1;
    back.from[1] = 1;
    outside.from[1] = 8;
    no_heads.kv_heads = 0;
    shared.heads = 3, shared.kv_heads = 2, shared.q_stride = shared.dst_stride = 192;
    full.first_position = 16;
    groups.type = KvType::kQ8_0, groups.head_dim = 48;
    const std::vector<DeviceOp> wrong = {
        MatmulArgs{PackedKind::kQ4_K, bytes, 16, 128, x, 128, nullptr, x, 16, 1, false},     // half a block
        MatmulArgs{PackedKind::kF32, bytes, 16, 32, x, 32, bytes, x, 16, 1, false},          // takes no panel
        MatmulArgs{PackedKind::kF32, bytes, 16, 32, x, 31, nullptr, x, 16, 1, false},        // rows overlap
        MatmulArgs{PackedKind::kF32, bytes, 16, 32, x, 32, nullptr, x, 15, 1, false},
        MatmulArgs{PackedKind::kF32, bytes, 0, 32, x, 32, nullptr, x, 16, 1, false},
        MatmulArgs{static_cast<PackedKind>(99), bytes, 16, 32, x, 32, nullptr, x, 16, 1, false},
        QuantizeArgs{x, 33, bytes, 1, 33},
        RemainderArgs{{x, 32, bytes, 0, 32}, x},
        RoundArgs{{x, 3, bytes, 4}, 1},
        RmsNormArgs{x, x, x, 1, 0, 1e-5f},
        RmsNormArgs{x, x, x, SIZE_MAX, 1, 1e-5f},
        RopeArgs{x, 64, 1, 1, 64, 63, x, RopeStyle::kHalves},
        RopeArgs{x, 64, 1, 1, 64, 66, x, RopeStyle::kHalves},
        RopeArgs{x, 63, 1, 1, 64, 64, x, RopeStyle::kHalves},
        AppendKvArgs{x, x, 64, 64, bytes, bytes, 1, 1, 64, 17, 0, KvType::kF16},
        AppendKvArgs{x, x, 64, 64, bytes, bytes, 1, 1, 64, 16, SIZE_MAX, KvType::kF16},
        AppendKvArgs{x, x, 64, 64, bytes, bytes, 1, 1, 64, 16, 0, static_cast<KvType>(7)},
        no_heads, shared, full, groups, branching, beyond,
        no_moves, back, outside, many,
        SiluMulArgs{x, x, x, 0},
        AddBiasArgs{x, x, 3, 4, 1},
        AddArgs{x, 4, x, 3, 1, 4},
        CopyArgs{bytes, bytes, 0},
    };
    for (size_t i = 0; i < wrong.size(); ++i) {
      const Status status = backend.launch(Stream::kCompute, wrong[i]);
      CAPTURE(i, status.to_string());
      REQUIRE(status.code() == StatusCode::kInvalidArgument);
      REQUIRE(status.message().starts_with(device_op_name(kind_of(wrong[i]))));
    }
    finish(backend);  // and the device is well
  }
}

}  // namespace outrigger::contract

#endif  // OUTRIGGER_TESTS_CONTRACT_BACKEND_OP_CONTRACT_H_
