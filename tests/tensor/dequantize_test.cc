// Dequantisation against the values that the `gguf` Python package gives the same bytes (tests/golden/make_dequantize.py).
#include "src/tensor/dequantize.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

std::vector<char> golden(const std::string& name) {
  std::ifstream file(OTR_SOURCE_DIR "/tests/golden/dequantize/" + name, std::ios::binary);
  std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  INFO(name);
  REQUIRE_FALSE(bytes.empty());
  return bytes;
}

TEST_CASE("Dequantize: every format gives the reference's bits, from any alignment") {
  int formats = 0;
  for (const DTypeTraits& layout : all_dtypes()) {
    if (!layout.can_dequantize) continue;
    ++formats;
    CAPTURE(layout.name);
    const std::vector<char> raw = golden(std::string(layout.name) + ".raw"), want = golden(std::string(layout.name) + ".f32");
    const size_t elements = want.size() / sizeof(float);
    REQUIRE(raw.size() == elements / layout.block_elements * layout.block_bytes);

    for (size_t shift : {0, 1, 3}) {
      std::vector<std::byte> src(raw.size() + shift);
      std::memcpy(src.data() + shift, raw.data(), raw.size());
      std::vector<uint32_t> got(elements + 1, 0xdeadbeef);
      REQUIRE(dequantize(layout.type, src.data() + shift, reinterpret_cast<float*>(got.data()), elements).is_ok());
      for (size_t i = 0; i < elements; ++i) {
        uint32_t bits;
        std::memcpy(&bits, want.data() + i * sizeof bits, sizeof bits);
        CAPTURE(i, got[i], bits);
        if (got[i] != bits) FAIL();
      }
      REQUIRE(got[elements] == 0xdeadbeef);
    }
  }
  REQUIRE(formats == 28);
}

TEST_CASE("Dequantize: a format whose values are not known is refused by name and nothing is written") {
  const std::byte block[256] = {};
  for (const DTypeTraits& layout : all_dtypes()) {
    if (layout.can_dequantize) continue;
    float dst = 42;
    const Status status = dequantize(layout.type, block, &dst, layout.block_elements);
    CHECK(status.code() == StatusCode::kUnsupported);
    CHECK(status.message().find(layout.name) != std::string::npos);
    CHECK(dst == 42);
  }
}

TEST_CASE("Dequantize: no elements is no work") { CHECK(dequantize(DType::kQ4_1, nullptr, nullptr, 0).is_ok()); }

}  // namespace
}  // namespace outrigger
