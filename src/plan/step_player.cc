// StepPlayer: the step's tasks, then their times.
#include "src/plan/step_player.h"

#include <algorithm>

#include "src/plan/memory_model.h"
#include "src/tensor/packed.h"

namespace outrigger {

uint64_t least_units(const StepShape& shape, const std::vector<bool>& resident, uint64_t slot_bytes) {
  uint64_t streamed_bytes = 0;
  for (size_t i = 0; i < resident.size(); ++i) {
    if (!resident[i] && is_multiplied(shape.matrices[i])) streamed_bytes = add_bytes(streamed_bytes, shape.matrices[i].packed_bytes);
  }
  return slot_bytes == 0 ? 0 : streamed_bytes / slot_bytes;
}

// What one node multiplies with, in the making.
struct StepPlayer::Product {
  ScheduledTask task;
  double weights = 0;
};

StepPlayer::StepPlayer(const StepShape& shape, const CostModel& cost, const std::vector<bool>& resident, uint64_t slot_bytes, uint32_t slots,
                       double absent_experts, uint32_t reads, uint32_t kv_spilled_layers)
    : shape_(shape), cost_(cost), resident_(resident), absent_experts_(absent_experts), reads_(reads), kv_spilled_layers_(kv_spilled_layers), layout_(layout_stream(shape, resident, slot_bytes, slots)) {
  pieces_begin_.assign(shape.matrices.size() + 1, 0);
  for (const StreamUnit& unit : layout_.units) {
    for (const StreamPiece& piece : unit.pieces) ++pieces_begin_[piece.matrix + 1];
  }
  for (size_t i = 1; i < pieces_begin_.size(); ++i) pieces_begin_[i] += pieces_begin_[i - 1];
  pieces_.resize(pieces_begin_.back());
  std::vector<uint32_t> next(pieces_begin_.begin(), pieces_begin_.end() - 1);
  for (uint32_t unit = 0; unit < layout_.units.size(); ++unit) {
    for (const StreamPiece& piece : layout_.units[unit].pieces) pieces_[next[piece.matrix]++] = {unit, piece.blocks};
  }
}

StepTime StepPlayer::play(const StepWork& work) {
  work_ = work;
  host_.clear();
  fetches_.clear();
  expert_fetches_.clear();
  kv_tasks_.clear();
  kv_ready_.clear();
  attention_.clear();
  const uint32_t units = layout_.step_units(work.logit_rows > 0);
  add_row_reads();
  add_products();
  spread_overheads(units);
  return take_times(units);
}

bool StepPlayer::is_used(const MatrixShape& matrix) const {
  return matrix.use == MatrixUse::kEveryToken || (matrix.use == MatrixUse::kLogits && work_.logit_rows > 0);
}

void StepPlayer::add_row_reads() {
  uint32_t row_reads = 0;
  ScheduledTask task;
  task.kind = TaskKind::kRowReads;
  for (uint32_t i = 0; i < shape_.matrices.size(); ++i) {
    if (!is_looked_up(shape_.matrices[i]) || resident_[i]) continue;
    ++row_reads;
    task.first_matrix = task.last_matrix = i;
    task.bytes += shape_.matrices[i].row_file_bytes * work_.tokens;
  }
  if (row_reads == 0) return;
  task.end_s = cost_.row_reads_s(work_.tokens, row_reads);
  host_.push_back(task);
}

// Windows in the order of the step: matrices side by side that share layer, window and use. Attention follows a layer's first.
void StepPlayer::add_products() {
  const std::vector<MatrixShape>& matrices = shape_.matrices;
  bool is_first_of_layer = true;
  for (uint32_t i = 0; i < matrices.size();) {
    uint32_t end = i + 1;
    const auto shares_window = [&](const MatrixShape& matrix) {
      return matrix.layer == matrices[i].layer && matrix.window == matrices[i].window && matrix.use == matrices[i].use;
    };
    while (end < matrices.size() && shares_window(matrices[end])) ++end;
    if (matrices[i].use == MatrixUse::kRouted) {
      while (end < matrices.size() && matrices[end].use == MatrixUse::kRouted && matrices[end].layer == matrices[i].layer) ++end;
      add_experts(i, end);
    }
    if (is_used(matrices[i])) {
      add_window(i, end);
      if (matrices[i].use == MatrixUse::kEveryToken && is_first_of_layer) add_attention(matrices[i].layer);
    }
    is_first_of_layer = end < matrices.size() && matrices[end].layer != matrices[i].layer;
    i = end;
  }
  if (attention_.empty()) add_attention(0);  // a model whose layers have no matrices still attends
}

// One node for what is resident and the first unit; each further unit starts another, so that computing begins with the first.
void StepPlayer::add_window(uint32_t begin, uint32_t end) {
  Product product = new_product(begin);
  for (uint32_t i = begin; i < end; ++i) {
    const MatrixShape& matrix = shape_.matrices[i];
    product.task.last_matrix = i;
    if (resident_[i]) {
      product.task.bytes += matrix.packed_bytes;
      product.weights += static_cast<double>(matrix.rows) * static_cast<double>(matrix.columns);
      continue;
    }
    uint64_t row = 0;
    for (uint32_t p = pieces_begin_[i]; p < pieces_begin_[i + 1]; ++p) {
      const Piece& piece = pieces_[p];
      if (product.task.unit != kNoUnit && product.task.unit != piece.unit) {
        finish(product);
        product = new_product(i);
      }
      const uint64_t rows = std::min<uint64_t>(uint64_t{piece.blocks} * kPackRows, matrix.rows - row);
      row += rows;
      product.task.unit = piece.unit;
      product.task.slot = piece.unit % std::max(1u, layout_.ring_slots);
      product.task.bytes += piece.blocks * matrix.row_block_bytes;
      product.weights += static_cast<double>(rows) * static_cast<double>(matrix.columns);
    }
  }
  finish(product);
}

void StepPlayer::add_experts(uint32_t begin, uint32_t end) {
  ScheduledTask task;
  task.kind = TaskKind::kExperts;
  task.layer = shape_.matrices[begin].layer;
  task.first_matrix = begin;
  task.last_matrix = end - 1;
  host_.push_back(task);
}

StepPlayer::Product StepPlayer::new_product(uint32_t matrix) const {
  Product product;
  product.task.kind = shape_.matrices[matrix].use == MatrixUse::kLogits ? TaskKind::kHead : TaskKind::kProduct;
  product.task.layer = shape_.matrices[matrix].layer;
  product.task.first_matrix = product.task.last_matrix = matrix;
  return product;
}

void StepPlayer::finish(Product& product) {
  const double tokens = product.task.kind == TaskKind::kHead ? work_.logit_rows : work_.tokens;
  product.task.end_s = cost_.product_s(static_cast<double>(product.task.bytes), product.weights, tokens);
  host_.push_back(product.task);
}

void StepPlayer::add_attention(uint32_t layer) {
  ScheduledTask task;
  task.kind = TaskKind::kAttention;
  task.layer = layer;
  attention_.push_back(static_cast<uint32_t>(host_.size()));
  host_.push_back(task);
}

// Until here end_s is a duration. A step's overhead and the reader's share of the cores are spread over the host's work.
void StepPlayer::spread_overheads(uint32_t units) {
  for (const uint32_t i : attention_) host_[i].end_s = cost_.attention_s(work_) / static_cast<double>(attention_.size());
  double work_s = 0;
  uint64_t repacked = 0, tasks = 0;
  for (const ScheduledTask& task : host_) {
    if (task.kind == TaskKind::kRowReads || task.kind == TaskKind::kExperts) continue;
    work_s += task.end_s;
    ++tasks;
  }
  for (uint32_t unit = 0; unit < units; ++unit) repacked += layout_.units[unit].packed_bytes;
  const double slowed = work_s > 0 ? 1 + cost_.repack_share_s(repacked) / work_s : 1, overhead = cost_.step_overhead_s() / static_cast<double>(tasks);
  for (ScheduledTask& task : host_) {
    if (task.kind != TaskKind::kRowReads && task.kind != TaskKind::kExperts) task.end_s = task.end_s * slowed + overhead;
  }
}

StepTime StepPlayer::take_times(uint32_t units) {
  const uint32_t slots = layout_.ring_slots;
  std::vector<size_t> last_use(units, 0);
  for (size_t i = 0; i < host_.size(); ++i) {
    if (host_[i].unit != kNoUnit) last_use[host_[i].unit] = i;
  }
  fetches_.reserve(units);
  StepTime time;
  double host_free = 0, disk_free = 0;
  begin_kv(&disk_free, &time);
  for (size_t i = 0; i < host_.size(); ++i) {
    ScheduledTask& task = host_[i];
    if (task.kind == TaskKind::kExperts) {
      take_experts_time(task, &host_free, &disk_free, &time);
      continue;
    }
    const double duration = task.end_s, ready = task.unit != kNoUnit && task.unit >= slots ? fetches_[task.unit - slots].end_s : 0;
    task.begin_s = std::max({host_free, ready, is_spilled(task) ? kv_ready_[kv_spilled_before(shape_.kv_layers, kv_spilled_layers_, task.layer)] : 0});
    host_free = task.end_s = task.begin_s + duration;
    time.host_s += duration;
    if (is_spilled(task)) end_attention(task, &disk_free, &time);
    if (task.unit == kNoUnit || last_use[task.unit] != i) continue;
    const auto j = static_cast<uint32_t>(fetches_.size());
    const double begin_s = std::max(disk_free, task.end_s);
    disk_free = add_fetch((j + slots) % units, j % slots, begin_s);
    time.disk_s += disk_free - begin_s;
  }
  time.total_s = std::max(host_free, disk_free);
  return time;
}

bool StepPlayer::is_spilled(const ScheduledTask& task) const {
  return task.kind == TaskKind::kAttention && task.layer < shape_.kv_layers && is_kv_spilled(shape_.kv_layers, kv_spilled_layers_, task.layer);
}

void StepPlayer::add_kv_task(TaskKind kind, uint32_t number, double begin_s, double* disk_free, StepTime* time) {
  ScheduledTask task;
  task.lane = ScheduleLane::kDisk;
  task.kind = kind;
  task.layer = kv_spilled_layer(shape_.kv_layers, kv_spilled_layers_, number);
  const KvExtent extent = cost_.kv().extent(work_.position, work_.tokens);
  task.bytes = kind == TaskKind::kFetchKv ? kv_range_bytes(cost_.kv().runs, 0, extent.prefix) : kv_range_bytes(cost_.kv().runs, extent.begin, extent.end);
  task.begin_s = std::max(begin_s, *disk_free);
  *disk_free = task.end_s = task.begin_s + (kind == TaskKind::kFetchKv ? cost_.kv_fetch_s(work_) : cost_.kv_store_s(work_));
  time->disk_s += task.end_s - task.begin_s;
  if (kind == TaskKind::kFetchKv) kv_ready_.push_back(task.end_s);
  kv_tasks_.push_back(task);
}

// Each slot's first layer is fetched as the step begins.
void StepPlayer::begin_kv(double* disk_free, StepTime* time) {
  for (uint32_t number = 0; number < std::min(kKvSlots, kv_spilled_layers_); ++number) add_kv_task(TaskKind::kFetchKv, number, 0, disk_free, time);
}

// A layer is written back when it has attended, and makes room for the next but one.
void StepPlayer::end_attention(const ScheduledTask& task, double* disk_free, StepTime* time) {
  const uint32_t number = kv_spilled_before(shape_.kv_layers, kv_spilled_layers_, task.layer);
  add_kv_task(TaskKind::kStoreKv, number, task.end_s, disk_free, time);
  if (number + kKvSlots < kv_spilled_layers_) add_kv_task(TaskKind::kFetchKv, number + kKvSlots, 0, disk_free, time);
}

// A layer's even share of what all of them take. Reading begins when the layer is routed.
void StepPlayer::take_experts_time(ScheduledTask& task, double* host_free, double* disk_free, StepTime* time) {
  const ExpertTime all = cost_.experts(work_, absent_experts_, reads_);
  const double layers = cost_.expert_layers(), waited = std::max(0.0, *disk_free - *host_free);
  const double routed_s = *host_free;
  *host_free = task.end_s = routed_s + (all.disk_s > 0 ? waited : 0) + all.total_s / layers;
  task.begin_s = std::max(routed_s, task.end_s - all.host_s / layers);  // as if in one piece, after what it has to wait for
  time->host_s += all.host_s / layers;
  if (all.disk_s == 0) return;
  ScheduledTask fetch = task;
  fetch.lane = ScheduleLane::kDisk;
  fetch.kind = TaskKind::kFetchExperts;
  fetch.begin_s = std::max(routed_s, *disk_free);
  *disk_free = fetch.end_s = fetch.begin_s + all.disk_s / layers;
  fetch.bytes = static_cast<uint64_t>(all.bytes / layers);
  time->disk_s += all.disk_s / layers;
  time->expert_bytes = all.bytes;
  expert_fetches_.push_back(fetch);
}

double StepPlayer::add_fetch(uint32_t index, uint32_t slot, double begin_s) {
  const StreamUnit& unit = layout_.units[index];
  ScheduledTask task;
  task.lane = ScheduleLane::kDisk;
  task.kind = TaskKind::kFetch;
  task.begin_s = begin_s;
  task.end_s = begin_s + cost_.fetch_s(unit.file_bytes, unit.packed_bytes, reads_);
  task.bytes = unit.file_bytes;
  task.layer = shape_.matrices[unit.pieces.front().matrix].layer;
  task.first_matrix = unit.pieces.front().matrix;
  task.last_matrix = unit.pieces.back().matrix;
  task.unit = index;
  task.slot = slot;
  fetches_.push_back(task);
  return task.end_s;
}

}  // namespace outrigger
