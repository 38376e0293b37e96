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
  return slot_bytes == 0 ? 0 : streamed_bytes / std::min(slot_bytes, kMostReadBytes);
}

uint64_t least_device_units(const StepShape& shape, const DeviceUse& device) {
  uint64_t streamed_bytes = 0;
  for (size_t i = 0; i < shape.matrices.size(); ++i) {
    if (device.is_streamed(i)) streamed_bytes = add_bytes(streamed_bytes, shape.matrices[i].packed_bytes);
  }
  return device.slot_bytes == 0 ? 0 : streamed_bytes / device.slot_bytes;
}

// What one node multiplies with, in the making.
struct StepPlayer::Product {
  ScheduledTask task;
  ProductWork resident, streamed;  // of a product on the device all is resident
};

StepPlayer::Ring::Ring(const StepShape& shape, const std::vector<bool>& stays, uint64_t slot_bytes, uint32_t slots, SlotsHold hold)
    : layout(layout_stream(shape, stays, slot_bytes, slots, hold)) {
  pieces_begin.assign(shape.matrices.size() + 1, 0);
  for (const StreamUnit& unit : layout.units) {
    for (const StreamPiece& piece : unit.pieces) ++pieces_begin[piece.matrix + 1];
  }
  for (size_t i = 1; i < pieces_begin.size(); ++i) pieces_begin[i] += pieces_begin[i - 1];
  pieces.resize(pieces_begin.back());
  std::vector<uint32_t> next(pieces_begin.begin(), pieces_begin.end() - 1);
  for (uint32_t unit = 0; unit < layout.units.size(); ++unit) {
    for (const StreamPiece& piece : layout.units[unit].pieces) pieces[next[piece.matrix]++] = {unit, piece.blocks};
  }
}

namespace {

std::vector<bool> stays_off_device(const StepShape& shape, const DeviceUse& device) {
  std::vector<bool> stays(shape.matrices.size(), true);
  for (size_t i = 0; i < stays.size(); ++i) stays[i] = !device.is_streamed(i);
  return stays;
}

}  // namespace

StepPlayer::StepPlayer(const StepShape& shape, const CostModel& cost, const std::vector<bool>& resident, uint64_t slot_bytes,
                       uint32_t slots, double absent_experts, uint32_t reads, uint32_t kv_spilled_layers, const DeviceUse& device,
                       uint32_t from_tokens)
    : shape_(shape),
      cost_(cost),
      resident_(resident),
      absent_experts_(absent_experts),
      reads_(reads),
      kv_spilled_layers_(kv_spilled_layers),
      device_(device),
      from_tokens_(from_tokens),
      disk_ring_(shape, resident, slot_bytes, slots, SlotsHold::kFileRows),
      device_ring_(shape, stays_off_device(shape, device), device.slot_bytes, device.slots, SlotsHold::kPacked) {}

StepTime StepPlayer::play(const StepWork& work) {
  work_ = work;
  streams_ = from_tokens_ > 0 && work.tokens >= from_tokens_;
  is_link_busy_ = streams_ && device_ring_.layout.step_units(work.logit_rows > 0) > 0;
  was_there_ = false;
  host_.clear();
  fetches_.clear();
  expert_fetches_.clear();
  kv_tasks_.clear();
  kv_ready_.clear();
  brought_.clear();
  attention_.clear();
  add_row_reads();
  add_products();
  if (was_there_ && work.logit_rows > 0) add_logits_download();
  const uint32_t units = disk_ring_.layout.step_units(work.logit_rows > 0);
  spread_overheads();
  double host_s = 0, disk_s = 0;
  for (const ScheduledTask& task : host_) host_s += task.lane == ScheduleLane::kHost ? task.end_s : 0;
  for (uint32_t unit = 0; unit < units; ++unit) disk_s += cost_.fetch_s(disk_ring_.layout.units[unit].file_bytes, reads_);
  disk_slowdown_ = cost_.disk_slowdown(host_s, disk_s);
  return take_times();
}

// The way of the residual to where what comes next is computed.
void StepPlayer::cross(bool to_device, uint32_t layer) {
  if (to_device == was_there_) return;
  was_there_ = to_device;
  ScheduledTask task;
  task.lane = to_device ? ScheduleLane::kToDevice : ScheduleLane::kToHost;
  task.kind = to_device ? TaskKind::kUpload : TaskKind::kDownload;
  task.layer = layer;
  task.bytes = work_.tokens * shape_.residual_row_bytes;
  task.end_s = to_device ? cost_.device().up_s(work_.tokens, hands_words()) : cost_.device().down_s(work_.tokens, hands_words());
  host_.push_back(task);
}

