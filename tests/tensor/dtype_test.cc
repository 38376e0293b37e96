// The table of element types.
#include "src/tensor/dtype.h"

#include <string>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

TEST_CASE("DType: a type is found by its number in a file, and numbers the format has dropped or never gave are not") {
  for (const DTypeTraits& layout : all_dtypes()) {
    CHECK(find_dtype(static_cast<uint32_t>(layout.type)) == &layout);
    CHECK(&traits(layout.type) == &layout);
  }
  for (uint32_t value : {4u, 5u, 31u, 32u, 33u, 36u, 37u, 38u, 42u, 255u, 0x80000000u, 0xffffffffu}) CHECK(find_dtype(value) == nullptr);
}

TEST_CASE("DType: bits per weight are what the formats are known for") {
  const auto bits = [](DType type) { return 8.0 * traits(type).block_bytes / traits(type).block_elements; };
  CHECK(bits(DType::kQ8_0) == 8.5);
  CHECK(bits(DType::kQ4_0) == 4.5);
  CHECK(bits(DType::kQ4_1) == 5.0);
  CHECK(bits(DType::kQ2_K) == 2.625);
  CHECK(bits(DType::kQ3_K) == 3.4375);
  CHECK(bits(DType::kQ4_K) == 4.5);
  CHECK(bits(DType::kQ5_K) == 5.5);
  CHECK(bits(DType::kQ6_K) == 6.5625);
  CHECK(bits(DType::kIQ4_XS) == 4.25);
  CHECK(bits(DType::kMXFP4) == 4.25);
  CHECK(bits(DType::kIQ1_S) == 1.5625);
  CHECK(bits(DType::kTQ1_0) == 1.6875);
  CHECK(std::string(traits(DType::kIQ2_XXS).name) == "IQ2_XXS");
}

TEST_CASE("DType: a row's bytes need whole blocks and a product that fits") {
  CHECK(row_bytes(DType::kQ4_1, 576) == 360);
  CHECK(row_bytes(DType::kF32, 3) == 12);
  CHECK(row_bytes(DType::kQ6_K, 0) == 0);
  CHECK_FALSE(row_bytes(DType::kQ4_1, 33));
  CHECK_FALSE(row_bytes(DType::kQ4_K, 128));
  CHECK_FALSE(row_bytes(DType::kF64, uint64_t{1} << 61));
  CHECK(row_bytes(DType::kF64, (uint64_t{1} << 61) - 1) == 0xfffffffffffffff8);
}

}  // namespace
}  // namespace outrigger
