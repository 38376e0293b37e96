// Copies within the device.
#include "tests/cuda/kernel_check.h"

namespace outrigger::cuda {
namespace {

TEST_CASE("cuda copy: every byte and none beside them, however the places are aligned") {
  for (const size_t bytes : {1u, 3u, 15u, 16u, 17u, 33u, 700u, 5000u}) {
    for (const size_t src_offset : {0u, 1u, 4u, 13u}) {
      for (const size_t dst_offset : {0u, 1u, 5u, 8u, 13u}) {
        CAPTURE(bytes, src_offset, dst_offset);
        TwinBytes src(normal_floats(bytes / 4 + 8, 1)), dst(bytes + 32);
        run_twice([&](bool device) {
          return CopyArgs{src.on<std::byte>(device, src_offset), dst.on<std::byte>(device, dst_offset), bytes};
        });
        REQUIRE(dst.is_equal());
      }
    }
  }
}

}  // namespace
}  // namespace outrigger::cuda