void StepPlayer::add_logits_download() {
  ScheduledTask task;
  task.lane = ScheduleLane::kToHost;
  task.kind = TaskKind::kLogits;
  task.layer = host_.back().layer;
  task.bytes = work_.logit_rows * shape_.logits_row_bytes;
  task.end_s = cost_.device().logits_s(work_.logit_rows);
  // Without a head what is there are the last layers, and nobody wants what they made.
  if (std::any_of(host_.begin(), host_.end(), [](const ScheduledTask& of) { return of.kind == TaskKind::kHead; })) host_.push_back(task);
}

bool StepPlayer::is_used(const MatrixShape& matrix) const {
  return matrix.use == MatrixUse::kEveryToken || (matrix.use == MatrixUse::kLogits && work_.logit_rows > 0);
}

void StepPlayer::add_row_reads() {
  uint32_t row_reads = 0;
  ScheduledTask task;
  task.kind = TaskKind::kRowReads;
  for (uint32_t i = 0; i < shape_.matrices.size(); ++i) {
    if (!reads_rows(shape_, resident_, device_, i)) continue;
    ++row_reads;
    task.first_matrix = task.last_matrix = i;
    task.bytes += shape_.matrices[i].row_file_bytes * work_.tokens;
  }
  if (row_reads == 0) return;
  task.end_s = cost_.row_reads_s(work_.tokens, row_reads);
  host_.push_back(task);
}

// Windows in the order of the step: matrices side by side that share layer, window and use. Attention follows a layer's first, and what
// adds to that.
void StepPlayer::add_products() {
  const std::vector<MatrixShape>& matrices = shape_.matrices;
  bool is_first_of_layer = true;
  for (uint32_t i = 0; i < matrices.size();) {
    uint32_t end = i + 1;
    const auto shares_window = [&](const MatrixShape& matrix) {
      return matrix.layer == matrices[i].layer && matrix.window == matrices[i].window && matrix.use == matrices[i].use &&
             matrix.part == matrices[i].part;
    };
    while (end < matrices.size() && shares_window(matrices[end])) ++end;
    bool is_continued = end < matrices.size() && matrices[end].adds_to_window;
    if (matrices[i].use == MatrixUse::kRouted) {
      while (end < matrices.size() && matrices[end].use == MatrixUse::kRouted && matrices[end].layer == matrices[i].layer) ++end;
      cross(false, matrices[i].layer);
      add_experts(i, end);
    }
    const uint32_t begin = i;
    if (is_used(matrices[i])) {
      cross(is_there(i), matrices[i].layer);
      const bool is_beside = is_corrected(i, end);
      if (is_beside) {
        const uint32_t window_end = end;
        while (end < matrices.size() && matrices[end].adds_to_window && matrices[end].layer == matrices[i].layer) ++end;
        add_corrected_window(i, window_end, end);
      } else {
        add_window(i, end);
      }
      if (matrices[i].use == MatrixUse::kEveryToken && is_first_of_layer && (is_beside || !is_continued)) add_attention(matrices[i].layer);
      is_continued = is_continued && !is_beside;
    }
    is_first_of_layer = end < matrices.size() && (matrices[end].layer != matrices[begin].layer || (is_first_of_layer && is_continued));
    i = end;
  }
  if (attention_.empty()) add_attention(0);  // a model whose layers have no matrices still attends
}

double StepPlayer::residual_bytes_of(const ScheduledTask& task) const {
  double bytes = 0;
  for (uint32_t i = task.first_matrix; i <= task.last_matrix; ++i) bytes += static_cast<double>(shape_.matrices[i].residual_read_bytes);
  return bytes;
}

bool StepPlayer::is_corrected(uint32_t begin, uint32_t end) const {
  if (!device_.corrections_beside || !is_there(begin)) return false;
  return std::any_of(shape_.matrices.begin() + begin, shape_.matrices.begin() + end, [](const MatrixShape& matrix) {
    return (matrix.is_branch && matrix.used_share > 0) || matrix.residual_read_bytes > 0;
  });
}

