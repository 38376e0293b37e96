// Moving a tree's path together in the key-value cache by kernels.
#include <random>

#include "tests/cuda/kernel_check.h"

namespace outrigger::cuda {
namespace {

struct Shape {
  size_t layers, kv_heads, head_dim, first_place;
  std::vector<uint8_t> from;
};

void check(const Shape& shape, KvType type) {
  CAPTURE(static_cast<int>(type), shape.layers, shape.kv_heads, shape.head_dim, shape.first_place, shape.from.size());
  const size_t capacity = kv_positions(shape.first_place + shape.from.back() + 1);
  const uint64_t bytes = 2 * shape.layers * kv_head_offset(type, shape.head_dim, capacity, shape.kv_heads);
  std::vector<std::byte> stored(bytes);
  std::mt19937 random(7);
  for (std::byte& byte : stored) byte = static_cast<std::byte>(random());
  TwinBytes cache(stored.data(), bytes);
  run_twice([&](bool device) {
    MoveKvArgs args{};
    args.cache = cache.on<std::byte>(device), args.layers = shape.layers, args.kv_heads = shape.kv_heads, args.head_dim = shape.head_dim;
    args.capacity = capacity, args.first_place = shape.first_place, args.count = shape.from.size(), args.type = type;
    std::copy(shape.from.begin(), shape.from.end(), args.from.begin());
    return args;
  });
  REQUIRE(cache.is_equal());
  REQUIRE(std::memcmp(cache.on<std::byte>(true), stored.data(), bytes) != 0);
}

TEST_CASE("cuda move_kv: every type's bytes, whatever the shape and the path") {
  std::vector<uint8_t> all(31);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint8_t>(i + 1);
  for (const Shape& shape :
       {Shape{1, 1, 32, 0, {1}}, {3, 2, 64, 13, {0, 2, 3, 9}}, {2, 3, 160, 500, {1, 7, 19, 31}}, {2, 1, 32, 15, all}}) {
    for (const KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8_0}) check(shape, type);
  }
  for (const Shape& shape : {Shape{2, 3, 1, 3, {2, 5}}, {1, 5, 7, 15, {1, 4, 20}}, {3, 2, 100, 16, {0, 1, 5}}}) {
    for (const KvType type : {KvType::kF16, KvType::kF32}) check(shape, type);
  }
}

}  // namespace
}  // namespace outrigger::cuda
