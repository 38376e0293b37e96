// Handoff words on machines that order nothing: what is written to one address is seen in order, and no more than that.
#include "src/device/handoff_word.h"

#include <deque>
#include <random>
#include <vector>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

TEST_CASE("handoff word: holds any float's bits and any number") {
  for (const uint32_t bits : {0u, 0x80000000u, 0x7fc00001u, 0x7f800000u, 1u, 0xffffffffu}) {
    for (const uint32_t number : {1u, 0x80000000u, 0xffffffffu}) {
      const HandoffWord word = handoff_word(std::bit_cast<float>(bits), number);
      REQUIRE(handoff_number(word) == number);
      REQUIRE(std::bit_cast<uint32_t>(handoff_value(word)) == bits);
    }
  }
}

TEST_CASE("handoff word: receiving stops at the first that is not there, and goes on from it") {
  std::vector<HandoffWord> words(10, handoff_word(1, 3));
  const std::vector<float> values = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  send_words(values.data(), words.data(), 0, 4, 4);
  send_words(values.data(), words.data(), 6, 10, 4);
  std::vector<float> got(10, -1);
  const auto put = [&](size_t i, float value) { got[i] = value; };
  REQUIRE(receive_words(words.data(), 0, 10, 4, put) == 4);
  REQUIRE(got == std::vector<float>{0, 1, 2, 3, -1, -1, -1, -1, -1, -1});
  send_words(values.data(), words.data(), 4, 6, 4);
  REQUIRE(receive_words(words.data(), 4, 10, 4, put) == 10);
  REQUIRE(got == values);
}

/// Memory of both sides as a link without any order has it: a store is seen by the other side at some later time, before or after those of
/// other addresses, but no store to an address before one that came earlier to it.
class WeakMemory {
 public:
  explicit WeakMemory(size_t words) : seen_(words), under_way_(words) {}
  void store(size_t at, HandoffWord word) { under_way_[at].push_back(word); }
  HandoffWord load(size_t at) const { return seen_[at]; }
  /// Something that is under way arrives, anything; false if nothing is.
  bool deliver(std::mt19937& random) {
    std::vector<size_t> some;
    for (size_t at = 0; at < seen_.size(); ++at) {
      if (!under_way_[at].empty()) some.push_back(at);
    }
    if (some.empty()) return false;
    const size_t at = some[random() % some.size()];
    seen_[at] = under_way_[at].front();
    under_way_[at].pop_front();
    return true;
  }

 private:
  std::vector<HandoffWord> seen_;
  std::vector<std::deque<HandoffWord>> under_way_;
};

/// A side of turns, a load or a store at a time: it waits for the other's floats, adds one to each, and sends them. `by_flag` is how it is
/// not done: floats first and one flag after them, which says nothing of them where nothing is ordered.
class Side {
 public:
  Side(WeakMemory& out, const WeakMemory& in, size_t count, bool begins, bool by_flag)
      : out_(out), in_(in), values_(count, 0), begins_(begins), by_flag_(by_flag), is_sending_(begins) {}

  /// False when it waits for what is not there.
  bool step() { return is_sending_ ? send() : receive(); }
  /// Times that it received all.
  size_t turns() const { return turns_; }
  const std::vector<float>& values() const { return values_; }

 private:
  bool send() {
    const bool is_flag = at_ == values_.size();
    out_.store(at_, handoff_word(is_flag ? 0 : values_[at_], number_));
    if (++at_ == values_.size() + (by_flag_ ? 1 : 0)) turn(false);
    return true;
  }
  bool receive() {
    const HandoffWord word = in_.load(at_);
    const bool is_there = by_flag_ ? at_ > 0 || handoff_number(in_.load(values_.size())) == number_ : handoff_number(word) == number_;
    if (!is_there) return false;
    values_[at_] = handoff_value(word) + 1;
    if (++at_ == values_.size()) turn(true);
    return true;
  }
  // Whoever answers does so with the number that it received.
  void turn(bool has_received) {
    is_sending_ = has_received;
    at_ = 0;
    turns_ += has_received ? 1 : 0;
    number_ += has_received == begins_ ? 1 : 0;
  }

  WeakMemory& out_;
  const WeakMemory& in_;
  std::vector<float> values_;
  const bool begins_, by_flag_;
  bool is_sending_;
  uint32_t number_ = 1;
  size_t at_ = 0, turns_ = 0;
};

// Whether so many turns end with what they compute in order.
bool is_right(std::mt19937& random, bool by_flag) {
  constexpr size_t kCount = 5, kTurns = 8;
  WeakMemory to_host(kCount + 1), to_device(kCount + 1);
  Side device(to_host, to_device, kCount, true, by_flag), host(to_device, to_host, kCount, false, by_flag);
  size_t idle = 0;
  while (device.turns() < kTurns) {
    bool moved = false;
    switch (random() % 4) {
      case 0:
        moved = device.step();
        break;
      case 1:
        moved = host.step();
        break;
      default:
        moved = (random() % 2 == 0 ? to_host : to_device).deliver(random);
    }
    idle = moved ? 0 : idle + 1;
    REQUIRE(idle < 10000);
  }
  for (const float value : device.values()) {
    if (value != 2 * kTurns) return false;
  }
  return true;
}

TEST_CASE("handoff word: turns are right in whatever order a link brings what is written, which those by a flag are not") {
  std::mt19937 random(20);
  bool is_flag_always_right = true;
  for (int round = 0; round < 3000; ++round) {
    CAPTURE(round);
    REQUIRE(is_right(random, false));
    is_flag_always_right = is_flag_always_right && is_right(random, true);
  }
  REQUIRE_FALSE(is_flag_always_right);
}

}  // namespace
}  // namespace outrigger
