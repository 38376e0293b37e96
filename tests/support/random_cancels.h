// Steps that are cancelled at random moments: a session goes on from where it was.
#ifndef OUTRIGGER_TESTS_SUPPORT_RANDOM_CANCELS_H_
#define OUTRIGGER_TESTS_SUPPORT_RANDOM_CANCELS_H_

#include <outrigger/session.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <span>
#include <thread>
#include <vector>

#include "tests/support/engines.h"

namespace outrigger::testing {

/// Cancels steps of `engine` until thirty ended by it; after each the session's logits are those of `alone`, which computes the same.
inline void check_random_cancels(const Engine& engine, const Engine& alone, std::span<const Token> prompt) {
  Session session = must(Session::open(engine)), reference = must(Session::open(alone));
  must(session.prefill(prompt));
  must(reference.prefill(prompt));
  const std::vector<std::byte> begin = must(session.save());
  must(reference.prefill(std::vector<Token>{1, 2, 3}));
  std::mt19937 random(1);
  int cancelled = 0;
  // Where other work keeps threads from running, most come too late.
  for (int round = 0; cancelled < 30 && round < 2000; ++round) {
    CAPTURE(round);
    const CancelToken cancel;
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
      cancel.cancel();
    });
    const Status status = session.prefill(std::vector<Token>{1, 2, 3}, {}, cancel);
    other.join();
    if (!status.is_ok()) {
      REQUIRE(status.code() == StatusCode::kCancelled);
      ++cancelled;
      must(session.prefill(std::vector<Token>{1, 2, 3}));
    }
    REQUIRE(std::equal(session.logits().begin(), session.logits().end(), reference.logits().begin(), reference.logits().end()));
    must(session.restore(begin));
  }
  CHECK(cancelled > 20);
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_RANDOM_CANCELS_H_
