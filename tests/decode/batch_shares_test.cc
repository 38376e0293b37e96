// Shares of a step: its room is kept, everyone comes to their turn, and nothing is left over that someone could use.
#include "src/decode/batch_shares.h"

#include <random>
#include <vector>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

using Places = std::vector<BatchShare>;

BatchShare writing() { return {1, false, true}; }
BatchShare reading(uint32_t tokens, bool wants_row = true) { return {tokens, true, wants_row}; }
BatchShare free_place() { return {}; }

std::vector<uint32_t> tokens_of(const Places& places) {
  std::vector<uint32_t> tokens;
  for (const BatchShare& place : places) tokens.push_back(place.tokens);
  return tokens;
}
std::vector<uint32_t> drafted_of(const Places& places) {
  std::vector<uint32_t> tokens;
  for (const BatchShare& place : places) tokens.push_back(place.drafted);
  return tokens;
}

TEST_CASE("BatchShares: texts have a token each, then prompts what is left, in turn, then drafts the rest in equal parts") {
  Places places = {writing(), reading(30), free_place(), reading(5), writing()};
  CHECK(share_step(places, 0, {16, 16}) == 0);
  CHECK(tokens_of(places) == std::vector<uint32_t>{1, 13, 0, 1, 1});
  CHECK(drafted_of(places) == std::vector<uint32_t>{0, 0, 0, 0, 0});
  CHECK(share_step(places, 3, {16, 16}) == 3);
  CHECK(tokens_of(places) == std::vector<uint32_t>{1, 9, 0, 5, 1});
  CHECK(share_step(places, 0, {64, 64}) == 0);
  CHECK(tokens_of(places) == std::vector<uint32_t>{1, 30, 0, 5, 1});
  CHECK(drafted_of(places) == std::vector<uint32_t>{13, 0, 0, 0, 13});  // of 27
  CHECK(share_step(places, 0, {64, 9}) == 0);
  CHECK(drafted_of(places) == std::vector<uint32_t>{2, 0, 0, 0, 2});  // of 5 rows
}

TEST_CASE("BatchShares: where a row is missing a prompt waits with its last token, and one that wants none does not") {
  Places places = {writing(), reading(4), reading(3, false)};
  CHECK(share_step(places, 0, {16, 1}) == 0);
  CHECK(tokens_of(places) == std::vector<uint32_t>{1, 3, 3});
  places = {reading(1), writing()};
  CHECK(share_step(places, 0, {16, 1}) == 1);
  CHECK(tokens_of(places) == std::vector<uint32_t>{1, 0});
  CHECK(share_step(places, 1, {16, 1}) == 0);
  CHECK(tokens_of(places) == std::vector<uint32_t>{0, 1});
}

TEST_CASE("BatchShares: whatever the room, it is kept and used, and within as many steps as places everyone had a share") {
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    Places places(1 + random() % 9);
    for (BatchShare& place : places)
      place = random() % 4 == 0 ? free_place() : random() % 2 == 0 ? writing() : reading(1 + random() % 40, random() % 5 > 0);
    StepRoom room{1u << random() % 6, 1};
    room.rows = 1 + static_cast<uint32_t>(random()) % room.tokens;
    std::vector<bool> served(places.size());
    size_t turn = random() % places.size();
    for (size_t step = 0; step < places.size(); ++step) {
      turn = share_step(places, turn, room);
      uint32_t tokens = 0, rows = 0, waiting_tokens = 0, waiting_rows = 0;
      for (size_t i = 0; i < places.size(); ++i) {
        const BatchShare& place = places[i];
        REQUIRE(place.tokens <= place.pending);
        if (place.tokens > 0) served[i] = true;
        const bool is_last = place.tokens == place.pending && place.pending > 0;
        tokens += place.tokens + place.drafted;
        rows += (is_last && place.wants_row ? 1 : 0) + place.drafted;
        if (!is_last && place.pending > 0) (place.wants_row && place.tokens + 1 == place.pending ? waiting_rows : waiting_tokens) += 1;
        REQUIRE((place.drafted == 0 || (!place.is_reading && is_last)));
      }
      REQUIRE(tokens <= room.tokens);
      REQUIRE(rows <= room.rows);
      if (waiting_tokens > 0) REQUIRE(tokens == room.tokens);
      if (waiting_rows > 0) REQUIRE((tokens == room.tokens || rows == room.rows));
    }
    for (size_t i = 0; i < places.size(); ++i) REQUIRE(served[i] == (places[i].pending > 0));
  }
}

}  // namespace
}  // namespace outrigger
