// The CPU backend: the contract of all backends, and the choice of one by name.
#include "src/device/cpu_backend.h"

#include <fstream>

#include "tests/contract/backend_contract.h"
#include "tests/contract/backend_op_contract.h"
#include "tests/contract/backend_work_contract.h"

namespace outrigger {
namespace {

TEST_CASE("cpu backend: keeps the contract of memory") { contract::check_memory_contract(make_cpu_backend); }
TEST_CASE("cpu backend: keeps the contract of copies") { contract::check_copy_contract(make_cpu_backend); }
TEST_CASE("cpu backend: keeps the contract of streams") { contract::check_stream_contract(make_cpu_backend); }
TEST_CASE("cpu backend: keeps the contract of failures") { contract::check_failure_contract(make_cpu_backend); }
TEST_CASE("cpu backend: keeps the contract of operations") { contract::check_op_contract(make_cpu_backend); }

TEST_CASE("cpu backend: has no handoffs, since who waits for an answer is who would give it") {
  const std::unique_ptr<Backend> backend = make_cpu_backend();
  CHECK_FALSE(backend->supports(DeviceOpKind::kReceive, PackedKind{}));
  const DeviceMemory memory = backend->allocate(4096).value();
  const PinnedMemory pinned = backend->allocate_pinned(4096).value();
  const SendArgs send{contract::as<float>(memory), reinterpret_cast<HandoffWord*>(pinned.data()), 4, 1};
  CHECK(backend->launch(Stream::kCompute, send).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("cpu backend: its memory is the host's, and none is taken by using it") {
  const Inventory inventory = make_cpu_backend()->inventory();
  CHECK(inventory.host_addressable);
  CHECK(inventory.taken_bytes == 0);
}

TEST_CASE("cpu backend: large memory begins at a huge page") {
  const std::unique_ptr<Backend> backend = make_cpu_backend();
  for (int i = 0; i < 5; ++i) {
    const DeviceMemory memory = backend->allocate((3 << 20) + 4096u * static_cast<unsigned>(i)).value();
    REQUIRE(reinterpret_cast<uintptr_t>(memory.data()) % (2 << 20) == 0);
  }
}

uint64_t address_space_bytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t pages = 0;
  REQUIRE(file >> pages);
  return pages * 4096;
}

TEST_CASE("cpu backend: what is freed is the system's again at once") {
  const std::unique_ptr<Backend> backend = make_cpu_backend();
  constexpr uint64_t kBytes = (uint64_t{64} << 20) + 12288;
  const uint64_t before = address_space_bytes();
  {
    const DeviceMemory memory = backend->allocate(kBytes).value();
    REQUIRE(address_space_bytes() == before + kBytes);  // not a page more: what aligning took is given back too
  }
  REQUIRE(address_space_bytes() == before);
}

TEST_CASE("open_backend: opens the CPU, and says of others why not") {
  REQUIRE(open_backend("cpu").value()->name() == "cpu");
  REQUIRE(open_backend("cuda:9999").status().code() == StatusCode::kUnavailable);
  REQUIRE(open_backend("cuda:x").status().code() == StatusCode::kInvalidArgument);
  REQUIRE(open_backend("emulated:memory=1MiB,link=4GB/s").value()->name() == "emulated");
  REQUIRE(open_backend("emulated").status().code() == StatusCode::kInvalidArgument);
  for (const char* device : {"", "CPU", "cpu:0", "gpu", "cudax"}) {
    const Status status = open_backend(device).status();
    REQUIRE(status.code() == StatusCode::kInvalidArgument);
    REQUIRE(status.message().find("need \"cpu\"") != std::string::npos);
  }
}

}  // namespace
}  // namespace outrigger
