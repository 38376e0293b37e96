// Sizes and rates as people write them.
#include <outrigger/sizes.h>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

uint64_t bytes_of(const char* text) {
  const auto size = parse_size(text);
  REQUIRE(size.is_ok());
  REQUIRE(size.value().share == 0);
  return size.value().bytes;
}

TEST_CASE("Sizes: units of 1000 and of 1024, fractions, and bytes without a unit") {
  REQUIRE(bytes_of("0") == 0);
  REQUIRE(bytes_of("612") == 612);
  REQUIRE(bytes_of("612B") == 612);
  REQUIRE(bytes_of("512MiB") == 536870912);
  REQUIRE(bytes_of("8GB") == 8000000000);
  REQUIRE(bytes_of("1.5KiB") == 1536);
  REQUIRE(bytes_of("2kB") == 2000);
  REQUIRE(bytes_of("1TiB") == 1099511627776);
}

TEST_CASE("Sizes: a share is kept as one") {
  const auto share = parse_size("75%");
  REQUIRE(share.is_ok());
  REQUIRE(share.value().share == 0.75);
  REQUIRE(share.value().bytes == 0);
}

TEST_CASE("Sizes: what is not one is refused with what is needed") {
  for (const char* text : {"", "MiB", "-1", "-0", "+1", " 1", "1 MiB", "1mib", "1M", "0x10", "nan", "inf", "1e3", "5MiB/s", "1MiBx",
                           "99999999999GB", "0%", "101%", "-5%"}) {
    CAPTURE(text);
    const auto size = parse_size(text);
    REQUIRE_FALSE(size.is_ok());
    REQUIRE(size.status().code() == StatusCode::kInvalidArgument);
    REQUIRE(size.status().message().find("need") != std::string::npos);
  }
}

TEST_CASE("Rates: a size a second, and nothing else") {
  const auto rate = parse_rate("4GB/s");
  REQUIRE(rate.is_ok());
  REQUIRE(rate.value() == 4e9);
  for (const char* text : {"4GB", "0B/s", "50%/s", "/s", "GB/s"}) {
    CAPTURE(text);
    REQUIRE_FALSE(parse_rate(text).is_ok());
  }
}

}  // namespace
}  // namespace outrigger
