// The emulated device's name.
#include "src/device/emulated_device.h"

#include "tests/support/catch.h"

namespace outrigger {
namespace {

TEST_CASE("emulated device's name: sizes, rates and times with units, in any order") {
  const Result<EmulatedDevice> device = parse_emulated_device("emulated:memory=256MiB,link=4GB/s");
  REQUIRE(device.is_ok());
  REQUIRE(device.value().memory_bytes == uint64_t{256} << 20);
  REQUIRE(device.value().link_bytes_per_s == 4e9);
  REQUIRE(device.value().latency == std::chrono::microseconds(10));
  REQUIRE(device.value().threads == 1);

  const EmulatedDevice all = parse_emulated_device("emulated:threads=3,latency=1.5ms,link=500MiB/s,memory=1.5GiB").value();
  REQUIRE(all.memory_bytes == uint64_t{1536} << 20);
  REQUIRE(all.link_bytes_per_s == 500 * 1048576.0);
  REQUIRE(all.latency == std::chrono::microseconds(1500));
  REQUIRE(all.threads == 3);
  for (const auto& [text, ns] : {std::pair("0ns", 0), {"7ns", 7}, {"10us", 10000}, {"1s", 1000000000}}) {
    REQUIRE(parse_emulated_device("emulated:memory=1MB,link=1GB/s,latency=" + std::string(text)).value().latency.count() == ns);
  }
}

TEST_CASE("emulated device's name: reads back as what it was written for") {
  const EmulatedDevice device = parse_emulated_device("emulated:memory=1.5GiB,link=3.5GB/s,latency=7us,threads=2,taken=1MiB").value();
  const EmulatedDevice back = parse_emulated_device(emulated_device_name(device)).value();
  REQUIRE(back.memory_bytes == device.memory_bytes);
  REQUIRE(back.link_bytes_per_s == device.link_bytes_per_s);
  REQUIRE(back.latency == device.latency);
  REQUIRE(back.threads == device.threads);
  REQUIRE(back.taken_bytes == 1 << 20);
}

TEST_CASE("emulated device's name: what is wrong is quoted, with what is needed") {
  struct Bad {
    const char *parts, *quoted, *need;
  };
  for (const Bad& bad : std::initializer_list<Bad>{
           {"memory=256,link=4GB/s", "\"256\"", "with a unit"},
           {"memory=0MiB,link=4GB/s", "\"0MiB\"", "from 4KiB"},
           {"memory=4095B,link=4GB/s", "\"4095B\"", "from 4KiB"},
           {"memory=75%,link=4GB/s", "\"75%\"", "with a unit"},
           {"memory=9000TiB,link=4GB/s", "\"9000TiB\"", "to 8192TiB"},
           {"memory=-1MiB,link=4GB/s", "\"-1MiB\"", "with a unit"},
           {"memory=,link=4GB/s", "memory: got \"\"", "with a unit"},
           {"memory,link=4GB/s", "memory: got \"\"", "with a unit"},
           {"memory=1MiB,link=4GB", "\"4GB\"", "a rate"},
           {"memory=1MiB,link=4/s", "\"4/s\"", "with a unit"},
           {"memory=1MiB,link=0GB/s", "\"0GB/s\"", "a rate"},
           {"memory=1MiB,link=10B/s", "\"10B/s\"", "from 1kB/s"},
           {"memory=1MiB,link=9000TiB/s", "\"9000TiB/s\"", "to 8192TiB/s"},
           {"memory=1MiB,link=4GB/s,latency=10", "\"10\"", "a time with a unit"},
           {"memory=1MiB,link=4GB/s,latency=us", "\"us\"", "a time with a unit"},
           {"memory=1MiB,link=4GB/s,latency=-1us", "\"-1us\"", "a time with a unit"},
           {"memory=1MiB,link=4GB/s,latency=2s", "\"2s\"", "at most 1s"},
           {"memory=1MiB,link=4GB/s,latency=1h", "\"1h\"", "a time with a unit"},
           {"memory=1MiB,link=4GB/s,threads=0", "\"0\"", "1 to 256"},
           {"memory=1MiB,link=4GB/s,taken=1", "\"1\"", "a size with a unit"},
           {"memory=1MiB,link=4GB/s,taken=10%", "\"10%\"", "a size with a unit"},
           {"memory=1MiB,link=4GB/s,taken=1MiB", "takes all of its memory", "need emulated:memory=SIZE"},
           {"memory=1MiB,link=4GB/s,threads=257", "\"257\"", "1 to 256"},
           {"memory=1MiB,link=4GB/s,threads=2x", "\"2x\"", "1 to 256"},
           {"memory=1MiB", "without link", "need emulated:memory=SIZE"},
           {"link=1GB/s", "without memory", "need emulated:memory=SIZE"},
           {"", "unknown part \"\"", "need emulated:memory=SIZE"},
           {"memory=1MiB,link=4GB/s,", "unknown part \"\"", "need emulated:memory=SIZE"},
           {"memory=1MiB,,link=4GB/s", "unknown part \"\"", "need emulated:memory=SIZE"},
           {"memory=1MiB,link=4GB/s,speed=9", "\"speed=9\"", "need emulated:memory=SIZE"},
           {"memory=1MiB,link=4GB/s,memory=2MiB", "memory twice", "need emulated:memory=SIZE"},
           {"Memory=1MiB,link=4GB/s", "\"Memory=1MiB\"", "need emulated:memory=SIZE"},
       }) {
    const Status status = parse_emulated_device("emulated:" + std::string(bad.parts)).status();
    CAPTURE(bad.parts, status.message());
    REQUIRE(status.code() == StatusCode::kInvalidArgument);
    REQUIRE(status.message().starts_with("device: "));
    REQUIRE(status.message().find(bad.quoted) != std::string::npos);
    REQUIRE(status.message().find(bad.need) != std::string::npos);
  }
  for (const char* name : {"", "cpu", "emulated", "emulate:memory=1MiB,link=1GB/s"}) {
    REQUIRE(parse_emulated_device(name).status().code() == StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace outrigger
