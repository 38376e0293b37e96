// WeightReader: a queue of pieces in front of a queue of reads.
#include "src/memory/weight_reader.h"

#include <new>
#include <utility>

#include "src/base/macros.h"

namespace outrigger {

WeightReader::WeightReader(std::shared_ptr<const ByteSource> source, const std::vector<WeightSource>& weights, std::span<std::byte> staging,
                           const WeightReaderOptions& options, std::unique_ptr<ReadQueue> queue)
    : source_(std::move(source)),
      weights_(weights),
      staging_(staging),
      buffer_bytes_(staging.size() / options.depth / kDirectAlignment * kDirectAlignment),
      queue_(std::move(queue)),
      waiting_(options.most_pieces),
      reading_(options.depth),
      missing_blocks_(options.jobs) {
  free_buffers_.reserve(options.depth);
  for (uint32_t buffer = options.depth; buffer-- > 0;) free_buffers_.push_back(buffer);
}

Result<std::unique_ptr<WeightReader>> WeightReader::create(std::shared_ptr<const ByteSource> source, const std::vector<WeightSource>& weights,
                                                           std::span<std::byte> staging, const WeightReaderOptions& options) try {
  ReadQueueOptions reads;
  reads.depth = options.depth;
  reads.staging_area = staging;
  OTR_ASSIGN(std::unique_ptr<ReadQueue> queue, ReadQueue::create(source, reads));
  return std::unique_ptr<WeightReader>(new WeightReader(std::move(source), weights, staging, options, std::move(queue)));
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Status WeightReader::add(uint32_t job, const WeightPiece& piece) {
  if (waiting_count_ == waiting_.size()) return Status(StatusCode::kInternal, "more pieces of weights wait than were prepared for");
  OTR_TRY(source_->check_unchanged());
  waiting_[(first_waiting_ + waiting_count_++) % waiting_.size()] = {job, piece};
  missing_blocks_[job] += piece.blocks;
  return start_reads();
}

// A source that reads in place takes any number; a file as many as its widened range leaves room for.
uint64_t WeightReader::blocks_at_once(const WeightSource& weight, uint64_t most) const {
  const uint64_t one = weight.block_file_bytes();
  if (source_->direct_staging_bytes(most * one) <= buffer_bytes_) return most;
  uint64_t blocks = std::min(most, buffer_bytes_ / one);
  while (blocks > 1 && source_->direct_staging_bytes(blocks * one) > buffer_bytes_) --blocks;
  return std::max<uint64_t>(blocks, 1);
}

Status WeightReader::start_reads() {
  while (waiting_count_ > 0 && !free_buffers_.empty()) {
    Waiting& next = waiting_[first_waiting_];
    WeightPiece& piece = next.piece;
    const WeightSource& weight = weights_[piece.matrix];
    const uint32_t buffer = free_buffers_.back();
    const uint64_t blocks = blocks_at_once(weight, piece.blocks);
    reading_[buffer] = {next.job, {piece.matrix, piece.first_block, blocks, piece.dst}};
    const std::span<std::byte> staging = staging_.subspan(buffer * buffer_bytes_, buffer_bytes_);
    OTR_TRY(queue_->submit({weight.offset_of(piece.first_block), weight.file_bytes(piece.first_block, blocks), staging, buffer}));
    free_buffers_.pop_back();
    piece.first_block += blocks;
    piece.dst += blocks * packed_block_bytes(weight.kind, weight.columns);
    piece.blocks -= blocks;
    if (piece.blocks > 0) continue;
    first_waiting_ = (first_waiting_ + 1) % waiting_.size();
    --waiting_count_;
  }
  return {};
}

Status WeightReader::advance() {
  const ReadDone done = queue_->wait();
  if (!done.status.is_ok()) return done.status;
  const auto buffer = static_cast<uint32_t>(done.tag);
  const auto [job, piece] = reading_[buffer];
  const WeightSource& weight = weights_[piece.matrix];
  const uint64_t bytes = weight.file_bytes(piece.first_block, piece.blocks);
  weight.place(done.data, bytes, piece.dst);
  bytes_read_.fetch_add(bytes, std::memory_order_relaxed);
  missing_blocks_[job] -= piece.blocks;
  free_buffers_.push_back(buffer);
  return start_reads();
}

Status WeightReader::finish(uint32_t job) {
  while (!is_done(job)) OTR_TRY(advance());
  return {};
}

Status WeightReader::abandon(uint32_t job) {
  size_t kept = 0;
  for (size_t i = 0; i < waiting_count_; ++i) {
    const Waiting& item = waiting_[(first_waiting_ + i) % waiting_.size()];
    if (item.job == job) {
      missing_blocks_[job] -= item.piece.blocks;
    } else {
      waiting_[(first_waiting_ + kept++) % waiting_.size()] = item;
    }
  }
  waiting_count_ = kept;
  return finish(job);
}

void WeightReader::reset() noexcept {
  queue_->drain();
  first_waiting_ = waiting_count_ = 0;
  std::fill(missing_blocks_.begin(), missing_blocks_.end(), 0);
  free_buffers_.clear();
  for (auto buffer = static_cast<uint32_t>(reading_.size()); buffer-- > 0;) free_buffers_.push_back(buffer);
}

}  // namespace outrigger
