// Sizes, rates and workloads as people write them.
#include "src/tool/sizes.h"

#include "src/tool/workload.h"
#include "tests/support/catch.h"

namespace outrigger::tool {
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
  for (const char* text : {"", "MiB", "-1", "-0", "+1", " 1", "1 MiB", "1mib", "1M", "0x10", "nan", "inf", "1e3", "5MiB/s", "1MiBx", "99999999999GB",
                           "0%", "101%", "-5%"}) {
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

TEST_CASE("Sizes: printed with three digits") {
  REQUIRE(format_size(0) == "0 B");
  REQUIRE(format_size(1023) == "1023 B");
  REQUIRE(format_size(1536) == "1.50 KiB");
  REQUIRE(format_size(98362432) == "93.8 MiB");
  REQUIRE(format_size(uint64_t{4} << 30) == "4.00 GiB");
  REQUIRE(format_size((uint64_t{1} << 30) - 1) == "1.00 GiB");
}

TEST_CASE("Workloads: any order, defaults for what is left out") {
  const auto workload = parse_workload("new=7,prompt=90");
  REQUIRE(workload.is_ok());
  REQUIRE(workload.value().new_tokens == 7);
  REQUIRE(workload.value().prompt_tokens == 90);
  REQUIRE(workload.value().batch == Workload().batch);
  REQUIRE(parse_workload("").value().prompt_tokens == Workload().prompt_tokens);
  REQUIRE(parse_workload("ctx=4096").value().context_tokens == 4096);
}

TEST_CASE("Workloads: a part that is not understood is named") {
  for (const char* text : {"prompt", "prompt=", "prompt=x", "prompt=1x", "size=3", "prompt=-1", "=4", "prompt=4294967296", "new=1,,batch=2"}) {
    CAPTURE(text);
    const auto workload = parse_workload(text);
    REQUIRE_FALSE(workload.is_ok());
    REQUIRE(workload.status().code() == StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace outrigger::tool
