// Packed weights: unpacking gives dequantize()'s bits, padding is zero, and sizes are what the layout says.
#include "src/tensor/packed.h"

#include <cstring>
#include <random>
#include <vector>

#include "src/tensor/dequantize.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

struct Kind {
  PackedKind packed;
  DType type;
};
constexpr Kind kKinds[] = {{PackedKind::kF32, DType::kF32},   {PackedKind::kF16, DType::kF16},   {PackedKind::kBF16, DType::kBF16},
                           {PackedKind::kQ8_0, DType::kQ8_0}, {PackedKind::kQ4_0, DType::kQ4_0}, {PackedKind::kQ4_1, DType::kQ4_1}};

TEST_CASE("Packed: unpacking a row gives the bits of dequantize for every kind and shape, from unaligned bytes") {
  std::mt19937 random(1);
  for (const Kind& kind : kKinds) {
    for (size_t columns : {32, 64, 96, 160, 576}) {
      for (size_t rows : {1, 15, 16, 17, 33}) {
        const size_t row_size = *row_bytes(kind.type, columns);
        std::vector<std::byte> file(rows * row_size + 1);
        for (std::byte& byte : file) byte = static_cast<std::byte>(random());
        const std::byte* src = file.data() + 1;

        const size_t size = packed_bytes(kind.packed, rows, columns);
        std::vector<std::byte> packed(size + 64, std::byte{0x5a});
        pack_rows(kind.type, src, rows, columns, packed.data());
        for (size_t i = size; i < packed.size(); ++i) REQUIRE(packed[i] == std::byte{0x5a});

        std::vector<float> expected(columns), got(columns);
        for (size_t row = 0; row < rows; ++row) {
          REQUIRE(dequantize(kind.type, src + row * row_size, expected.data(), columns).is_ok());
          unpack_row(kind.packed, packed.data(), row, columns, got.data());
          CAPTURE(static_cast<int>(kind.packed), columns, rows, row);
          for (size_t k = 0; k < columns; ++k) {  // bits, so that zeros have signs; but any NaN is a NaN
            REQUIRE((std::memcmp(&expected[k], &got[k], 4) == 0 || (expected[k] != expected[k] && got[k] != got[k])));
          }
        }
      }
    }
  }
}

TEST_CASE("Packed: padding rows and padding groups multiply to zero") {
  for (const Kind& kind : kKinds) {
    constexpr size_t kColumns = 96;  // three groups: Q8_0 and Q4_0 pad a fourth
    const std::vector<std::byte> file(3 * *row_bytes(kind.type, kColumns), std::byte{0x3c});
    std::vector<std::byte> packed(packed_bytes(kind.packed, 3, kColumns), std::byte{0xff});
    pack_rows(kind.type, file.data(), 3, kColumns, packed.data());
    const bool is_paired = kind.packed == PackedKind::kQ8_0 || kind.packed == PackedKind::kQ4_0;
    std::vector<float> row(is_paired ? 128 : kColumns);
    for (size_t r = 0; r < 16; ++r) {
      unpack_row(kind.packed, packed.data(), r, row.size(), row.data());
      for (size_t k = r < 3 ? kColumns : 0; k < row.size(); ++k) REQUIRE(row[k] == 0);
      if (r < 3) REQUIRE(row[0] != 0);
    }
  }
}

TEST_CASE("Packed: sizes are those of the layout and multiples of a cache line") {
  REQUIRE(packed_block_bytes(PackedKind::kQ4_1, 576) == 18 * 320);
  REQUIRE(packed_block_bytes(PackedKind::kQ8_0, 576) == 9 * 1088);
  REQUIRE(packed_block_bytes(PackedKind::kQ4_0, 96) == 2 * 576);
  REQUIRE(packed_block_bytes(PackedKind::kF32, 576) == 576 * 64);
  REQUIRE(packed_bytes(PackedKind::kQ4_1, 577, 576) == 37 * 18 * 320);
  for (const Kind& kind : kKinds) {
    for (size_t columns = 32; columns < 700; columns += 32) REQUIRE(packed_block_bytes(kind.packed, columns) % kPackAlignment == 0);
  }
  REQUIRE(packed_block_bytes(PackedKind::kF16, 33) % kPackAlignment == 0);
}

TEST_CASE("Packed: types without a packed layout are not run") {
  REQUIRE_FALSE(packed_kind(DType::kQ6_K).has_value());
  REQUIRE(packed_kind(DType::kQ4_1) == PackedKind::kQ4_1);
  REQUIRE(takes_int8_activations(PackedKind::kQ8_0));
  REQUIRE_FALSE(takes_int8_activations(PackedKind::kF16));
}

}  // namespace
}  // namespace outrigger
