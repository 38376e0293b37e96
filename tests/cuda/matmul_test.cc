// The product's kernels: the bits of the host's, for every kind of weights.
#include "src/kernels/activations.h"
#include "src/kernels/bf16_activations.h"
#include "src/tensor/packed_layout.h"
#include "tests/cuda/kernel_check.h"

namespace outrigger::cuda {
namespace {

std::vector<PackedKind> quantised_kinds() {
  std::vector<PackedKind> kinds;
  for (const GroupLayout& layout : kGroupLayouts) kinds.push_back(layout.kind);
  return kinds;
}

// The panel is the host's on both sides, so that this is about the product alone.
void check_product(PackedKind kind, size_t rows, size_t columns, size_t tokens, bool with_panel, bool accumulates) {
  CAPTURE(static_cast<int>(kind), rows, columns, tokens, with_panel, accumulates);
  const PackedMatrix matrix(kind, rows, columns);
  TwinBytes weights(matrix.bytes.data(), matrix.bytes.size()), src(normal_floats(tokens * (columns + 3), 3));
  std::vector<std::byte> made(std::max(activation_panel_bytes(tokens, columns / 32 * 32), bf16_panel_bytes(tokens, columns)));
  if (takes_int8_activations(kind)) {
    quantize_activations({src.on(false), columns + 3, made.data(), tokens, columns}, 0, tokens);
  } else {
    round_activations({src.on(false), columns + 3, made.data(), columns}, 0, tokens);
  }
  TwinBytes panel(made.data(), made.size());
  // A card's size decides how the work is cut.
  for (const uint32_t multiprocessors : {1u, 200u}) {
    CAPTURE(multiprocessors);
    TwinBytes dst(normal_floats(tokens * (rows + 1), 4));
    run_twice({emulator::launch_only(), nullptr, multiprocessors}, [&](bool device) {
      return MatmulArgs{kind,
                        weights.on<std::byte>(device),
                        rows,
                        columns,
                        src.on(device),
                        columns + 3,
                        with_panel ? panel.on<std::byte>(device) : nullptr,
                        dst.on(device),
                        rows + 1,
                        tokens,
                        accumulates};
    });
    REQUIRE(dst.is_equal());
  }
}

TEST_CASE("cuda product: one token with int8 activations, for every quantised kind, over chunks and their ends") {
  for (const PackedKind kind : quantised_kinds()) {
    for (const size_t columns : {256u, 2304u}) check_product(kind, 40, columns, 1, true, columns == 256);
  }
}

TEST_CASE("cuda product: two to eight tokens") {
  for (const PackedKind kind : quantised_kinds()) {
    for (const size_t tokens : {2u, 3u, 5u, 8u}) check_product(kind, 33, 512, tokens, true, tokens % 2 == 0);
  }
}

TEST_CASE("cuda product: tiles of tokens, the last one smaller") {
  for (const PackedKind kind : {PackedKind::kQ4_1, PackedKind::kQ6_K, PackedKind::kO3, PackedKind::kN4, PackedKind::kN2_128}) {
    for (const size_t tokens : {9u, 20u, 32u}) check_product(kind, 16, 256, tokens, true, false);
  }
}

TEST_CASE("cuda product: many tokens, for every quantised kind") {
  for (const PackedKind kind : quantised_kinds()) check_product(kind, 70, 256, 41, true, true);
  for (const size_t rows : {1u, 16u, 17u, 257u, 300u}) check_product(PackedKind::kQ4_0, rows, 64, 33, true, false);
}

TEST_CASE("cuda product: rows that are not whole units of their kind") {
  for (const size_t columns : {32u, 96u, 576u}) {
    for (const PackedKind kind : {PackedKind::kQ8_0, PackedKind::kQ4_0, PackedKind::kQ4_1, PackedKind::kQ5_0, PackedKind::kIQ4_NL}) {
      for (const size_t tokens : {1u, 4u, 40u}) check_product(kind, 20, columns, tokens, true, false);
    }
  }
}

TEST_CASE("cuda product: float32 activations, for every quantised kind") {
  for (const PackedKind kind : quantised_kinds()) {
    for (const size_t tokens : {1u, 9u}) check_product(kind, 130, 256, tokens, false, tokens == 9);
  }
}

TEST_CASE("cuda product: float weights, with float32 and with bf16 activations") {
  for (const PackedKind kind : {PackedKind::kF32, PackedKind::kF16, PackedKind::kBF16}) {
    for (const size_t columns : {1u, 2u, 7u, 130u, 257u, 700u}) {
      for (const size_t tokens : {1u, 2u, 6u}) {
        check_product(kind, 37, columns, tokens, false, tokens == 2);
        if (kind == PackedKind::kBF16) check_product(kind, 37, columns, tokens, true, tokens == 2);
      }
    }
  }
}

TEST_CASE("cuda product: several matrices in one launch give what each gives alone") {
  constexpr size_t kColumns = 512;
  for (const size_t tokens : {1u, 3u, 8u, 20u, 70u}) {
    CAPTURE(tokens);
    const std::vector<float> src = normal_floats(tokens * kColumns, 3);
    std::vector<std::byte> panel(activation_panel_bytes(tokens, kColumns));
    quantize_activations({src.data(), kColumns, panel.data(), tokens, kColumns}, 0, tokens);
    TwinBytes tokens_codes(panel.data(), panel.size());
    std::vector<TwinBytes> weights, results;
    std::vector<MatmulArgs> joined;
    for (const size_t rows : {40u, 17u, 300u}) {
      const PackedMatrix matrix(PackedKind::kQ4_1, rows, kColumns);
      weights.emplace_back(matrix.bytes.data(), matrix.bytes.size());
      results.emplace_back(normal_floats(tokens * rows, 4));
      const auto args = [&](bool device) {
        return MatmulArgs{PackedKind::kQ4_1,
                          weights.back().on<std::byte>(device),
                          rows,
                          kColumns,
                          nullptr,
                          0,
                          tokens_codes.on<std::byte>(device),
                          results.back().on(device),
                          rows,
                          tokens,
                          rows == 17};
      };
      joined.push_back(args(true));
      REQUIRE(can_join(joined[0], joined.back()));
      const MatmulArgs alone = args(false);
      matmul(alone, 0, matmul_blocks(rows));
    }
    REQUIRE(launch_products(emulated_launcher(), joined) == kCudaOk);
    for (const TwinBytes& result : results) REQUIRE(result.is_equal());
  }
}

TEST_CASE("cuda product: a matrix of which the first columns are used") {
  const PackedMatrix matrix(PackedKind::kO4, 32, 512);
  TwinBytes weights(matrix.bytes.data(), matrix.bytes.size()), src(normal_floats(64, 3)), dst(32 * sizeof(float));
  run_twice([&](bool device) {
    return MatmulArgs{
        PackedKind::kO4, weights.on<std::byte>(device), 32, 64, src.on(device), 64, nullptr, dst.on(device), 32, 1, false, 512};
  });
  REQUIRE(dst.is_equal());
}

}  // namespace
}  // namespace outrigger::cuda
