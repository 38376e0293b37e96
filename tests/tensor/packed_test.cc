// Packed weights: unpacking gives dequantize()'s bits, padding is zero, and sizes are what the layout says.
#include "src/tensor/packed.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "src/tensor/dequantize.h"
#include "src/tensor/packed_layout.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

constexpr DType kRunnable[] = {DType::kF32,  DType::kF16,    DType::kBF16,   DType::kQ8_0, DType::kQ4_0, DType::kQ4_1,
                               DType::kQ5_0, DType::kQ5_1,   DType::kQ2_K,   DType::kQ3_K, DType::kQ4_K, DType::kQ5_K,
                               DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS, DType::kMXFP4,
                               DType::kO2,   DType::kO3,     DType::kO4,     DType::kN2,   DType::kN3,   DType::kN4,
                               DType::kO2_128, DType::kO3_128, DType::kO4_128, DType::kN2_128, DType::kN3_128, DType::kN4_128};

std::vector<std::byte> random_bytes(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// Packs `rows` rows at `src`, unpacks them, and requires the bits of dequantize(); a NaN may be any NaN.
void require_round_trip(DType type, const std::byte* src, size_t rows, size_t columns) {
  const PackedKind kind = packed_kind(type).value();
  const size_t row_size = *row_bytes(type, columns), size = packed_bytes(kind, rows, columns);
  std::vector<std::byte> packed(size + 64, std::byte{0x5a});
  pack_rows(type, src, rows, columns, packed.data());
  for (size_t i = size; i < packed.size(); ++i) REQUIRE(packed[i] == std::byte{0x5a});

  std::vector<float> expected(columns), got(columns);
  for (size_t row = 0; row < rows; ++row) {
    REQUIRE(dequantize(type, src + row * row_size, expected.data(), columns).is_ok());
    unpack_row(kind, packed.data(), row, columns, got.data());
    CAPTURE(traits(type).name, columns, rows, row);
    for (size_t k = 0; k < columns; ++k) {
      if (std::memcmp(&expected[k], &got[k], 4) != 0 && !(expected[k] != expected[k] && got[k] != got[k])) FAIL(k);
    }
  }
}

TEST_CASE("Packed: unpacking a row gives the bits of dequantize for every type and shape, from unaligned bytes") {
  for (DType type : kRunnable) {
    for (size_t columns : {32, 64, 96, 160, 256, 576, 768}) {
      if (!row_bytes(type, columns)) continue;
      for (size_t rows : {1, 15, 16, 17, 33}) {
        const std::vector<std::byte> file = random_bytes(rows * *row_bytes(type, columns) + 1, static_cast<unsigned>(columns + rows));
        require_round_trip(type, file.data() + 1, rows, columns);
      }
    }
  }
}

// tests/golden/make_dequantize.py put every scale, code and sign into these rows, quantised and random ones.
TEST_CASE("Packed: unpacking a row gives the bits of the reference's golden blocks") {
  for (DType type : kRunnable) {
    const DTypeTraits& file_type = traits(type);
    std::ifstream file(OTR_SOURCE_DIR "/tests/golden/dequantize/" + std::string(file_type.name) + ".raw", std::ios::binary);
    const std::vector<char> raw{std::istreambuf_iterator<char>(file), {}};
    const size_t columns = std::max<size_t>(file_type.block_elements, 32), row_size = *row_bytes(type, columns);
    REQUIRE(raw.size() >= row_size);
    require_round_trip(type, reinterpret_cast<const std::byte*>(raw.data()), raw.size() / row_size, columns);
  }
}

TEST_CASE("Packed: a matrix has the same bytes wherever it is packed, and its padding is zero") {
  for (DType type : kRunnable) {
    const PackedKind kind = packed_kind(type).value();
    // 96: three groups, where some kinds have units of two or four
    const size_t columns = traits(type).block_elements > 32 ? traits(type).block_elements : 96;
    const std::vector<std::byte> file = random_bytes(3 * *row_bytes(type, columns), 5);
    std::vector<std::byte> packed(packed_bytes(kind, 3, columns), std::byte{0xff}), again(packed.size(), std::byte{0x3c});
    pack_rows(type, file.data(), 3, columns, packed.data());
    pack_rows(type, file.data(), 3, columns, again.data());
    CAPTURE(traits(type).name);
    REQUIRE(packed == again);

    const GroupLayout* layout = find_group_layout(kind);
    const size_t padded = layout ? packed.size() / layout->unit_bytes() * layout->unit_groups * 32 : columns;
    std::vector<float> row(padded);
    for (size_t r = 0; r < 16; ++r) {
      unpack_row(kind, packed.data(), r, row.size(), row.data());
      for (size_t k = r < 3 ? columns : 0; k < padded; ++k) REQUIRE(row[k] == 0);
    }
  }
}

TEST_CASE("Packed: sizes are those of the layout and multiples of a cache line") {
  REQUIRE(packed_block_bytes(PackedKind::kQ4_1, 576) == 18 * 320);
  REQUIRE(packed_block_bytes(PackedKind::kQ8_0, 576) == 9 * 1088);
  REQUIRE(packed_block_bytes(PackedKind::kQ4_0, 96) == 2 * 576);
  REQUIRE(packed_block_bytes(PackedKind::kMXFP4, 160) == 2 * 1088);
  REQUIRE(packed_block_bytes(PackedKind::kQ6_K, 512) == 2 * 3392);
  REQUIRE(packed_block_bytes(PackedKind::kF32, 576) == 576 * 64);
  REQUIRE(packed_bytes(PackedKind::kQ4_1, 577, 576) == 37 * 18 * 320);
  for (DType type : kRunnable) {
    for (size_t columns = 32; columns < 1100; columns += 32) {
      if (!row_bytes(type, columns)) continue;
      const uint64_t packed = packed_block_bytes(*packed_kind(type), columns), file = 16 * *row_bytes(type, columns);
      REQUIRE(packed % kPackAlignment == 0);
      REQUIRE(packed >= file);  // nothing is lost
      if (columns % 256 == 0) REQUIRE(static_cast<double>(packed) < 1.06 * static_cast<double>(file));
    }
  }
  REQUIRE(packed_block_bytes(PackedKind::kF16, 33) % kPackAlignment == 0);
}

// Files hold these bytes (outrigger.packed.layout 1): whoever changes them must count the layout up, kGgufPackedLayout in src/io/gguf.h.
TEST_CASE("Packed: the bytes are those of layout 1, which packed files were written in") {
  constexpr std::pair<DType, uint64_t> kHashes[] = {
      {DType::kF32, 0xf34e9d031cc850b6},
      {DType::kF16, 0x2e38cf3900eb3295},
      {DType::kBF16, 0xcd50410b980338e5},
      {DType::kQ8_0, 0xaef07c148cedb976},
      {DType::kQ4_0, 0xf4c44b7a43d5f6b5},
      {DType::kQ4_1, 0x8695108df7fe14f6},
      {DType::kQ5_0, 0x119574619af8155c},
      {DType::kQ5_1, 0x93e47758e2cd8767},
      {DType::kQ2_K, 0x88b74c839943858},
      {DType::kQ3_K, 0x7d5911a11b127c31},
      {DType::kQ4_K, 0x51c19c6e97302881},
      {DType::kQ5_K, 0xf89c2ab8182ce1b9},
      {DType::kQ6_K, 0x94fc4e3c1e06d1c0},
      {DType::kIQ4_NL, 0xf4c44b7a43d5f6b5},
      {DType::kIQ4_XS, 0x64a26cd72fadca8},
      {DType::kMXFP4, 0xb0a3d7a4ad088379},
      {DType::kO2, 0xc6562afbcc3449ce},
      {DType::kO3, 0x40beb4240f4878d1},
      {DType::kO4, 0x14ac4236898c77f9},
      {DType::kN2, 0xc6562afbcc3449ce},
      {DType::kN3, 0x40beb4240f4878d1},
      {DType::kN4, 0x14ac4236898c77f9},
      {DType::kO2_128, 0x61e8619724d63ff7},
      {DType::kO3_128, 0xf20841c3d250778c},
      {DType::kO4_128, 0x64363eeeaaf773ff},
      {DType::kN2_128, 0x61e8619724d63ff7},
      {DType::kN3_128, 0xf20841c3d250778c},
      {DType::kN4_128, 0x64363eeeaaf773ff},
  };
  REQUIRE(std::size(kHashes) == std::size(kRunnable));
  for (const auto& [type, expected] : kHashes) {
    CAPTURE(traits(type).name);
    constexpr size_t kRows = 19, kColumns = 512;
    const std::vector<std::byte> rows = random_bytes(kRows * *row_bytes(type, kColumns), 1);
    std::vector<std::byte> packed(packed_bytes(*packed_kind(type), kRows, kColumns));
    pack_rows(type, rows.data(), kRows, kColumns, packed.data());
    uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
    for (const std::byte byte : packed) hash = (hash ^ std::to_integer<uint64_t>(byte)) * 0x100000001b3;
    CHECK(hash == expected);
  }
}

TEST_CASE("Packed: the types of files that run are those that can be dequantised, and the others have no layout") {
  size_t runnable = 0;
  for (const DTypeTraits& type : all_dtypes()) {
    CAPTURE(type.name);
    REQUIRE(packed_kind(type.type).has_value() == type.can_dequantize);
    if (!type.can_dequantize) continue;
    ++runnable;
    REQUIRE(std::count(std::begin(kRunnable), std::end(kRunnable), type.type) == 1);
    REQUIRE(takes_int8_activations(*packed_kind(type.type)) == (type.block_elements > 1));
  }
  REQUIRE(runnable == std::size(kRunnable));
}

}  // namespace
}  // namespace outrigger
