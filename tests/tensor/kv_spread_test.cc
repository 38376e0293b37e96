// Which layers are spilled, and which pages hold what: against the words of the definition, tried out.
#include "src/tensor/kv_spread.h"

#include <algorithm>
#include <set>
#include <vector>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

TEST_CASE("kv spread: as many layers as asked for, evenly, numbered in order") {
  for (uint32_t layers = 1; layers <= 40; ++layers) {
    for (uint32_t spilled = 0; spilled <= layers; ++spilled) {
      CAPTURE(layers, spilled);
      std::vector<uint32_t> found;
      for (uint32_t layer = 0; layer < layers; ++layer) {
        REQUIRE(kv_spilled_before(layers, spilled, layer) == found.size());
        if (is_kv_spilled(layers, spilled, layer)) found.push_back(layer);
      }
      REQUIRE(found.size() == spilled);
      for (uint32_t number = 0; number < spilled; ++number) REQUIRE(kv_spilled_layer(layers, spilled, number) == found[number]);
      for (uint32_t i = 1; i < spilled; ++i) {
        REQUIRE(found[i] - found[i - 1] >= layers / spilled);
        REQUIRE(found[i] - found[i - 1] <= (layers + spilled - 1) / spilled);
      }
      if (spilled > 0) REQUIRE(found.back() == layers - 1);
    }
  }
}

TEST_CASE("kv spread: ranges are the pages of every run's bytes, ascending, one request where gaps are small") {
  for (const uint64_t stride : {uint64_t{34}, uint64_t{4096}, uint64_t{5000}, uint64_t{200000}, uint64_t{1} << 20}) {
    for (const uint32_t count : {1u, 2u, 7u}) {
      for (const auto& [begin, end] : std::vector<std::pair<uint64_t, uint64_t>>{
               {0, 0}, {0, 1}, {0, stride / 2}, {stride / 3, stride / 2}, {stride - 1, stride}, {0, stride}}) {
        CAPTURE(stride, count, begin, end);
        std::set<uint64_t> pages;  // in no range twice
        uint64_t requests = 0, last = 0;
        for_each_kv_range({count, stride}, begin, end, [&](uint64_t offset, uint64_t bytes) {
          REQUIRE(offset % 4096 == 0);
          REQUIRE(bytes % 4096 == 0);
          REQUIRE(bytes > 0);
          REQUIRE((requests++ == 0 || offset >= last));
          last = offset + bytes;
          for (uint64_t page = offset / 4096; page < last / 4096; ++page) REQUIRE(pages.insert(page).second);
        });
        if (begin == end) {
          REQUIRE(requests == 0);
          continue;
        }
        std::set<uint64_t> wanted;
        for (uint32_t run = 0; run < count; ++run) {
          for (uint64_t byte = (run * stride + begin) / 4096; byte <= (run * stride + end - 1) / 4096; ++byte) wanted.insert(byte);
        }
        REQUIRE(std::includes(pages.begin(), pages.end(), wanted.begin(), wanted.end()));
        const bool is_one = count == 1 || stride - (end - begin) <= kKvGapBytes;
        REQUIRE(requests == (is_one ? 1 : count));
        if (!is_one) REQUIRE(pages == wanted);
        REQUIRE(last <= whole_kv_pages(count * stride));
      }
    }
  }
}

}  // namespace
}  // namespace outrigger
