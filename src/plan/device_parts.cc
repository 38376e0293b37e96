// Device parts: the chain, and its sums.
#include "src/plan/device_parts.h"

#include <algorithm>

namespace outrigger {
namespace {

WorkSums work_of(const MatrixShape& matrix) {
  return {product_work(matrix, matrix.rows, matrix.packed_bytes), 0};
}

}  // namespace

PartChain::PartChain(const StepShape& shape) : part_of(shape.matrices.size(), kNone), kv_layers(shape.kv_layers) {
  uint32_t last_layer = UINT32_MAX, last_window = UINT32_MAX;
  MatrixPart last_part = MatrixPart::kHost;
  for (const bool heads : {false, true}) {
    for (uint32_t i = 0; i < shape.matrices.size(); ++i) {
      const MatrixShape& matrix = shape.matrices[i];
      // Experts are the host's, and a link of its chain; what they cost depends on where they are and is not summed here.
      if (matrix.use == MatrixUse::kRowLookup || (matrix.use == MatrixUse::kLogits) != heads) continue;
      const bool is_part = matrix.part != MatrixPart::kHost;
      const bool joins =
          !links.empty() && links.back().is_head == heads && matrix.part == last_part && (!is_part || matrix.layer == last_layer);
      const bool begins = !joins || matrix.window != last_window;
      last_window = matrix.window;
      last_part = matrix.part;
      last_layer = matrix.layer;
      if (!joins) {
        links.push_back({is_part ? static_cast<uint32_t>(parts.size()) : kNone, {}, {}, heads});
        if (matrix.part == MatrixPart::kAttention) links.back().work.attention_layers = 1;
        if (is_part) parts.push_back({matrix.part, {}});
      }
      if (matrix.use != MatrixUse::kRouted) links.back().work += work_of(matrix);
      if (!is_part) continue;
      DevicePart& part = parts.back();
      part_of[i] = links.back().part;
      part.matrices.push_back(i);
      part.arena_bytes = add_bytes(part.arena_bytes, resident_bytes(matrix));
      part.packed_bytes = add_bytes(part.packed_bytes, matrix.packed_bytes);
      if (begins && !matrix.adds_to_window) links.back().windows.emplace_back();
      if (!links.back().windows.empty()) links.back().windows.back().add(matrix);
      if (matrix.is_branch) {
        part.branch_arena_bytes = add_bytes(part.branch_arena_bytes, resident_bytes(matrix));
        part.branch_packed_bytes = add_bytes(part.branch_packed_bytes, matrix.packed_bytes);
        links.back().branches += work_of(matrix).products;
      }
      uint64_t& row_block = matrix.is_branch ? part.branch_row_block_bytes : part.row_block_bytes;
      row_block = std::max(row_block, matrix.row_block_bytes);
    }
  }
  for (Link& link : links) link.device_work = DeviceWork(link.work);
}

DeviceSums device_sums(const PartChain& chain, const std::vector<PartPlace>& places, bool streams, bool beside) {
  DeviceSums sums;
  bool was_there = false;
  DeviceWork disk_run, link_run_device;
  WorkSums link_run_host;
  for (const PartChain::Link& link : chain.links) {
    const PartPlace place = link.part == PartChain::kNone ? PartPlace::kHost : places[link.part];
    const bool is_streamed = streams && place == PartPlace::kStreamed, is_there = place == PartPlace::kDevice || is_streamed;
    if (is_there && !was_there) ++(link.is_head ? sums.head_uploads : sums.uploads);
    if (!is_there && was_there) ++(link.is_head ? sums.head_downloads : sums.downloads);
    if (is_there) (link.is_head ? sums.heads : sums.layers) += link.work;
    if (is_there && beside && !link.is_head) {
      sums.layers.products -= link.branches;
      const size_t first = chain.parts[link.part].part == MatrixPart::kFeedForward ? 2 : 0;
      for (size_t i = 0; i < link.windows.size(); ++i) {
        if (link.windows[i].count > 0) sums.corrected[first + std::min<size_t>(i, 1)] += link.windows[i];
      }
    }
    if (is_there && link.is_head) sums.logits_download = true;
    was_there = is_there;
    if (is_streamed) {
      const DevicePart& part = chain.parts[link.part];
      (link.is_head ? sums.head_upload_bytes : sums.layer_upload_bytes) += part.packed_bytes - (beside ? part.branch_packed_bytes : 0);
    }
    if (link.is_head) continue;

    if (is_there)
      disk_run += link.device_work;
    else
      disk_run = {};
    if (disk_run.bytes > sums.disk_gap.bytes) sums.disk_gap = disk_run;
    if (is_streamed) {
      link_run_host = {};
      link_run_device = {};
    } else {
      if (is_there)
        link_run_device += link.device_work;
      else
        link_run_host += link.work;
      const auto both = [](const WorkSums& host, const DeviceWork& device) { return host.products.bytes() + device.bytes; };
      if (both(link_run_host, link_run_device) > both(sums.link_gap_host, sums.link_gap_device)) {
        sums.link_gap_host = link_run_host;
        sums.link_gap_device = link_run_device;
      }
    }
  }
  return sums;
}

std::vector<PartPlace> part_places(const PartChain& chain, const DeviceUse& device) {
  std::vector<PartPlace> places(chain.parts.size(), PartPlace::kHost);
  for (size_t i = 0; i < places.size(); ++i) {
    const uint32_t first = chain.parts[i].matrices.front();
    if (device.is_resident(first)) places[i] = PartPlace::kDevice;
    if (device.is_streamed(first)) places[i] = PartPlace::kStreamed;
  }
  return places;
}

DeviceLoad device_load(const PartChain& chain, const std::vector<PartPlace>& places, uint32_t from_tokens, uint32_t slots,
                       uint64_t slot_bytes, bool beside) {
  DeviceLoad load;
  load.small = device_sums(chain, places, false, beside);
  if (from_tokens > 0) load.large = device_sums(chain, places, true, beside);
  load.from_tokens = from_tokens;
  load.slots = slots;
  load.slot_bytes = slot_bytes;
  return load;
}

}  // namespace outrigger
