// Keys and values on disk, counted.
#include "src/plan/kv_spill_model.h"

#include <algorithm>

namespace outrigger {
namespace {

uint64_t granules(const StepShape& shape, uint64_t tokens) { return (tokens + shape.kv_granule_tokens - 1) / shape.kv_granule_tokens; }

// A granule of one run.
uint64_t granule_bytes(const StepShape& shape, KvType type) {
  return multiply_bytes(kv_bytes_per_token(shape, type) / shape.kv_layers, shape.kv_granule_tokens) / shape.kv_runs;
}

}  // namespace

uint64_t kv_slot_bytes(const StepShape& shape, const Demand& demand) {
  const uint64_t tokens = multiply_bytes(granules(shape, demand.context_tokens), shape.kv_granule_tokens);
  return multiply_bytes(demand.batch, whole_pages(multiply_bytes(tokens, kv_bytes_per_token(shape, demand.kv_type) / shape.kv_layers)));
}

KvSpillShape kv_spill_shape(const StepShape& shape, KvType type, uint64_t context_tokens) {
  KvSpillShape spilled;
  spilled.granule_bytes = granule_bytes(shape, type);
  spilled.granule_tokens = shape.kv_granule_tokens;
  spilled.context_tokens = context_tokens;
  spilled.runs = {shape.kv_runs, multiply_bytes(granules(shape, context_tokens), spilled.granule_bytes)};
  return spilled;
}

// A step that a plan speaks of may reach beyond a context that is smaller than its workload.
KvExtent KvSpillShape::extent(double position, uint32_t tokens) const {
  const auto first = static_cast<uint64_t>(std::min(position, static_cast<double>(context_tokens))),
             last = std::min(first + tokens, context_tokens);
  const auto whole = [this](uint64_t positions) { return (positions + granule_tokens - 1) / granule_tokens * granule_bytes; };
  return {whole(first), first / granule_tokens * granule_bytes, whole(last)};
}

KvMove most_moved(const KvRuns& runs, uint64_t bytes) {
  if (bytes == 0) return {};
  const double own = static_cast<double>(bytes) + 2 * kKvPageBytes;
  if (runs.moves_as_one(bytes)) return {(runs.count - 1.0) * static_cast<double>(runs.stride_bytes) + own, 1};
  return {runs.count * own, static_cast<double>(runs.count)};
}

uint64_t kv_range_bytes(const KvRuns& runs, uint64_t begin, uint64_t end) {
  uint64_t bytes = 0;
  for_each_kv_range(runs, begin, end, [&bytes](uint64_t /*offset*/, uint64_t some) { bytes = add_bytes(bytes, some); });
  return bytes;
}

uint64_t kv_disk_bytes(const StepShape& shape, const Demand& demand, double position, uint32_t tokens) {
  if (demand.kv_spilled_layers == 0) return 0;
  const KvSpillShape spilled = kv_spill_shape(shape, demand.kv_type, demand.context_tokens);
  const KvExtent extent = spilled.extent(position, tokens);
  const uint64_t bytes = add_bytes(kv_range_bytes(spilled.runs, 0, extent.prefix), kv_range_bytes(spilled.runs, extent.begin, extent.end));
  return multiply_bytes(bytes, demand.kv_spilled_layers);
}

std::vector<uint32_t> kv_spill_choices(const StepShape& shape, const Demand& demand, uint32_t asked_for) {
  if (asked_for != Workload::kAsItPays) return {asked_for};
  const uint32_t layers = shape.kv_layers;
  std::vector<uint32_t> choices{0};
  for (uint32_t quarter = 1; quarter <= 4; ++quarter) {
    Demand spilled = demand;
    spilled.kv_spilled_layers = static_cast<uint32_t>(uint64_t{layers} * quarter / 4);
    if (spilled.kv_spilled_layers == choices.back() ||
        kv_cache_bytes(shape, spilled, shape.kv_layers) >= kv_cache_bytes(shape, demand, shape.kv_layers))
      continue;
    choices.push_back(spilled.kv_spilled_layers);
  }
  return choices;
}

}  // namespace outrigger
