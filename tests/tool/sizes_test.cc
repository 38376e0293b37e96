// Sizes for people, and workloads as they write them.
#include "src/tool/sizes.h"

#include "src/tool/workload.h"
#include "tests/support/catch.h"

namespace outrigger::tool {
namespace {

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
  for (const char* text :
       {"prompt", "prompt=", "prompt=x", "prompt=1x", "size=3", "prompt=-1", "=4", "prompt=4294967296", "new=1,,batch=2"}) {
    CAPTURE(text);
    const auto workload = parse_workload(text);
    REQUIRE_FALSE(workload.is_ok());
    REQUIRE(workload.status().code() == StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace outrigger::tool
