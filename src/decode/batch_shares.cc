// Shares of a step: everyone goes on, then prompts, then drafts.
#include "src/decode/batch_shares.h"

#include <algorithm>

namespace outrigger {
namespace {

// Up to `count` more of what is pending; one less where the last would want a row that there is no room for.
void give(BatchShare& place, uint32_t count, StepRoom* room) {
  count = std::min({count, place.pending - place.tokens, room->tokens});
  const bool has_row = count > 0 && place.tokens + count == place.pending && place.wants_row;
  if (has_row && room->rows == 0) {
    --count;
  } else if (has_row) {
    --room->rows;
  }
  place.tokens += count;
  room->tokens -= count;
}

}  // namespace

size_t share_step(std::span<BatchShare> places, size_t turn, StepRoom room) {
  const size_t size = places.size();
  uint32_t writing = 0;
  size_t next_turn = turn;
  bool is_complete = true;
  for (size_t i = 0; i < size; ++i) {
    BatchShare& place = places[(turn + i) % size];
    place.tokens = place.drafted = 0;
    give(place, 1, &room);
    if (place.tokens > 0 && !place.is_reading) ++writing;
    if (place.pending == 0 || place.tokens > 0 || !is_complete) continue;
    next_turn = (turn + i) % size;
    is_complete = false;
  }
  for (size_t i = 0; i < size; ++i) {
    BatchShare& place = places[(turn + i) % size];
    if (place.tokens > 0) give(place, place.pending, &room);
  }
  if (writing == 0) return next_turn;
  const uint32_t each = std::min(room.tokens, room.rows) / writing;
  for (BatchShare& place : places) place.drafted = place.tokens > 0 && !place.is_reading ? each : 0;
  return next_turn;
}

}  // namespace outrigger
