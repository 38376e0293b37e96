// FaultyBackend keeps the contract while nothing is injected, and fails where it is told to: what sweeps rely on.
#include "tests/support/faulty_backend.h"

#include "tests/contract/backend_contract.h"
#include "tests/contract/backend_work_contract.h"

namespace outrigger {
namespace {

using contract::kPatience;
using contract::must;

std::unique_ptr<FaultyBackend> open_faulty() {
  return std::make_unique<FaultyBackend>(must(open_backend("emulated:memory=32MiB,link=100GB/s,latency=0us")));
}

TEST_CASE("faulty backend: without a fault it keeps every contract") {
  contract::check_memory_contract(open_faulty);
  contract::check_copy_contract(open_faulty);
  contract::check_stream_contract(open_faulty);
  contract::check_failure_contract(open_faulty);
}

// A small step that uses every call: each must pass its failure on. Returns the first.
Status step(Backend& backend) {
  OTR_ASSIGN(const DeviceMemory memory, backend.allocate(8192));
  OTR_ASSIGN(const PinnedMemory pinned, backend.allocate_pinned(8192));
  for (int i = 0; i < 3; ++i) {
    OTR_TRY(backend.copy_to_device(Stream::kToDevice, memory.data(), pinned.data(), 4096));
    OTR_ASSIGN(const Event sent, backend.record(Stream::kToDevice));
    OTR_TRY(backend.wait(Stream::kCompute, sent));
    float* const floats = reinterpret_cast<float*>(memory.data());
    OTR_TRY(backend.launch(Stream::kCompute, AddArgs{floats, 1024, floats + 1024, 1024, 1, 1024}));
    OTR_TRY(backend.copy_to_host(Stream::kCompute, pinned.data() + 4096, memory.data() + 4096, 4096));
    OTR_ASSIGN(const Event done, backend.record(Stream::kCompute));
    OTR_TRY(backend.query(done).status());
    OTR_TRY(backend.synchronize(done, kPatience));
  }
  return {};
}

TEST_CASE("faulty backend: each fault strikes at its call, and a sweep over all calls meets each of them") {
  for (size_t f = 0; f < kFaults; ++f) {
    const auto fault = static_cast<Fault>(f);
    const auto clean = open_faulty();
    REQUIRE(step(*clean).is_ok());
    const uint64_t calls = clean->calls(fault);
    CAPTURE(f, calls);
    REQUIRE(calls >= 1);
    REQUIRE_FALSE(clean->has_happened());
    for (uint64_t nth = 1; nth <= calls; ++nth) {
      CAPTURE(nth);
      const auto backend = open_faulty();
      backend->inject(fault, nth);
      const Status status = step(*backend);
      REQUIRE(backend->has_happened());
      const bool is_memory = fault == Fault::kAllocate || fault == Fault::kAllocatePinned;
      const bool is_behind_the_last_look = fault == Fault::kHang && status.is_ok();  // an event that only a stream waits for
      if (!is_behind_the_last_look) {
        REQUIRE(status.code() == (is_memory ? StatusCode::kOutOfMemory : StatusCode::kDevice));
        REQUIRE(status.message().starts_with("injected"));
      }
      const bool stays = !is_memory && fault != Fault::kHang;
      REQUIRE(backend->allocate(1).is_ok() != stays);
    }
  }
}

}  // namespace
}  // namespace outrigger
