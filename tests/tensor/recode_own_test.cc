// Our own formats as Q4_1: the same values, bit for bit, for every code, scale and minimum.
#include "src/tensor/recode_own.h"

#include <cstring>
#include <random>
#include <vector>

#include "src/tensor/dequantize.h"
#include "src/tensor/encode_own.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

// Infinities and what is no number have no equal values to compare.
uint16_t finite_half(std::mt19937& random) {
  uint16_t bits;
  do bits = static_cast<uint16_t>(random());
  while ((bits & 0x7c00) == 0x7c00);
  return bits;
}

TEST_CASE("Recoding: every code under any scale and minimum has the same bits as Q4_1, from any alignment") {
  std::mt19937 random(3);
  for (const DType type : {DType::kO2, DType::kO3, DType::kO4, DType::kO2_128, DType::kO3_128, DType::kO4_128}) {
    CAPTURE(traits(type).name);
    const int bits = own_bits(type);
    const size_t in_block = traits(type).block_elements;
    constexpr size_t kBlocks = 500;
    const size_t elements = kBlocks * in_block;
    const size_t block_bytes = traits(type).block_bytes;
    std::vector<std::byte> own(kBlocks * block_bytes + 1);
    for (size_t block = 0; block < kBlocks; ++block) {
      uint8_t codes[kMostOwnBlock];
      for (size_t k = 0; k < in_block; ++k) codes[k] = static_cast<uint8_t>((block == 0 ? k : random()) % (1u << bits));
      encode_own_block(type, finite_half(random), finite_half(random), codes, own.data() + 1 + block * block_bytes);
    }
    std::vector<std::byte> recoded(elements / 32 * 20 + 2, std::byte{0x5a});
    recode_own_as_q4_1(type, own.data() + 1, kBlocks, recoded.data() + 1);
    CHECK((recoded.front() == std::byte{0x5a} && recoded.back() == std::byte{0x5a}));
    std::vector<float> want(elements), got(elements);
    REQUIRE(dequantize(type, own.data() + 1, want.data(), elements).is_ok());
    REQUIRE(dequantize(DType::kQ4_1, recoded.data() + 1, got.data(), elements).is_ok());
    CHECK(std::memcmp(want.data(), got.data(), elements * sizeof(float)) == 0);
  }
}

}  // namespace
}  // namespace outrigger
