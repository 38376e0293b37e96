// What every backend promises of memory, whatever the device: one suite, run against each. Work: backend_work_contract.h; operations:
// backend_op_contract.h.
#ifndef OUTRIGGER_TESTS_CONTRACT_BACKEND_CONTRACT_H_
#define OUTRIGGER_TESTS_CONTRACT_BACKEND_CONTRACT_H_

#include <algorithm>
#include <cstdint>
#include <thread>
#include <utility>

#include "tests/contract/backend_case.h"

namespace outrigger::contract {

inline bool all_are(const std::vector<std::byte>& bytes, std::byte value) {
  return std::all_of(bytes.begin(), bytes.end(), [value](std::byte byte) { return byte == value; });
}

inline void fill(Backend& backend, const DeviceMemory& memory, int value) {
  const std::vector<std::byte> bytes(memory.bytes(), static_cast<std::byte>(value));
  put(backend, memory.data(), bytes.data(), bytes.size());
}

inline void check_memory_contract(const OpenBackend& open) {
  const std::unique_ptr<Backend> owner = open();
  Backend& backend = *owner;

  SECTION("has a name and an inventory") {
    REQUIRE_FALSE(backend.name().empty());
    const Inventory inventory = backend.inventory();
    REQUIRE(inventory.name.starts_with(backend.name()));
    REQUIRE(inventory.memory_bytes >= 32 << 20);
    REQUIRE(inventory.free_bytes > 0);
    REQUIRE(inventory.free_bytes <= inventory.memory_bytes);
  }

  SECTION("memory is zeroed, aligned for direct I/O and writable to its last byte") {
    for (uint64_t bytes : {uint64_t{1}, uint64_t{4095}, uint64_t{4096}, uint64_t{100000}, (uint64_t{2} << 20) - 1, uint64_t{2} << 20,
                           (uint64_t{5} << 20) + 1}) {
      CAPTURE(bytes);
      const DeviceMemory memory = must(backend.allocate(bytes));
      REQUIRE(memory.bytes() == bytes);
      REQUIRE(reinterpret_cast<uintptr_t>(memory.data()) % 4096 == 0);
      REQUIRE(all_are(bytes_of(backend, memory), std::byte{0}));
      fill(backend, memory, 0xa5);
      REQUIRE(all_are(bytes_of(backend, memory), std::byte{0xa5}));
    }
  }

  SECTION("memory that was used and given back comes back zeroed") {
    for (int i = 0; i < 3; ++i) {
      const DeviceMemory memory = must(backend.allocate(1 << 16));
      REQUIRE(all_are(bytes_of(backend, memory), std::byte{0}));
      fill(backend, memory, 0xff);
    }
  }

  SECTION("no bytes are no memory, and no error") {
    REQUIRE(must(backend.allocate(0)).bytes() == 0);
    REQUIRE(must(backend.allocate_pinned(0)).bytes() == 0);
  }

  SECTION("allocations do not overlap") {
    std::vector<DeviceMemory> held;
    for (int i = 0; i < 16; ++i) {
      held.push_back(must(backend.allocate(300000)));
      fill(backend, held.back(), i + 1);
    }
    for (int i = 0; i < 16; ++i) REQUIRE(all_are(bytes_of(backend, held[static_cast<size_t>(i)]), std::byte(i + 1)));
  }

  SECTION("memory moves with its owner, and what it was moved from is empty") {
    DeviceMemory first = must(backend.allocate(8192));
    fill(backend, first, 7);
    std::byte* const data = first.data();
    DeviceMemory second(std::move(first));
    REQUIRE(second.data() == data);
    REQUIRE(first.data() == nullptr);  // NOLINT: that is the question
    DeviceMemory third;
    third = std::move(second);
    REQUIRE(third.bytes() == 8192);
    REQUIRE(all_are(bytes_of(backend, third), std::byte{7}));
  }

  SECTION("more than there is is refused with the size, and nothing is lost") {
    for (uint64_t bytes : {uint64_t{1} << 60, uint64_t{UINT64_MAX}, uint64_t{UINT64_MAX} - 4096}) {
      CAPTURE(bytes);
      const Status status = backend.allocate(bytes).status();
      REQUIRE(status.code() == StatusCode::kOutOfMemory);
      REQUIRE(status.message().find("EiB") != std::string::npos);
      REQUIRE(backend.allocate_pinned(bytes).status().code() == StatusCode::kOutOfMemory);
    }
    REQUIRE(backend.allocate(4096).is_ok());
  }

  SECTION("pinned memory is the host's: zeroed, aligned, writable") {
    const PinnedMemory memory = must(backend.allocate_pinned(3 << 20));
    REQUIRE(reinterpret_cast<uintptr_t>(memory.data()) % 4096 == 0);
    REQUIRE(std::count(memory.data(), memory.data() + memory.bytes(), std::byte{0}) == 3 << 20);
    std::memset(memory.data(), 1, memory.bytes());
  }

  SECTION("threads may allocate at once") {
    std::vector<std::thread> threads;
    std::vector<int> good(4, 0);
    for (size_t t = 0; t < good.size(); ++t) {
      threads.emplace_back([&backend, &good, t] {
        for (int i = 0; i < 50; ++i) {
          const Result<DeviceMemory> memory = backend.allocate(70000);
          const Result<PinnedMemory> pinned = backend.allocate_pinned(5000);
          good[t] += memory.is_ok() && pinned.is_ok();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    REQUIRE(good == std::vector<int>(4, 50));
  }
}

}  // namespace outrigger::contract

#endif  // OUTRIGGER_TESTS_CONTRACT_BACKEND_CONTRACT_H_
