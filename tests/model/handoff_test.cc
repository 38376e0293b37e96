// Turns of a host and a device: a thread that does what the device's operations say.
#include "src/model/handoff.h"

#include <thread>

#include "src/base/thread_team.h"
#include "src/device/op_run.h"
#include "tests/support/engines.h"

namespace outrigger::testing {
namespace {

using namespace std::chrono_literals;

constexpr HandoffSize kSize{3, 5};

struct Words {
  std::vector<HandoffWord> memory = std::vector<HandoffWord>(handoff_bytes(kSize) / sizeof(HandoffWord));
  std::unique_ptr<ThreadTeam> team = must(ThreadTeam::create(1));

  std::byte* data() { return reinterpret_cast<std::byte*>(memory.data()); }
  void run(const DeviceOp& op) {
    team->run([&op](const TeamMember& member) { run_op(op, member); });
  }
};

TEST_CASE("Handoff: turns pass what either side computes, step after step, with all that there is room for") {
  Words words;
  Handoff handoff(words.data(), kSize);
  constexpr size_t kOut = 3 * kHandoffTokens, kIn = 5 * kHandoffTokens;
  for (int step = 0; step < 20; ++step) {
    handoff.begin();
    const int turns = 1 + step % 4;
    std::vector<float> sum(kIn, 1.0f);
    std::thread device([&] {
      std::vector<float> x(kOut);
      for (int turn = 0; turn < turns; ++turn) {
        for (size_t i = 0; i < kOut; ++i) x[i] = static_cast<float>(turn * 1000 + static_cast<int>(i));
        words.run(handoff.send(x.data(), kOut));
        words.run(handoff.receive(sum.data(), 0, kIn / 2, true));
        words.run(handoff.receive(sum.data() + kIn / 2, kIn / 2, kIn - kIn / 2, true));
      }
    });
    bool is_right = true;
    for (int turn = 0; turn < turns; ++turn) {
      std::vector<float> taken(kOut);
      is_right = is_right && handoff.take(taken.data(), kOut, CancelToken()).is_ok();
      for (size_t i = 0; i < kOut; ++i) is_right = is_right && taken[i] == static_cast<float>(turn * 1000 + static_cast<int>(i));
      const std::vector<float> answer(kIn, static_cast<float>(turn + 1));
      std::thread other([&] { handoff.give(answer.data(), 0, kIn / 3, kIn); });
      handoff.give(answer.data(), 0, 0, kIn / 3);
      other.join();
    }
    device.join();
    CHECK(is_right);
    CHECK(sum == std::vector<float>(kIn, 1.0f + static_cast<float>(turns * (turns + 1)) / 2));
    CHECK_FALSE(handoff.has_timed_out());
  }
}

TEST_CASE("Handoff: what one step left behind is nothing that the next one takes for its own") {
  Words words;
  Handoff handoff(words.data(), kSize, 1s, 20ms);
  const std::vector<float> x = {1, 2, 3};
  float taken[3] = {};
  handoff.begin();
  words.run(handoff.send(x.data(), 3));
  words.run(handoff.send(x.data(), 3));  // a step that fails: the host took neither
  handoff.begin();
  CHECK(handoff.take(taken, 3, CancelToken()).code() == StatusCode::kDevice);
}

TEST_CASE("Handoff: a wait ends when it is closed, cancelled, or nobody comes, and the next step is right") {
  Words words;
  Handoff handoff(words.data(), kSize, 20ms, 50ms);
  float taken[3] = {};
  const CancelToken cancelled;
  cancelled.cancel();
  handoff.begin();
  CHECK(handoff.take(taken, 3, cancelled).code() == StatusCode::kCancelled);
  const Status late = handoff.take(taken, 3, CancelToken());
  CHECK(late.code() == StatusCode::kDevice);
  CHECK(late.message().find("too long") != std::string::npos);
  handoff.close();
  CHECK(handoff.take(taken, 3, CancelToken()).message().find("did not come") != std::string::npos);
  words.run(handoff.receive(taken, 0, 3, true));  // at once
  CHECK_FALSE(handoff.has_timed_out());

  handoff.begin();
  words.run(handoff.send(taken, 3));
  words.run(handoff.receive(taken, 0, 3, true));
  CHECK(handoff.has_timed_out());
  handoff.close();  // why it was closed first stays
  CHECK(handoff.has_timed_out());

  handoff.begin();
  CHECK_FALSE(handoff.has_timed_out());
  const std::vector<float> x = {4, 5, 6};
  words.run(handoff.send(x.data(), 3));
  must(handoff.take(taken, 3, CancelToken()));
  CHECK(std::equal(x.begin(), x.end(), taken));
}

TEST_CASE("Handoff: its words and the flag are inside its memory") {
  for (const HandoffSize size : {HandoffSize{1, 1}, {576, 1536}, {3, 5}}) {
    CHECK(handoff_bytes(size) >= kHandoffFlagBytes + 8 * kHandoffTokens * (size.to_host + size.to_device));
    CHECK(handoff_bytes(size) % 4096 == 0);
  }
  CHECK(handoff_bytes({UINT64_MAX / 2, UINT64_MAX / 2}) > UINT64_MAX - 4096);  // nothing wraps: it is never planned
}

}  // namespace
}  // namespace outrigger::testing
