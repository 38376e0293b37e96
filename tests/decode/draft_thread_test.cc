// DraftThread: work is done once it was waited for, whatever it throws, and a thread that is not needed is never there.
#include "src/decode/draft_thread.h"

#include <atomic>
#include <chrono>
#include <new>

#include "tests/support/catch.h"

namespace outrigger::testing {
namespace {

TEST_CASE("DraftThread: runs what it is given, one after the other, on one thread that is not the caller's") {
  DraftThread thread;
  thread.wait();  // nothing is under way
  std::thread::id first, later;
  int done = 0;
  for (int i = 0; i < 100; ++i) {
    REQUIRE(thread.start([&] { (done == 0 ? first : later) = std::this_thread::get_id(), ++done; }).is_ok());
    CHECK(thread.is_busy());
    thread.wait();
    CHECK(!thread.is_busy());
    CHECK(done == i + 1);
  }
  CHECK(first == later);
  CHECK(first != std::this_thread::get_id());
}

TEST_CASE("DraftThread: what the work throws comes out of wait(), once, and more work may follow") {
  DraftThread thread;
  REQUIRE(thread.start([] { throw std::bad_alloc(); }).is_ok());
  CHECK_THROWS_AS(thread.wait(), std::bad_alloc);
  thread.wait();
  bool is_done = false;
  REQUIRE(thread.start([&] { is_done = true; }).is_ok());
  thread.wait();
  CHECK(is_done);
}

TEST_CASE("DraftThread: its end waits for what is under way") {
  std::atomic<bool> is_done = false;
  {
    DraftThread thread;
    REQUIRE(thread
                .start([&] {
                  std::this_thread::sleep_for(std::chrono::milliseconds(20));
                  is_done = true;
                })
                .is_ok());
  }
  CHECK(is_done);
}

}  // namespace
}  // namespace outrigger::testing
