// DeviceCandidates: which placements on a device are tried.
#include "src/plan/device_candidates.h"

#include <algorithm>
#include <cmath>

namespace outrigger {
namespace {

struct Ring {
  uint32_t slots;
  uint64_t slot_bytes;
};
// From what a device of few MiB can spare to what hides an uneven step; a matrix of longer row blocks makes slots as large as these.
constexpr Ring kRings[] = {{2, 256 << 10}, {3, 1 << 20}, {4, 1 << 20}, {4, 4 << 20}, {4, 16 << 20}};
// Copying what is used once pays from where products take longer than the copy: a few tokens where the link is fast, some tens where it is
// not.
constexpr uint32_t kFromTokens[] = {8, 32, 128};
// How many of the feed-forward parts stream, evenly spaced: the host computes the others while the link is busy.
constexpr PartShare kShares[] = {{1, 1}, {1, 2}, {1, 3}};
// Where the host reads from disk those that stream have to be in its memory, so that it decides how many there may be.
constexpr PartShare kSharesBesideDisk[] = {{1, 1}, {9, 10}, {4, 5}, {2, 3}, {1, 2}, {1, 3}};
// So many beginnings of an order, evenly spaced, are tried with streams beside them, so that a 64th of a model's parts is what a device may
// have room for and not hold. All 200 parts of 100 layers take three times as long to go through.
constexpr size_t kLengthsWithStreams = 64;
// A search for the rest of a model takes about 0.1 us for each of its matrices; so many of them are bounded, and a bound spares most
// candidates theirs.
constexpr size_t kMostSearched = 1000000;
constexpr size_t kFewestCandidates = 4, kMostCandidates = 1200;
// Where the host reads from disk too, one way of streaming to the device is tried: the middle of each of these.
constexpr Ring kRingBesideDisk = {4, 1 << 20};
constexpr uint32_t kFromTokensBesideDisk = 32;

// 1, 2, 3, and so on with ever larger gaps, at least a `ratio` of the length; the last is `most`.
std::vector<bool> spaced(size_t most, double ratio) {
  std::vector<bool> taken(most + 1);
  for (double length = 1; length < static_cast<double>(most); length = std::max(length + 1, length * ratio))
    taken[static_cast<size_t>(length)] = true;
  taken[most] = true;
  return taken;
}

}  // namespace

DeviceCandidates::DeviceCandidates(const StepShape& shape, const Demand& demand, CorrectionPlace corrections)
    : shape_(shape), logit_rows_(demand.logit_rows), chain_(shape) {
  const bool has_residuals = shape.residual_bytes > 0;
  if (!has_residuals && (shape.correction_row_bytes == 0 || corrections != CorrectionPlace::kOnHost)) besides_.push_back(false);
  if (has_residuals || (shape.correction_row_bytes > 0 && corrections != CorrectionPlace::kOnDevice)) besides_.push_back(true);
  for (const MatrixShape& matrix : shape.matrices) all_bytes_ = add_bytes(all_bytes_, resident_bytes(matrix));
  std::vector<uint32_t> all, attention, ffn, heads;
  for (uint32_t i = 0; i < chain_.parts.size(); ++i) {
    const MatrixPart part = chain_.parts[i].part;
    if (part == MatrixPart::kHead) {
      heads.push_back(i);
      continue;
    }
    all.push_back(i);
    (part == MatrixPart::kAttention ? attention : ffn).push_back(i);
  }
  const auto joined = [](std::vector<uint32_t> first, const std::vector<uint32_t>& then) {
    first.insert(first.end(), then.begin(), then.end());
    return first;
  };
  for (const std::vector<uint32_t>& order : {all, joined(attention, ffn), joined(ffn, attention)}) {
    for (const bool with_heads : {false, true}) {
      std::vector<uint32_t> next = with_heads ? joined(heads, order) : order;
      if (std::find(orders_.begin(), orders_.end(), next) == orders_.end()) orders_.push_back(std::move(next));
    }
  }
  add_all();
  add_beside_disk();
}

DeviceCandidate DeviceCandidates::of(const std::vector<PartPlace>& places, uint32_t from_tokens, bool beside) const {
  DeviceCandidate candidate;
  candidate.places = places;
  candidate.beside = beside;
  candidate.load = device_load(chain_, places, from_tokens, 0, 0, beside);
  uint64_t on_device = 0, row_block = 0;
  for (size_t i = 0; i < places.size(); ++i) {
    const DevicePart& part = chain_.parts[i];
    const uint64_t part_row_block = std::max(part.row_block_bytes, beside ? 0 : part.branch_row_block_bytes);
    if (places[i] != PartPlace::kHost && part.part == MatrixPart::kAttention) ++candidate.attention_layers;
    if (places[i] == PartPlace::kStreamed)
      candidate.least_slot_bytes = std::max(candidate.least_slot_bytes, whole_pages(part_row_block));
    if (places[i] != PartPlace::kDevice) continue;
    on_device = add_bytes(on_device, part.arena_bytes - (beside ? part.branch_arena_bytes : 0));
    row_block = std::max(row_block, part_row_block);
    for (uint32_t matrix : part.matrices) {
      if (!is_looked_up(shape_.matrices[matrix])) continue;
      candidate.row_bytes = std::max(candidate.row_bytes, shape_.matrices[matrix].row_file_bytes);
      ++candidate.row_reads;
    }
  }
  candidate.device_weights = whole_pages(add_bytes(fixed_arena_bytes(shape_), on_device));
  candidate.host_weights =
      all_bytes_ == UINT64_MAX ? UINT64_MAX : whole_pages(add_bytes(fixed_arena_bytes(shape_), all_bytes_ - on_device));
  const auto is_elsewhere = [](PartPlace place) { return place != PartPlace::kDevice; };
  candidate.takes_turns = beside || std::any_of(places.begin(), places.end(), is_elsewhere);
  candidate.transfer_bytes = std::max(kLeastTransferBytes, whole_pages(row_block));
  candidate.row_buffer_bytes = whole_pages(round_up_bytes(candidate.row_bytes, kWeightAlignment));
  return candidate;
}

// Of the feed-forward parts from `length` on.
void DeviceCandidates::stream_feed_forward(const std::vector<uint32_t>& order, size_t length, PartShare share,
                                           std::vector<PartPlace>* places) const {
  uint32_t at = 0;
  for (size_t i = length; i < order.size(); ++i) {
    if (chain_.parts[order[i]].part == MatrixPart::kFeedForward && share.has(at++)) (*places)[order[i]] = PartPlace::kStreamed;
  }
}

// What may stream to the device beside the first parts of an order, which are there.
void DeviceCandidates::add_streams(std::vector<PartPlace> places, const std::vector<uint32_t>& order, size_t length) {
  const std::vector<PartPlace> before = places;
  bool has_head = false;
  for (size_t i = 0; i < places.size(); ++i)
    has_head = has_head || (chain_.parts[i].part == MatrixPart::kHead && places[i] == PartPlace::kHost);
  const auto add = [&](uint32_t from_tokens, bool with_head) {
    for (size_t i = 0; with_head && i < places.size(); ++i) {
      if (chain_.parts[i].part == MatrixPart::kHead) places[i] = PartPlace::kStreamed;
    }
    for (const bool beside : besides_) {
      DeviceCandidate candidate = of(places, from_tokens, beside);
      if (candidate.least_slot_bytes > 0) candidates_.push_back(std::move(candidate));
    }
    places = before;
  };
  for (const bool with_head : {false, true}) {
    if (with_head && !has_head) break;
    for (size_t i = length; i < order.size(); ++i) places[order[i]] = PartPlace::kStreamed;
    add(1, with_head);
    for (const uint32_t from_tokens : kFromTokens) {
      if (with_head && logit_rows_ < from_tokens) break;  // of few rows the head is not worth the way
      for (const PartShare share : kShares) {
        stream_feed_forward(order, length, share, &places);
        add(from_tokens, with_head);
      }
    }
  }
}

void DeviceCandidates::add_all() {
  for (const std::vector<uint32_t>& order : orders_) {
    const size_t gap = order.size() / kLengthsWithStreams + 1;
    std::vector<PartPlace> places(chain_.parts.size(), PartPlace::kHost);
    for (size_t length = 0; length <= order.size(); ++length) {
      if (length > 0) {
        places[order[length - 1]] = PartPlace::kDevice;
        for (const bool beside : besides_) candidates_.push_back(of(places, 0, beside));
      }
      if (length % gap == 0 || length == order.size()) add_streams(places, order, length);
    }
  }
}

void DeviceCandidates::add_beside_disk() {
  if (orders_.empty()) return;
  const size_t candidates = std::clamp(kMostSearched / std::max<size_t>(1, shape_.matrices.size()), kFewestCandidates, kMostCandidates);
  // A ratio that leaves each order its share of a quarter of them.
  const double lengths = static_cast<double>(candidates) / 4 / static_cast<double>(orders_.size());
  for (const std::vector<uint32_t>& order : orders_) {
    if (order.empty()) continue;
    const std::vector<bool> taken = spaced(order.size(), std::max(1.05, std::pow(static_cast<double>(order.size()), 1 / lengths)));
    std::vector<PartPlace> places(chain_.parts.size(), PartPlace::kHost);
    for (size_t length = 1; length <= order.size(); ++length) {
      places[order[length - 1]] = PartPlace::kDevice;
      if (taken[length]) beside_disk_.push_back(of(places, 0, besides_.front()));
    }
  }
  for (const std::vector<uint32_t>& order : orders_) add_streams_beside_disk(order, candidates * 3 / 4 / orders_.size());
}

// About so many, of evenly spaced lengths.
void DeviceCandidates::add_streams_beside_disk(const std::vector<uint32_t>& order, size_t candidates) {
  const size_t gap = order.size() * std::size(kSharesBesideDisk) / std::max<size_t>(1, candidates) + 1;
  std::vector<PartPlace> places(chain_.parts.size(), PartPlace::kHost);
  for (size_t length = 0; length <= order.size(); ++length) {
    if (length > 0) places[order[length - 1]] = PartPlace::kDevice;
    if (length % gap != 0) continue;
    for (const PartShare share : kSharesBesideDisk) {
      std::vector<PartPlace> with_streams = places;
      stream_feed_forward(order, length, share, &with_streams);
      DeviceCandidate candidate = of(with_streams, kFromTokensBesideDisk, besides_.front());
      if (candidate.least_slot_bytes == 0) continue;
      candidate.load.slots = kRingBesideDisk.slots;
      candidate.load.slot_bytes = std::max(kRingBesideDisk.slot_bytes, candidate.least_slot_bytes);
      beside_disk_.push_back(std::move(candidate));
    }
  }
}

// Candidates that stream are kept without a ring, since they have the choice of the same few.
DeviceCandidate DeviceCandidates::with_ring(DeviceCandidate candidate, size_t ring) {
  candidate.load.slots = kRings[ring].slots;
  candidate.load.slot_bytes = std::max(kRings[ring].slot_bytes, candidate.least_slot_bytes);
  return candidate;
}

size_t DeviceCandidates::rings() { return std::size(kRings); }

}  // namespace outrigger
