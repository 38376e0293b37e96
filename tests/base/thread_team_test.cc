// ThreadTeam: regions, barriers and shares with fewer, as many and more threads than cores.
#include "src/base/thread_team.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

using Clock = std::chrono::steady_clock;

std::unique_ptr<ThreadTeam> team_of(size_t threads) {
  auto team = ThreadTeam::create(threads);
  REQUIRE(team.is_ok());
  return std::move(team).value();
}

TEST_CASE("ThreadTeam: every member runs the body once, the caller as member 0") {
  for (size_t threads : {1, 2, 3, 8}) {
    const auto team = team_of(threads);
    REQUIRE(team->threads() == threads);
    std::vector<std::atomic<int>> ran(threads);
    std::atomic<bool> caller_is_first = false;
    const auto caller = std::this_thread::get_id();
    for (int region = 0; region < 50; ++region) {
      team->run([&](const TeamMember& member) {
        if (member.count() == threads) ++ran[member.index()];
        if (std::this_thread::get_id() == caller) caller_is_first = member.index() == 0;
      });
    }
    for (const auto& count : ran) REQUIRE(count == 50);
    REQUIRE(caller_is_first);
  }
}

TEST_CASE("ThreadTeam: behind a barrier everything written before it is there") {
  for (size_t threads : {1, 2, 3, 8}) {
    const auto team = team_of(threads);
    std::vector<int> round_of(threads, 0);  // plain integers: only the barrier orders them, and a thread sanitizer watches
    std::atomic<int> wrong = 0;
    constexpr int kRounds = 300;
    team->run([&](const TeamMember& member) {
      for (int round = 1; round <= kRounds; ++round) {
        round_of[member.index()] = round;
        member.barrier();
        for (int other : round_of) wrong += other != round;
        member.barrier();
      }
    });
    CAPTURE(threads);
    REQUIRE(wrong == 0);
  }
}

TEST_CASE("ThreadTeam: a result of one region is there for the next and for the caller") {
  const auto team = team_of(2);
  std::vector<int> values(2, 0);
  for (int region = 1; region <= 2000; ++region) {
    team->run([&](const TeamMember& member) { values[member.index()] += static_cast<int>(member.index()) + 1; });
    if (values[0] != region || values[1] != 2 * region) FAIL("region " << region << " was not complete");
  }
}

TEST_CASE("ThreadTeam: 100,000 regions, the quickest hundred of them without a sleep in each") {
  const auto team = team_of(2);
  std::atomic<int> ran = 0;
  auto quickest = Clock::duration::max();
  for (int batch = 0; batch < 1000; ++batch) {
    const auto begin = Clock::now();
    for (int region = 0; region < 100; ++region) {
      team->run([&](const TeamMember&) { ran.fetch_add(1, std::memory_order_relaxed); });
    }
    quickest = std::min(quickest, Clock::now() - begin);
  }
  REQUIRE(ran == 200000);
  // 0.3 us each on two cores. A pool that sleeps and wakes takes 35 to 60; the quickest batch is taken because others use the machine.
  if (usable_cores() >= 2) REQUIRE(quickest < 100 * std::chrono::microseconds(20));
}

TEST_CASE("ThreadTeam: more threads than cores do not starve one another at barriers") {
  const auto team = team_of(8);
  std::atomic<int> passed = 0;
  const auto begin = Clock::now();
  team->run([&](const TeamMember& member) {
    for (int i = 0; i < 1000; ++i) member.barrier();
    ++passed;
  });
  REQUIRE(passed == 8);
  REQUIRE(Clock::now() - begin < std::chrono::seconds(30));  // spinning through time slices would take 1000 x 4 ms x 8
}

// Members that lose time to others are played by one that comes late to each barrier.
TEST_CASE("ThreadTeam: an elastic region that loses its time to waiting is followed by regions of one member, and by whole ones again") {
  const auto team = team_of(2);
  size_t members = 0;
  auto count_members = [&](const TeamMember& member) {
    if (member.index() == 0) members = member.count();
  };
  team->run_elastic(count_members);
  REQUIRE(members == 2);
  const auto begin = std::chrono::steady_clock::now();
  team->run_elastic([](const TeamMember& member) {
    for (int i = 0; i < 5; ++i) {
      if (member.index() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      member.barrier();
    }
  });
  team->run_elastic(count_members);
  REQUIRE(members == 1);
  team->run([&](const TeamMember& member) { count_members(member); });
  REQUIRE(members == 2);
  // A tenth of a second, or six times what the region took, which on a busy machine is anything.
  do {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    team->run_elastic(count_members);
  } while (members == 1 && std::chrono::steady_clock::now() - begin < std::chrono::seconds(30));
  REQUIRE(members == 2);
  REQUIRE(std::chrono::steady_clock::now() - begin >= std::chrono::milliseconds(100));
}

TEST_CASE("ThreadTeam: workers that fell asleep wake up") {
  const auto team = team_of(3);
  std::atomic<int> ran = 0;
  for (int region = 0; region < 5; ++region) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));  // ten times as long as they stay awake
    team->run([&](const TeamMember& member) {
      if (member.index() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      member.barrier();
      ++ran;
    });
  }
  REQUIRE(ran == 15);
}

TEST_CASE("ThreadTeam: shares are contiguous, aligned, balanced and cover everything exactly once") {
  for (size_t threads : {1, 2, 3, 8}) {
    const auto team = team_of(threads);
    for (size_t items : {0, 1, 7, 16, 100, 577}) {
      for (size_t granule : {1, 8, 16}) {
        std::vector<size_t> begins(threads), ends(threads);
        team->run([&](const TeamMember& member) { member.share(items, granule, &begins[member.index()], &ends[member.index()]); });
        size_t at = 0, least = items, most = 0;
        for (size_t i = 0; i < threads; ++i) {
          CAPTURE(threads, items, granule, i);
          REQUIRE(begins[i] == at);
          REQUIRE(ends[i] >= begins[i]);
          REQUIRE((begins[i] % granule == 0 || begins[i] == items));
          at = ends[i];
          least = std::min(least, ends[i] - begins[i]);
          most = std::max(most, ends[i] - begins[i]);
        }
        REQUIRE(at == items);
        REQUIRE(most - least < 2 * granule);
      }
    }
  }
}

#if defined(__x86_64__)
TEST_CASE("ThreadTeam: subnormals are zero inside a region on every member, and themselves again outside") {
  const auto team = team_of(2);
  volatile float subnormal = 1e-40f;
  std::atomic<int> nonzero = 0;
  REQUIRE(subnormal * 1.0f != 0);
  team->run([&](const TeamMember&) { nonzero += subnormal * 1.0f != 0; });
  REQUIRE(nonzero == 0);
  REQUIRE(subnormal * 1.0f != 0);
}
#endif

TEST_CASE("ThreadTeam: no threads are refused with what was got") {
  const auto team = ThreadTeam::create(0);
  REQUIRE(team.status().code() == StatusCode::kInvalidArgument);
  REQUIRE(team.status().message().find("0 threads") != std::string::npos);
}

}  // namespace
}  // namespace outrigger
