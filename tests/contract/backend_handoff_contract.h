// What a backend promises of handoffs, if it has them: floats go to the host and come back in the middle of what was submitted.
#ifndef OUTRIGGER_TESTS_CONTRACT_BACKEND_HANDOFF_CONTRACT_H_
#define OUTRIGGER_TESTS_CONTRACT_BACKEND_HANDOFF_CONTRACT_H_

#include <thread>

#include "tests/contract/backend_case.h"

namespace outrigger::contract {

/// A device's floats, and the words that the host sees of them.
class Turns {
 public:
  Turns(Backend& backend, size_t count)
      : backend_(backend),
        count_(count),
        x_(on_device<float>(backend, std::vector<float>(count, 1.0f))),
        pinned_(must(backend.allocate_pinned((2 * count + 1) * sizeof(HandoffWord)))) {}

  HandoffWord* closed() const { return reinterpret_cast<HandoffWord*>(pinned_.data()); }
  HandoffWord* to_host() const { return closed() + 1; }
  HandoffWord* to_device() const { return to_host() + count_; }
  float* x() const { return as<float>(x_); }

  SendArgs send(uint32_t number) const { return {x(), to_host(), count_, number}; }
  ReceiveArgs receive(uint32_t number, bool accumulate, std::chrono::nanoseconds patience = kPatience) const {
    return {to_device(), closed(), x(), count_, accumulate, number, static_cast<uint64_t>(patience.count())};
  }
  /// The host's part: what the device sent, doubled, and one more for each of the elements before.
  void answer(uint32_t number) const {
    std::vector<float> answers(count_);
    const auto begin = std::chrono::steady_clock::now();
    for (size_t next = 0; next < count_;) {
      next = receive_words(to_host(), next, count_, number, [&](size_t i, float value) { answers[i] = 2 * value + static_cast<float>(i); });
      REQUIRE(std::chrono::steady_clock::now() - begin < kPatience);
      std::this_thread::yield();
    }
    send_words(answers.data(), to_device(), 0, count_, number);
  }
  /// The host's part where there is one float: what `answer` makes of it.
  template <typename Answer>
  void answer_with(uint32_t number, Answer answer) const {
    const auto begin = std::chrono::steady_clock::now();
    while (handoff_number(load_word(to_host())) != number) REQUIRE(std::chrono::steady_clock::now() - begin < kPatience);
    store_word(to_device(), handoff_word(answer(handoff_value(load_word(to_host()))), number));
  }
  std::vector<float> floats() const {
    std::vector<float> values(count_);
    get(backend_, values.data(), x_.data(), count_ * sizeof(float));
    return values;
  }

