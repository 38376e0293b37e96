// StreamRing: pieces asked for unit by unit, and noticed as they come.
#include "src/memory/stream_ring.h"

#include <algorithm>
#include <new>
#include <utility>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/tensor/stream_layout.h"

namespace outrigger {
namespace {

static_assert(kReadAlignment == kDirectAlignment);

}  // namespace

Result<std::unique_ptr<StreamRing>> StreamRing::create(std::shared_ptr<const ByteSource> source, const std::vector<WeightSource>& weights,
                                                       SlotRing& ring, std::span<std::byte> memory) try {
  std::unique_ptr<StreamRing> stream(new StreamRing(std::move(source), weights, ring));
  OTR_TRY(stream->add_pieces());
  ReadQueueOptions options;
  options.depth = std::clamp(stream->most_pieces(), 1u, ReadQueueOptions::kMostReads);
  options.staging_area = memory;
  OTR_ASSIGN(stream->queue_, ReadQueue::create(stream->source_, options));
  return stream;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Status StreamRing::add_pieces() {
  const std::vector<StreamUnit>& units = ring_.layout().units;
  for (uint32_t unit = 0; unit < units.size(); ++unit) {
    first_piece_.push_back(static_cast<uint32_t>(pieces_.size()));
    for (const StreamPiece& piece : units[unit].pieces) {
      const WeightSource& weight = weights_[piece.matrix];
      const uint64_t bytes = weight.file_bytes(piece.first_block, piece.blocks),
                     room = read_room_bytes(piece.blocks * weight.block_file_bytes());
      if (source_->direct_staging_bytes(bytes) > room) {
        return Status(StatusCode::kInvalidArgument, formatted("a read of {} bytes takes {} of memory, and the plan's slots have {} for it",
                                                              bytes, source_->direct_staging_bytes(bytes), room));
      }
      pieces_.push_back({unit, weight.offset_of(piece.first_block), bytes, piece.slot_offset, room, nullptr});
    }
  }
  first_piece_.push_back(static_cast<uint32_t>(pieces_.size()));
  missing_.assign(units.size(), 0);
  times_.resize(units.size());
  waiting_.resize(most_pieces());
  return {};
}

// In as many neighbouring units as there are slots.
uint32_t StreamRing::most_pieces() const {
  uint32_t most_of_unit = 0;
  for (size_t unit = 0; unit + 1 < first_piece_.size(); ++unit)
    most_of_unit = std::max(most_of_unit, first_piece_[unit + 1] - first_piece_[unit]);
  return most_of_unit * ring_.layout().ring_slots;
}

Status StreamRing::prime() {
  if (ring_.is_primed()) return {};
  reset();
  for (uint32_t unit = 0; unit < ring_.layout().ring_slots; ++unit) OTR_TRY(request(unit));
  return {};
}

Status StreamRing::request(uint32_t unit) {
  OTR_TRY(source_->check_unchanged());
  ring_.fill(ring_.take_next(), unit);
  missing_[unit] = first_piece_[unit + 1] - first_piece_[unit];
  times_[unit] = {UnitTimes::now_ns(), 0};
  bytes_read_.fetch_add(ring_.layout().units[unit].file_bytes, std::memory_order_relaxed);
  for (uint32_t piece = first_piece_[unit]; piece < first_piece_[unit + 1]; ++piece) {
    waiting_[(first_waiting_ + waiting_count_++) % waiting_.size()] = piece;
  }
  ReadDone done;
  while (queue_->poll(&done)) OTR_TRY(take(done));
  return start_reads();
}

Status StreamRing::start_reads() {
  while (waiting_count_ > 0 && queue_->in_flight() < queue_->depth()) {
    const uint32_t number = waiting_[first_waiting_];
    const Piece& piece = pieces_[number];
    const std::span<std::byte> room(ring_.slot(ring_.slot_of(piece.unit)) + piece.slot_offset, piece.room_bytes);
    OTR_TRY(queue_->submit({piece.file_offset, piece.file_bytes, room, number}));
    first_waiting_ = (first_waiting_ + 1) % waiting_.size();
    --waiting_count_;
  }
  return {};
}

Status StreamRing::take(const ReadDone& done) {
  if (!done.status.is_ok()) return done.status;
  Piece& piece = pieces_[done.tag];
  piece.data = done.data;
  if (--missing_[piece.unit] == 0) times_[piece.unit].arrived_ns = UnitTimes::now_ns();
  return {};
}

Status StreamRing::arrive(uint32_t unit) {
  ReadDone done;
  while (queue_->poll(&done)) OTR_TRY(take(done));
  OTR_TRY(start_reads());
  while (missing_[unit] > 0) {
    OTR_TRY(take(queue_->wait()));
    OTR_TRY(start_reads());
  }
  return {};
}

void StreamRing::reset() noexcept {
  queue_->drain();
  ring_.forget();
  first_waiting_ = waiting_count_ = 0;
  std::fill(missing_.begin(), missing_.end(), 0);
}

const std::byte* StreamRing::rows(const OperandRef& ref) const {
  const SlotRing::PiecePlace& place = ring_.place_of(ref);
  return pieces_[place.number].data + (ref.first_block - place.first_block) * weights_[ref.matrix].block_file_bytes();
}

}  // namespace outrigger
