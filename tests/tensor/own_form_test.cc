// Our own formats: types by form, and levels against their tables, looked up one by one.
#include "src/tensor/own_form.h"

#include <cmath>
#include <random>
#include <vector>

#include "src/tensor/codebooks.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

TEST_CASE("OwnForm: every form of two, three and four bits has a type of its own, whose traits are the form's") {
  std::vector<DType> all;
  for (const uint32_t block : {64u, 128u}) {
    for (const bool has_codebook : {false, true}) {
      const OwnForm form{has_codebook, block};
      for (const int bits : {2, 3, 4}) {
        const auto type = own_type(bits, form);
        REQUIRE(type);
        CHECK(std::count(all.begin(), all.end(), *type) == 0);
        all.push_back(*type);
        CHECK(own_bits(*type) == bits);
        CHECK(own_form(*type) == form);
        const DTypeTraits& layout = traits(*type);
        CHECK(layout.block_elements == block);
        CHECK(layout.block_bytes * 8 == block * (bits + form.scale_bits()));
      }
      CHECK((!own_type(1, form) && !own_type(5, form)));
    }
  }
  CHECK((own_type(3) == DType::kO3 && !own_type(3, {false, 32}) && !own_type(3, {true, 256})));
  size_t ours = 0;
  for (const DTypeTraits& type : all_dtypes()) ours += is_own_type(type.type);
  CHECK(ours == all.size());
}

TEST_CASE("OwnLevels: a step goes to the level that is nearest, and back to its code") {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> anywhere(-10, 75);
  for (const int bits : {2, 3, 4}) {
    for (const bool has_codebook : {false, true}) {
      CAPTURE(bits, has_codebook);
      std::vector<float> table;
      const int8_t* const values = bits == 2 ? kOwnValues2 : bits == 3 ? kOwnValues3 : kOwnValues4;
      for (int code = 0; code < 1 << bits; ++code) table.push_back(static_cast<float>(has_codebook ? values[code] : code));
      const OwnLevels levels(bits, has_codebook);
      CHECK(levels.top() == table.back());
      CHECK(levels.may_turn() == has_codebook);
      for (int i = 0; i < 500; ++i) {
        float steps[8], got[8];
        for (float& step : steps) step = anywhere(random);
        levels.round(steps, got);
        for (size_t k = 0; k < 8; ++k) {
          float nearest = table[0];
          for (const float level : table) nearest = std::abs(level - steps[k]) < std::abs(nearest - steps[k]) ? level : nearest;
          REQUIRE(got[k] == nearest);
          REQUIRE(table[levels.code_of(got[k])] == got[k]);
        }
      }
    }
  }
}

TEST_CASE("OwnLevels: a table rises from 0, and two or four quads of its products with int8 fit into 16 bits") {
  for (const auto& [values, count, quads] : {std::tuple{kOwnValues2, 4, 4}, {kOwnValues3, 8, 4}, {kOwnValues4, 16, 2}}) {
    CHECK(values[0] == 0);
    for (int i = 1; i < count; ++i) CHECK(values[i] > values[i - 1]);
    for (int i = count; i < 16; ++i) CHECK(values[i] == 0);
    CHECK(quads * 2 * 127 * values[count - 1] <= INT16_MAX);
  }
}

}  // namespace
}  // namespace outrigger
