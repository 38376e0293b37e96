// Which regions count as disturbed.
#include "src/base/region_times.h"

#include "tests/support/catch.h"

namespace outrigger {
namespace {

using std::chrono::microseconds;

bool is_disturbed(int whole_us, int lost_us, int late_us, size_t threads) {
  return RegionTimes{microseconds(whole_us), microseconds(lost_us), microseconds(late_us), threads}.was_disturbed();
}

TEST_CASE("region times: a region that lost a third of its members' time was disturbed") {
  REQUIRE_FALSE(is_disturbed(900, 0, 0, 4));
  REQUIRE_FALSE(is_disturbed(900, 1199, 0, 4));
  REQUIRE(is_disturbed(900, 1200, 0, 4));
  REQUIRE(is_disturbed(3000, 11000, 0, 4));
}

TEST_CASE("region times: waiting for workers that wake up is no disturbance, up to a millisecond each") {
  // Sixteen members, fifteen of whom waited half a millisecond for the last to wake up.
  REQUIRE(is_disturbed(1200, 7500, 0, 16));
  REQUIRE_FALSE(is_disturbed(1200, 7500, 500, 16));
  // Kept out for a time slice: all but a millisecond of it counts.
  REQUIRE(is_disturbed(5000, 60000, 4000, 16));
}

TEST_CASE("region times: one of less than half a millisecond is not judged") {
  REQUIRE_FALSE(RegionTimes{microseconds(499), microseconds(4000), microseconds(0), 16}.can_be_judged());
  REQUIRE(RegionTimes{microseconds(500), microseconds(0), microseconds(0), 16}.can_be_judged());
}

}  // namespace
}  // namespace outrigger
