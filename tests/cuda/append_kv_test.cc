// Appending to the key-value cache by kernels.
#include <limits>

#include "tests/cuda/kernel_check.h"

namespace outrigger::cuda {
namespace {

struct Shape {
  size_t tokens, kv_heads, head_dim, first_position;
};

std::vector<float> with_extremes(size_t count, unsigned seed) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> values = normal_floats(count, seed);
  constexpr float kExtremes[] = {0, -0.0f, 1e-30f, 70000, -65519, 65520, 6e-8f, 1e-41f, 3e38f, kInfinity, -kInfinity, 0.5f, 1e-38f};
  for (size_t i = 3; i < count; i += 17) values[i] = kExtremes[i / 17 % std::size(kExtremes)];
  for (size_t i = 64; i < 96 && i < count; ++i) values[i] = i % 2 == 0 ? 0 : 1e-37f;        // a group that is zero
  for (size_t i = 32; i < 64 && i < count; ++i) values[i] = static_cast<float>(i) - 47.5f;  // halves, in steps of a power of two
  if (count > 33) values[33] = 127;
  return values;
}

void check(const Shape& shape, KvType type, const uint32_t* varying_at = nullptr) {
  CAPTURE(static_cast<int>(type), shape.tokens, shape.kv_heads, shape.head_dim, shape.first_position);
  const size_t width = shape.kv_heads * shape.head_dim, capacity = kv_positions(shape.first_position + shape.tokens + 5);
  TwinBytes k(with_extremes(shape.tokens * (width + 3), 1)), v(with_extremes(shape.tokens * (width + 1), 2));
  const size_t bytes = kv_head_offset(type, shape.head_dim, capacity, shape.kv_heads);
  TwinBytes k_cache(bytes), v_cache(bytes);
  Launcher launcher = emulated_launcher();
  launcher.varying_at = varying_at;
  run_twice(launcher, [&](bool device) {
    AppendKvArgs args{};
    args.k = k.on(device), args.v = v.on(device), args.k_stride = width + 3, args.v_stride = width + 1;
    args.k_cache = k_cache.on<std::byte>(device), args.v_cache = v_cache.on<std::byte>(device);
    args.tokens = shape.tokens, args.kv_heads = shape.kv_heads, args.head_dim = shape.head_dim;
    args.capacity = capacity, args.type = type;
    args.first_position = device && varying_at != nullptr ? 0 : shape.first_position;
    return args;
  });
  REQUIRE(k_cache.is_equal());
  REQUIRE(v_cache.is_equal());
}

TEST_CASE("cuda append_kv: every type's bits, whatever the shape and the position") {
  for (const Shape& shape : {Shape{1, 1, 32, 0}, {1, 8, 128, 17}, {3, 3, 64, 14}, {8, 2, 96, 31}, {33, 2, 256, 5}}) {
    for (const KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8_0}) check(shape, type);
  }
  for (const Shape& shape : {Shape{2, 3, 1, 3}, {9, 5, 7, 15}, {3, 2, 100, 16}}) {
    for (const KvType type : {KvType::kF16, KvType::kF32}) check(shape, type);
  }
}

TEST_CASE("cuda append_kv: the first position may stand in memory") {
  const uint32_t first_position = 30;
  for (const KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8_0}) check({5, 2, 64, first_position}, type, &first_position);
}

}  // namespace
}  // namespace outrigger::cuda