// Its input goes to the host, which corrects while the device multiplies.
void StepPlayer::add_corrected_window(uint32_t begin, uint32_t end, uint32_t factors_end) {
  CorrectedWindows window;
  for (uint32_t i = begin; i < factors_end; ++i) window.add(shape_.matrices[i]);
  const double tokens = work_.tokens;
  ScheduledTask task;
  task.layer = shape_.matrices[begin].layer;
  task.first_matrix = begin;
  task.last_matrix = end - 1;
  while (shape_.matrices[task.last_matrix].is_branch) --task.last_matrix;
  const auto add = [&](ScheduleLane lane, TaskKind kind, double bytes, double duration_s) {
    task.lane = lane, task.kind = kind, task.bytes = static_cast<uint64_t>(bytes), task.end_s = duration_s;
    host_.push_back(task);
  };
  const double input_bytes = tokens * window.input_bytes, result_bytes = tokens * window.result_bytes;
  add(ScheduleLane::kToHost, TaskKind::kInput, input_bytes, cost_.device().input_s(input_bytes, hands_words()));
  add_window(begin, end);
  add(ScheduleLane::kHost, TaskKind::kCorrect, window.here.bytes() + tokens * window.residual_bytes,
      cost_.correction_s(window, tokens, is_link_busy_));
  add(ScheduleLane::kToDevice, TaskKind::kResult, result_bytes, cost_.device().result_s(result_bytes, hands_words()));
  add(ScheduleLane::kDevice, TaskKind::kAdd, result_bytes, cost_.take_over_s(result_bytes, hands_words()));
}

// One node for what is resident and the first unit; each further unit starts another, so that computing begins with the first.
void StepPlayer::add_window(uint32_t begin, uint32_t end) {
  Product product = new_product(begin);
  for (uint32_t i = begin; i < end; ++i) {
    const MatrixShape& matrix = shape_.matrices[i];
    if (matrix.is_branch && device_.corrections_beside && is_there(begin)) continue;
    product.task.last_matrix = i;
    if (resident_[i] && !is_brought(i)) {
      product.task.bytes += matrix.packed_bytes;
      product.resident += product_work(matrix, matrix.rows, matrix.packed_bytes);
      continue;
    }
    const Ring& ring = is_brought(i) ? device_ring_ : disk_ring_;
    uint64_t row = 0;
    for (uint32_t p = ring.pieces_begin[i]; p < ring.pieces_begin[i + 1]; ++p) {
      const Piece& piece = ring.pieces[p];
      if (product.task.unit != kNoUnit && product.task.unit != piece.unit) {
        finish(product);
        product = new_product(i);
      }
      const uint64_t rows = std::min<uint64_t>(uint64_t{piece.blocks} * kPackRows, matrix.rows - row);
      row += rows;
      product.task.unit = piece.unit;
      product.task.slot = piece.unit % std::max(1u, ring.layout.ring_slots);
      const uint64_t bytes = piece.blocks * matrix.row_block_bytes;
      product.task.bytes += bytes;
      (is_brought(i) ? product.resident : product.streamed) += product_work(matrix, rows, bytes);
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
  product.task.lane = is_there(matrix) ? ScheduleLane::kDevice : ScheduleLane::kHost;
  product.task.kind = shape_.matrices[matrix].use == MatrixUse::kLogits ? TaskKind::kHead : TaskKind::kProduct;
  product.task.layer = shape_.matrices[matrix].layer;
  product.task.first_matrix = product.task.last_matrix = matrix;
  return product;
}

void StepPlayer::finish(Product& product) {
  const double tokens = product.task.kind == TaskKind::kHead ? work_.logit_rows : work_.tokens;
  if (product.task.lane == ScheduleLane::kDevice) {
    product.task.end_s = cost_.device().product_s(product.resident, tokens);
  } else {
    product.task.end_s =
        cost_.host().product_s(product.resident, tokens, is_link_busy_) + cost_.host().streamed_product_s(product.streamed, tokens);
  }
  host_.push_back(product.task);
}

// After the layer's first products: with them, if they are attention's.
void StepPlayer::add_attention(uint32_t layer) {
  ScheduledTask task;
  task.kind = TaskKind::kAttention;
  task.layer = layer;
  if (!host_.empty() && host_.back().lane == ScheduleLane::kDevice &&
      shape_.matrices[host_.back().last_matrix].part == MatrixPart::kAttention) {
    task.lane = ScheduleLane::kDevice;
  }
  attention_.push_back(static_cast<uint32_t>(host_.size()));
  host_.push_back(task);
}

}  // namespace outrigger
