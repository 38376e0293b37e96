// What every backend promises, whatever the device: one suite, run against each.
#ifndef OUTRIGGER_TESTS_CONTRACT_BACKEND_CONTRACT_H_
#define OUTRIGGER_TESTS_CONTRACT_BACKEND_CONTRACT_H_

#include <cstdint>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "src/device/backend.h"
#include "tests/support/catch.h"

namespace outrigger {

/// `backend` must hand out memory that the host can write: a backend whose memory it cannot needs a suite through copies.
inline void check_backend_contract(Backend& backend) {
  SECTION("has a name") { REQUIRE_FALSE(backend.name().empty()); }

  SECTION("memory is zeroed, aligned for direct I/O and writable to its last byte") {
    for (uint64_t bytes : {uint64_t{1}, uint64_t{4095}, uint64_t{4096}, uint64_t{100000}, (uint64_t{2} << 20) - 1, uint64_t{2} << 20,
                           (uint64_t{5} << 20) + 1}) {
      CAPTURE(bytes);
      Result<DeviceMemory> memory = backend.allocate(bytes);
      REQUIRE(memory.is_ok());
      REQUIRE(memory->bytes() == bytes);
      REQUIRE(reinterpret_cast<uintptr_t>(memory->data()) % 4096 == 0);
      uint64_t set = 0;
      for (uint64_t i = 0; i < bytes; ++i) set += memory->data()[i] != std::byte{0};
      REQUIRE(set == 0);
      std::memset(memory->data(), 0xa5, bytes);
      REQUIRE(memory->data()[bytes - 1] == std::byte{0xa5});
    }
  }

  SECTION("memory that was used and given back comes back zeroed") {
    for (int i = 0; i < 3; ++i) {
      Result<DeviceMemory> memory = backend.allocate(1 << 16);
      REQUIRE(memory.is_ok());
      REQUIRE(memory->data()[12345] == std::byte{0});
      std::memset(memory->data(), 0xff, 1 << 16);
    }
  }

  SECTION("no bytes are no memory, and no error") {
    Result<DeviceMemory> memory = backend.allocate(0);
    REQUIRE(memory.is_ok());
    REQUIRE(memory->bytes() == 0);
  }

  SECTION("allocations do not overlap") {
    std::vector<DeviceMemory> held;
    for (int i = 0; i < 16; ++i) {
      held.push_back(backend.allocate(300000).value());
      std::memset(held.back().data(), i + 1, 300000);
    }
    for (int i = 0; i < 16; ++i) {
      REQUIRE(held[static_cast<size_t>(i)].data()[0] == std::byte(i + 1));
      REQUIRE(held[static_cast<size_t>(i)].data()[299999] == std::byte(i + 1));
    }
  }

  SECTION("memory moves with its owner, and what it was moved from is empty") {
    DeviceMemory first = backend.allocate(8192).value();
    std::byte* const data = first.data();
    data[7] = std::byte{7};
    DeviceMemory second(std::move(first));
    REQUIRE(second.data() == data);
    REQUIRE(first.data() == nullptr);  // NOLINT: that is the question
    DeviceMemory third;
    third = std::move(second);
    REQUIRE(third.data()[7] == std::byte{7});
    REQUIRE(third.bytes() == 8192);
  }

  SECTION("more than there is is refused with the size, and nothing is lost") {
    for (uint64_t bytes : {uint64_t{1} << 60, uint64_t{UINT64_MAX}, uint64_t{UINT64_MAX} - 4096}) {
      const Status status = backend.allocate(bytes).status();
      REQUIRE(status.code() == StatusCode::kOutOfMemory);
      REQUIRE(status.message().find("EiB") != std::string::npos);
    }
    REQUIRE(backend.allocate(4096).is_ok());
  }

  SECTION("threads may allocate at once") {
    std::vector<std::thread> threads;
    std::vector<int> good(4, 0);
    for (size_t t = 0; t < good.size(); ++t) {
      threads.emplace_back([&backend, &good, t] {
        for (int i = 0; i < 50; ++i) {
          Result<DeviceMemory> memory = backend.allocate(70000);
          if (!memory.is_ok()) continue;
          std::memset(memory->data(), static_cast<int>(t) + 1, 70000);
          good[t] += memory->data()[69999] == std::byte(t + 1);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    REQUIRE(good == std::vector<int>(4, 50));
  }
}

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_CONTRACT_BACKEND_CONTRACT_H_
