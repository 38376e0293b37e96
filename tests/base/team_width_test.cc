// TeamWidth: after regions that were disturbed, and after some that were not.
#include "src/base/team_width.h"

#include <vector>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

using std::chrono::milliseconds;

/// A clock and a team: a region of a millisecond, disturbed or not, at a time.
struct Team {
  explicit Team(size_t threads) : width(threads) {}

  size_t region(bool is_disturbed) {
    const size_t count = width.next(now);
    now += milliseconds(1);
    width.record({milliseconds(1), is_disturbed ? milliseconds(count) / 2 : milliseconds(0), {}, count}, now);
    return count;
  }
  /// Undisturbed regions until one has another number of members.
  milliseconds until_another(size_t count) {
    const auto begin = now;
    while (width.next(now) == count) region(false);
    return std::chrono::duration_cast<milliseconds>(now - begin);
  }

  TeamWidth width;
  TeamWidth::TimePoint now{};
};

TEST_CASE("team width: each disturbed region keeps out a quarter of the members, until one is left") {
  Team team(16);
  std::vector<size_t> counts;
  for (int i = 0; i < 9; ++i) counts.push_back(team.region(true));
  REQUIRE(counts == std::vector<size_t>{16, 12, 9, 6, 4, 3, 2, 1, 1});
}

TEST_CASE("team width: one busy processor costs four of sixteen members, and is tried again ever later") {
  Team team(16);
  team.region(true);
  REQUIRE(team.until_another(12) == milliseconds(100));
  REQUIRE(team.region(true) == 16);
  REQUIRE(team.until_another(12) == milliseconds(200));
  for (int i = 0; i < 10; ++i) {
    team.region(true);
    team.until_another(12);
  }
  REQUIRE(team.region(true) == 16);
  REQUIRE(team.until_another(12) == milliseconds(6400));
}

TEST_CASE("team width: when the others are gone all members are back within a few regions") {
  Team team(16);
  for (int i = 0; i < 8; ++i) team.region(true);
  REQUIRE(team.until_another(1) == milliseconds(100 - 1));  // the eighth region was of one, and took one of them
  std::vector<size_t> counts;
  for (int i = 0; i < 9; ++i) counts.push_back(team.region(false));
  REQUIRE(counts == std::vector<size_t>{2, 3, 4, 5, 6, 8, 10, 13, 16});
  team.region(true);
  REQUIRE(team.until_another(12) == milliseconds(100));  // and what was learned before is forgotten
}

TEST_CASE("team width: a long region is not tried by turns") {
  TeamWidth width(2);
  const TeamWidth::TimePoint begin{}, end = begin + milliseconds(400);
  width.record({milliseconds(400), milliseconds(600), {}, 2}, end);
  REQUIRE(width.next(end + milliseconds(2399)) == 1);
  REQUIRE(width.next(end + milliseconds(2400)) == 2);
}

TEST_CASE("team width: regions too short to be judged change nothing") {
  TeamWidth width(4);
  for (int i = 0; i < 10; ++i) width.record({std::chrono::microseconds(400), milliseconds(1), {}, 4}, {});
  REQUIRE(width.next({}) == 4);
}

}  // namespace
}  // namespace outrigger
