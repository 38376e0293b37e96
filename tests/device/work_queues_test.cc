// The order of a device's work, and the times of a link's copies: without a thread or a clock.
#include "src/device/work_queues.h"

#include <string>

#include "src/device/link_clock.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

using std::chrono::nanoseconds;
using TimePoint = WorkQueues::TimePoint;

Work work_for(WorkEngine engine, uint64_t mark = 0, int64_t submitted = 0) {
  Work work;
  work.engine = engine;
  work.bytes = mark;
  work.submitted = TimePoint(nanoseconds(submitted));
  return work;
}

Work wait_for(const Event& event) {
  Work work;
  work.event = event;
  return work;
}

TEST_CASE("work queues: an engine takes what was submitted first among the streams, each in its order") {
  WorkQueues queues;
  queues.submit(Stream::kToHost, work_for(WorkEngine::kCompute, 1));
  queues.submit(Stream::kCompute, work_for(WorkEngine::kToDevice, 2));
  queues.submit(Stream::kCompute, work_for(WorkEngine::kCompute, 3));
  queues.submit(Stream::kDraft, work_for(WorkEngine::kCompute, 4));
  const auto first = queues.begin(WorkEngine::kCompute);
  REQUIRE(first->work->bytes == 1);
  const auto copy = queues.begin(WorkEngine::kToDevice);  // beside it
  REQUIRE(copy->work->bytes == 2);
  REQUIRE_FALSE(queues.begin(WorkEngine::kToHost));
  queues.finish(first->stream, {});
  REQUIRE(queues.begin(WorkEngine::kCompute)->work->bytes == 4);  // 3 stands behind the copy
  REQUIRE_FALSE(queues.begin(WorkEngine::kCompute));
  queues.finish(copy->stream, {});
  REQUIRE(queues.begin(WorkEngine::kCompute)->work->bytes == 3);
}

TEST_CASE("work queues: an event is ready when all before it is done, and not when what comes later is not") {
  WorkQueues queues;
  const Event none = queues.last(Stream::kCompute);
  REQUIRE(queues.is_ready(none));
  queues.submit(Stream::kCompute, work_for(WorkEngine::kCompute));
  const Event first = queues.last(Stream::kCompute);
  queues.submit(Stream::kCompute, work_for(WorkEngine::kCompute));
  REQUIRE_FALSE(queues.is_ready(first));
  queues.finish(queues.begin(WorkEngine::kCompute)->stream, {});
  REQUIRE(queues.is_ready(first));
  REQUIRE_FALSE(queues.is_ready(queues.last(Stream::kCompute)));
  REQUIRE(queues.is_known(first));
  REQUIRE_FALSE(queues.is_known({Stream::kCompute, 3}));
}

TEST_CASE("work queues: waits hold a stream back, and pass on in chains") {
  WorkQueues queues;
  queues.submit(Stream::kToDevice, work_for(WorkEngine::kToDevice));
  queues.submit(Stream::kCompute, wait_for(queues.last(Stream::kToDevice)));
  queues.submit(Stream::kDraft, wait_for(queues.last(Stream::kCompute)));
  queues.submit(Stream::kDraft, work_for(WorkEngine::kCompute, 9));
  queues.submit(Stream::kToHost, wait_for({}));  // over before it began
  queues.submit(Stream::kToHost, work_for(WorkEngine::kToHost));
  REQUIRE_FALSE(queues.begin(WorkEngine::kCompute));
  REQUIRE(queues.begin(WorkEngine::kToHost));
  const auto copy = queues.begin(WorkEngine::kToDevice);
  queues.finish(copy->stream, TimePoint(nanoseconds(70)));
  const auto after = queues.begin(WorkEngine::kCompute);
  REQUIRE(after->work->bytes == 9);
  REQUIRE(after->ready == TimePoint(nanoseconds(70)));  // not before what it waited for
}

TEST_CASE("work queues: a queue takes its depth, again and again") {
  WorkQueues queues;
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < WorkQueues::kDepth; ++i) {
      REQUIRE(queues.has_room(Stream::kDraft));
      queues.submit(Stream::kDraft, work_for(WorkEngine::kCompute, i));
    }
    REQUIRE_FALSE(queues.has_room(Stream::kDraft));
    REQUIRE(queues.has_room(Stream::kCompute));
    for (size_t i = 0; i < WorkQueues::kDepth; ++i) {
      const auto begun = queues.begin(WorkEngine::kCompute);
      REQUIRE(begun->work->bytes == i);
      queues.finish(begun->stream, {});
    }
    REQUIRE(queues.is_ready(queues.last(Stream::kDraft)));
  }
}

TEST_CASE("link clock: copies that are ready in time follow each other without a gap") {
  LinkClock link(1e9, nanoseconds(500));
  const TimePoint start(nanoseconds(1000));
  REQUIRE(link.next_end(start, 2000) == start + nanoseconds(2500));
  REQUIRE(link.next_end(start, 100) == start + nanoseconds(2500 + 600));
  // Ready while the link was busy, and ready later.
  REQUIRE(link.next_end(start + nanoseconds(3000), 100) == start + nanoseconds(3700));
  REQUIRE(link.next_end(start + nanoseconds(9000), 0) == start + nanoseconds(9500));
}

TEST_CASE("link clock: a copy never takes less than its bytes at the rate") {
  LinkClock link(3e9, nanoseconds(0));
  TimePoint before{};
  for (uint64_t bytes : {1, 2, 3, 4, 1000, 4096, 1 << 20}) {
    const TimePoint end = link.next_end(before, bytes);
    const double ns = static_cast<double>((end - before).count()), exact = static_cast<double>(bytes) / 3;
    REQUIRE(ns >= exact);
    REQUIRE(ns < exact + 1);
    before = end;
  }
}

}  // namespace
}  // namespace outrigger