 private:
  Backend& backend_;
  size_t count_;
  DeviceMemory x_;
  PinnedMemory pinned_;
};

/// `OpenBackend`'s has handoffs.
inline void check_handoff_contract(const OpenBackend& open) {
  const std::unique_ptr<Backend> owned = open();
  Backend& backend = *owned;
  for (const DeviceOpKind op : {DeviceOpKind::kSend, DeviceOpKind::kReceive}) REQUIRE(backend.supports(op, PackedKind{}));

  SECTION("turns that were submitted ahead are taken one after the other, in place or as a sum, whatever the size, again and again") {
    for (const size_t count : {size_t{1}, size_t{5}, size_t{255}, size_t{256}, size_t{257}, size_t{1000}}) {
      CAPTURE(count);
      const Turns turns(backend, count);
      std::vector<float> expected(count, 1.0f);
      uint32_t number = 0, answered = 0;
      const uint64_t before = backend.work().handoffs;
      for (int round = 0; round < 4; ++round) {
        for (int turn = 0; turn < 6; ++turn) {
          const bool accumulate = turn % 2 == 1;
          require_ok(backend.launch(Stream::kCompute, turns.send(++number)));
          require_ok(backend.launch(Stream::kCompute, turns.receive(number, accumulate)));
          for (size_t i = 0; i < count; ++i) {
            const float answer = 2 * expected[i] + static_cast<float>(i);
            expected[i] = accumulate ? expected[i] + answer : answer;
          }
        }
        const Event done = must(backend.record(Stream::kCompute));
        REQUIRE(backend.work().handoffs - before == number);
        while (answered < number) turns.answer(++answered);
        require_ok(backend.synchronize(done, kPatience));
        REQUIRE(turns.floats() == expected);
      }
    }
  }

  SECTION("what waits for the host holds up its own stream, and no other") {
    const Turns turns(backend, 16);
    const DeviceMemory elsewhere = must(backend.allocate(32));
    const PinnedMemory pinned = must(backend.allocate_pinned(32));
    require_ok(backend.launch(Stream::kCompute, turns.send(7)));
    require_ok(backend.launch(Stream::kCompute, turns.receive(7, false)));
    const Event waiting = must(backend.record(Stream::kCompute));
    require_ok(backend.copy_to_device(Stream::kToDevice, elsewhere.data(), pinned.data(), 32));
    require_ok(outcome(backend, Stream::kToDevice));
    REQUIRE_FALSE(must(backend.query(waiting)));
    turns.answer(7);
    require_ok(backend.synchronize(waiting, kPatience));
  }

  SECTION("a wait that was closed ends at once, and all later ones; what is behind them is done") {
    const Turns turns(backend, 300);
    store_word(turns.closed(), kHandoffClosed);
    for (uint32_t number = 1; number < 20; ++number) require_ok(backend.launch(Stream::kCompute, turns.receive(number, true)));
    const auto begin = std::chrono::steady_clock::now();
    require_ok(outcome(backend, Stream::kCompute));
    REQUIRE(std::chrono::steady_clock::now() - begin < kPatience / 2);
    REQUIRE(load_word(turns.closed()) == kHandoffClosed);
    REQUIRE(turns.floats() == std::vector<float>(300, 1.0f));
  }

  SECTION("a host that does not come is waited for as long as was said, and no other wait after it; the device stays well") {
    const Turns turns(backend, 300);
    for (uint32_t number = 1; number < 20; ++number)
      require_ok(backend.launch(Stream::kCompute, turns.receive(number, true, std::chrono::milliseconds(20))));
    require_ok(outcome(backend, Stream::kCompute));
    REQUIRE(load_word(turns.closed()) == kHandoffTimedOut);
    store_word(turns.closed(), 0);
    require_ok(backend.launch(Stream::kCompute, turns.send(50)));
    require_ok(backend.launch(Stream::kCompute, turns.receive(50, false)));
    must(backend.record(Stream::kCompute));
    turns.answer(50);
    require_ok(outcome(backend, Stream::kCompute));
    REQUIRE(turns.floats()[299] == 2 + 299);
  }

  SECTION("dimensions are checked, and words are pinned memory") {
    const Turns turns(backend, 16);
    const std::vector<DeviceOp> wrong = {SendArgs{turns.x(), turns.to_host(), 0, 1}, SendArgs{turns.x(), turns.to_host(), 16, 0},
                                         SendArgs{turns.x(), turns.to_host(), 16, uint64_t{1} << 32},
                                         ReceiveArgs{turns.to_device(), turns.closed(), turns.x(), 0, true, 1, 1}};
    for (const DeviceOp& op : wrong) {
      const Status status = backend.launch(Stream::kCompute, op);
      REQUIRE(status.code() == StatusCode::kInvalidArgument);
      REQUIRE(status.message().starts_with(device_op_name(kind_of(op))));
    }
    finish(backend);
    std::vector<HandoffWord> elsewhere(16);
    const Status status = backend.launch(Stream::kCompute, SendArgs{turns.x(), elsewhere.data(), 16, 1});
    REQUIRE((status.is_ok() ? outcome(backend, Stream::kCompute) : status).code() == StatusCode::kDevice);
  }
}

}  // namespace outrigger::contract

#endif  // OUTRIGGER_TESTS_CONTRACT_BACKEND_HANDOFF_CONTRACT_H_
