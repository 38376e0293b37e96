// The kernels that meet the host in its memory.
#include <thread>

#include "tests/cuda/kernel_check.h"

namespace outrigger::cuda {
namespace {

constexpr size_t kCounts[] = {1, 31, 255, 256, 257, 700};

std::vector<HandoffWord> words_of(const std::vector<float>& values, uint32_t number) {
  std::vector<HandoffWord> words;
  for (const float value : values) words.push_back(handoff_word(value, number));
  return words;
}

TEST_CASE("cuda send: each float with the number, from the arguments or from memory, and nothing beside them") {
  const uint32_t in_memory = 0xfffffff0;
  for (const size_t count : kCounts) {
    for (const bool from_memory : {false, true}) {
      CAPTURE(count, from_memory);
      TwinBytes src(normal_floats(count, 1)), words(count * sizeof(HandoffWord));
      Launcher launcher = emulated_launcher();
      if (from_memory) launcher.varying_at = &in_memory;
      run_twice(launcher, [&](bool device) {
        const uint32_t number = !from_memory ? 9 : device ? 1 : in_memory;
        return SendArgs{src.on(device), words.on<HandoffWord>(device), count, number};
      });
      REQUIRE(words.is_equal());
    }
  }
}

TEST_CASE("cuda receive: adds or stores what is there, with the number from the arguments or from memory") {
  const uint32_t in_memory = 77;
  for (const size_t count : kCounts) {
    for (const bool accumulate : {false, true}) {
      for (const bool from_memory : {false, true}) {
        CAPTURE(count, accumulate, from_memory);
        const std::vector<HandoffWord> sent = words_of(normal_floats(count, 2), in_memory);
        TwinBytes words(sent.data(), count * sizeof(HandoffWord)), dst(normal_floats(count, 3));
        HandoffWord closed = 0;
        Launcher launcher = emulated_launcher();
        if (from_memory) launcher.varying_at = &in_memory;
        run_twice(launcher, [&](bool device) {
          const uint32_t number = from_memory && device ? 1 : in_memory;
          return ReceiveArgs{words.on<HandoffWord>(device), &closed, dst.on(device), count, accumulate, number, 0};
        });
        REQUIRE(dst.is_equal());
        REQUIRE(closed == 0);
      }
    }
  }
}

TEST_CASE("cuda receive: waits for words that come one by one, in any order") {
  constexpr size_t kCount = 300;
  const std::vector<float> values = normal_floats(kCount, 4);
  std::vector<HandoffWord> words = words_of(std::vector<float>(kCount, 1), 4);
  std::vector<float> dst(kCount);
  HandoffWord closed = 0;
  std::thread host([&] {
    for (size_t i = 0; i < kCount; ++i) {
      const size_t at = i * 101 % kCount;
      store_word(&words[at], handoff_word(values[at], 5));
      if (i % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  });
  const ReceiveArgs args{words.data(), &closed, dst.data(), kCount, false, 5, 60'000'000'000};
  const CudaCode code = launch_op(emulated_launcher(), args);
  host.join();
  REQUIRE(code == kCudaOk);
  REQUIRE(dst == values);
  REQUIRE(closed == 0);
}

TEST_CASE("cuda receive: gives up what does not come in time, says so, and touches nothing; what is closed is not waited for") {
  constexpr size_t kCount = 300;
  std::vector<HandoffWord> words = words_of(std::vector<float>(kCount, 1), 4);
  std::vector<float> dst(kCount, 2);
  HandoffWord closed = 0;
  ReceiveArgs args{words.data(), &closed, dst.data(), kCount, true, 5, 5'000'000};
  REQUIRE(launch_op(emulated_launcher(), args) == kCudaOk);
  REQUIRE(closed == kHandoffTimedOut);
  REQUIRE(dst == std::vector<float>(kCount, 2));
  closed = kHandoffClosed;
  args.patience_ns = UINT64_MAX;
  REQUIRE(launch_op(emulated_launcher(), args) == kCudaOk);
  REQUIRE(closed == kHandoffClosed);
  REQUIRE(dst == std::vector<float>(kCount, 2));
}

}  // namespace
}  // namespace outrigger::cuda
