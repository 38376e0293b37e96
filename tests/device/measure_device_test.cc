// measure_device: figures that fit the device that was asked for, and no failure that is lost.
#include "src/device/measure_device.h"

#include "tests/support/catch.h"
#include "tests/support/faulty_backend.h"
#include "tests/support/few_cases.h"

namespace outrigger {
namespace {

std::unique_ptr<Backend> open(const std::string& device) {
  Result<std::unique_ptr<Backend>> backend = open_backend(device);
  INFO(backend.status().to_string());
  REQUIRE(backend.is_ok());
  return std::move(backend).value();
}

TEST_CASE("measure_device: finds the link's rate, in both directions, and a rate for everything else") {
  const std::unique_ptr<Backend> backend = open("emulated:memory=32MiB,link=200MB/s,latency=10us");
  MachineProfile profile;
  const Status status = measure_device(*backend, 0.05, &profile);
  INFO(status.to_string());
  REQUIRE(status.is_ok());
  REQUIRE(profile.device == backend->inventory().name);
  REQUIRE(profile.device_memory_bytes == 32 << 20);
  for (const Rate* rate : {&profile.h2d_bytes, &profile.d2h_bytes}) {
    CAPTURE(rate->per_s, rate->how);
    REQUIRE(rate->per_s <= 200e6);
    REQUIRE(rate->per_s > 50e6);  // a busy machine wakes the waiting late; alone it is 198e6
  }
  // Bounds that only a wrong unit can miss: see measure_machine_test.cc.
  for (const Rate* rate : {&profile.device_stream_bytes, &profile.device_int8_ops, &profile.device_small_batch_ops,
                           &profile.device_attention_flops}) {
    CAPTURE(rate->per_s, rate->how);
    REQUIRE(rate->per_s > 3e6);
    REQUIRE(rate->per_s < 1e13);
    REQUIRE_FALSE(rate->how.empty());
  }
  // What was asked for, and what waking up takes; a busy machine takes its time.
  REQUIRE(profile.link_latency_us >= 10);
  REQUIRE(profile.link_latency_us < 1e4);
  REQUIRE(profile.handoff_us >= 20);  // twice the latency that was asked for
  REQUIRE(profile.handoff_us < 1e5);
  REQUIRE(profile.device_threads > 0);
  REQUIRE(profile.device_step_overhead_us > 0);
  REQUIRE(profile.device_step_overhead_us < 1e5);
  REQUIRE(backend->inventory().free_bytes == backend->inventory().memory_bytes);  // nothing is kept
}

TEST_CASE("measure_device: counts the scratch buffers that attention has on the device") {
  for (const uint32_t threads : {1u, 3u}) {
    MachineProfile profile;
    REQUIRE(measure_device(*open("emulated:memory=16MiB,link=10GB/s,threads=" + std::to_string(threads)), 0, &profile).is_ok());
    REQUIRE(profile.device_threads == threads);
  }
}

TEST_CASE("measure_device: 8 MiB are enough, and too little is an error") {
  MachineProfile profile;
  REQUIRE(measure_device(*open("emulated:memory=8MiB,link=10GB/s"), 0, &profile).is_ok());
  REQUIRE(profile.device_stream_bytes.per_s > 0);
  MachineProfile small;
  REQUIRE(measure_device(*open("emulated:memory=4MiB,link=10GB/s"), 0, &small).code() == StatusCode::kOutOfMemory);
  REQUIRE(small.device.empty());
}

TEST_CASE("measure_device: a slow link takes seconds, not minutes") {
  MachineProfile profile;
  const auto start = std::chrono::steady_clock::now();
  REQUIRE(measure_device(*open("emulated:memory=16MiB,link=2MB/s"), 0.01, &profile).is_ok());
  REQUIRE(profile.h2d_bytes.per_s <= 2e6);
  REQUIRE(std::chrono::steady_clock::now() - start < std::chrono::seconds(30));
}

TEST_CASE("measure_device: whatever fails, and whenever, is what it reports") {
  const char* const device = "emulated:memory=16MiB,link=100GB/s,latency=0us";
  FaultyBackend clean(open(device));
  MachineProfile profile;
  REQUIRE(measure_device(clean, 0, &profile).is_ok());
  for (size_t f = 0; f < kFaults; ++f) {
    const auto fault = static_cast<Fault>(f);
    const uint64_t calls = clean.calls(fault);
    // All of the first calls, and then ever fewer: one device after the other does the same thing hundreds of times.
    for (uint64_t nth = 1; nth <= calls; nth += 1 + nth / (kIsSanitized ? 1 : 4)) {
      CAPTURE(f, nth, calls);
      FaultyBackend backend(open(device));
      backend.inject(fault, nth);
      MachineProfile failed;
      const Status status = measure_device(backend, 0, &failed);
      REQUIRE(backend.has_happened());
      REQUIRE(status.message().starts_with("injected"));
      REQUIRE(failed.device.empty());
      REQUIRE(backend.inventory().free_bytes == backend.inventory().memory_bytes);
    }
  }
}

}  // namespace
}  // namespace outrigger
