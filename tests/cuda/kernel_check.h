// An operation run by an emulated kernel and by the host's, on the same memory twice: the bits must be equal.
#ifndef OUTRIGGER_TESTS_CUDA_KERNEL_CHECK_H_
#define OUTRIGGER_TESTS_CUDA_KERNEL_CHECK_H_

#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <vector>

#include "cuda/kernels/ops.h"
#include "src/base/thread_team.h"
#include "src/device/op_run.h"
#include "tests/cuda/emulator/emulator.h"
#include "tests/kernels/kernel_case.h"

namespace outrigger::cuda {

/// Bytes that exist twice, each aligned to 64 and exactly as long as they are, so that a sanitizer sees what is out of bounds.
class TwinBytes {
 public:
  TwinBytes(const void* values, size_t bytes) : bytes_(bytes) {
    for (auto& copy : copies_) {
      copy.reset(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{64})));
      std::memcpy(copy.get(), values, bytes);
    }
  }
  explicit TwinBytes(const std::vector<float>& values) : TwinBytes(values.data(), values.size() * sizeof(float)) {}
  explicit TwinBytes(size_t bytes) : TwinBytes(std::vector<std::byte>(bytes, std::byte{0x7b}).data(), bytes) {}

  template <typename T = float>
  T* on(bool is_device, size_t offset = 0) {
    return reinterpret_cast<T*>(copies_[is_device].get()) + offset;
  }
  bool is_equal() const { return std::memcmp(copies_[0].get(), copies_[1].get(), bytes_) == 0; }

 private:
  struct Free {
    void operator()(std::byte* data) const { ::operator delete (data, std::align_val_t{64}); }
  };
  std::unique_ptr<std::byte, Free> copies_[2];
  size_t bytes_;
};

inline Launcher emulated_launcher() { return {emulator::launch_only(), nullptr, 4}; }

/// Runs operations one after the other by the host's kernels.
inline void run_on_host(const std::vector<DeviceOp>& ops) {
  static const std::unique_ptr<ThreadTeam> team = [] {
    Result<std::unique_ptr<ThreadTeam>> made = ThreadTeam::create(1);
    REQUIRE(made.is_ok());
    return std::move(made).value();
  }();
  for (const DeviceOp& op : ops) team->run([&op](const TeamMember& member) { run_op(op, member); });
}

/// Runs make(true) by the emulated kernel and make(false) by the host's.
template <typename Make>
void run_twice(const Launcher& launcher, Make make) {
  REQUIRE(launch_op(launcher, make(true)) == kCudaOk);
  run_on_host({make(false)});
}

template <typename Make>
void run_twice(Make make) {
  run_twice(emulated_launcher(), make);
}

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_TESTS_CUDA_KERNEL_CHECK_H_
