// ExpertArrivals: an expert's reads handed to the queue one after the other, and noticed as they come.
#include "src/memory/expert_arrivals.h"

#include <algorithm>
#include <new>
#include <utility>

#include "src/base/macros.h"

namespace outrigger {

ExpertArrivals::ExpertArrivals(std::shared_ptr<const ByteSource> source, const std::vector<WeightSource>& weights,
                               std::vector<ExpertLayer> layers, std::span<std::byte> memory, uint32_t places)
    : source_(std::move(source)),
      weights_(weights),
      layers_(std::move(layers)),
      memory_(memory.data()),
      place_bytes_(expert_arrival_bytes(layers_)),
      places_(places) {
  for (const ExpertLayer& layer : layers_) most_reads_ = std::max(most_reads_, layer.reads());
  data_.resize(size_t{places} * most_reads_);
  waiting_.reserve(places);
}

Result<std::unique_ptr<ExpertArrivals>> ExpertArrivals::create(std::shared_ptr<const ByteSource> source,
                                                               const std::vector<WeightSource>& weights, std::vector<ExpertLayer> layers,
                                                               std::span<std::byte> memory, uint32_t places) try {
  std::unique_ptr<ExpertArrivals> arrivals(new ExpertArrivals(std::move(source), weights, std::move(layers), memory, places));
  ReadQueueOptions options;
  options.depth = static_cast<uint32_t>(std::clamp<size_t>(arrivals->data_.size(), 1, ReadQueueOptions::kMostReads));
  options.staging_area = memory;
  OTR_ASSIGN(arrivals->queue_, ReadQueue::create(arrivals->source_, options));
  return arrivals;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

uint32_t ExpertArrivals::find(uint32_t layer, uint32_t expert) const {
  for (uint32_t i = 0; i < places_.size(); ++i) {
    if (places_[i].state == State::kTaken && places_[i].layer == layer && places_[i].expert == expert) return i;
  }
  return kNone;
}

bool ExpertArrivals::has_room() const {
  return std::any_of(places_.begin(), places_.end(), [](const Place& place) { return place.state == State::kFree; });
}

Result<uint32_t> ExpertArrivals::request(uint32_t layer, uint32_t expert) {
  OTR_TRY(source_->check_unchanged());
  uint32_t free = 0;
  while (places_[free].state != State::kFree) ++free;
  places_[free] = {State::kTaken, layer, expert, layers_[layer].reads(), 0, 0, {UnitTimes::now_ns(), 0}};
  waiting_.push_back(free);
  OTR_TRY(start_reads());
  return free;
}

Status ExpertArrivals::start_reads() {
  while (!waiting_.empty() && queue_->in_flight() < queue_->depth()) {
    const Place& place = places_[waiting_.front()];
    OTR_TRY(start_read(waiting_.front()));
    if (place.next_part == layers_[place.layer].parts.size()) waiting_.erase(waiting_.begin());
  }
  return {};
}

uint32_t ExpertArrivals::read_number(const ExpertLayer& layer, uint32_t part, uint32_t block) const {
  uint32_t number = block / layer.parts[part].blocks_of_read;
  for (uint32_t before = 0; before < part; ++before) number += layer.parts[before].reads();
  return number;
}

Status ExpertArrivals::start_read(uint32_t index) {
  Place& place = places_[index];
  const ExpertLayer& layer = layers_[place.layer];
  const ExpertPart& part = layer.parts[place.next_part];
  const WeightSource& weight = weights_[part.matrix];
  const uint64_t first = place.expert * weight.blocks_per_expert() + place.next_block,
                 blocks = std::min(part.blocks_of_read, part.blocks - place.next_block);
  const uint64_t bytes = weight.file_bytes(first, blocks);
  const uint32_t number = read_number(layer, place.next_part, place.next_block);
  std::byte* const room =
      memory_ + index * place_bytes_ + part.arrival_offset + place.next_block / part.blocks_of_read * part.read_room_bytes;
  OTR_TRY(queue_->submit({weight.offset_of(first), bytes, {room, part.read_room_bytes}, uint64_t{index} * most_reads_ + number}));
  bytes_read_.fetch_add(bytes, std::memory_order_relaxed);
  place.next_block += static_cast<uint32_t>(blocks);
  if (place.next_block == part.blocks) ++place.next_part, place.next_block = 0;
  return {};
}

Status ExpertArrivals::take(const ReadDone& done) {
  if (!done.status.is_ok()) return done.status;
  data_[done.tag] = done.data;
  Place& place = places_[done.tag / most_reads_];
  if (--place.missing_reads == 0) place.times.arrived_ns = UnitTimes::now_ns();
  free_if_done(place);
  return {};
}

void ExpertArrivals::free_if_done(Place& place) {
  if (place.state == State::kReleased && place.missing_reads == 0) place.state = State::kFree;
}

Status ExpertArrivals::poll() {
  ReadDone done;
  while (queue_->poll(&done)) OTR_TRY(take(done));
  return start_reads();
}

Status ExpertArrivals::wait() {
  OTR_TRY(take(queue_->wait()));
  return poll();
}

void ExpertArrivals::release(uint32_t index) {
  Place& place = places_[index];
  const ExpertLayer& layer = layers_[place.layer];
  if (const auto waits = std::find(waiting_.begin(), waiting_.end(), index); waits != waiting_.end()) {
    waiting_.erase(waits);
    const uint32_t begun = read_number(layer, place.next_part, place.next_block);
    place.missing_reads -= layer.reads() - begun;
  }
  place.state = State::kReleased;
  free_if_done(place);
}

void ExpertArrivals::reset() noexcept {
  queue_->drain();
  waiting_.clear();
  std::fill(places_.begin(), places_.end(), Place());
}

ArrivedRows ExpertArrivals::rows(uint32_t index, uint32_t part_number, uint32_t block) const {
  const ExpertLayer& layer = layers_[places_[index].layer];
  const ExpertPart& part = layer.parts[part_number];
  const uint32_t inside = block % part.blocks_of_read;
  const std::byte* const first = data_[size_t{index} * most_reads_ + read_number(layer, part_number, block)];
  return {first + inside * weights_[part.matrix].block_file_bytes(), std::min(part.blocks_of_read - inside, part.blocks - block)};
}

}  // namespace outrigger
