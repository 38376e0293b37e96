// Schedule: the step's tasks, then their times.
#include "src/plan/schedule.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/macros.h"
#include "src/plan/memory_model.h"
#include "src/plan/plan_inputs.h"
#include "src/tensor/stream_layout.h"

namespace outrigger {
namespace {

// A plan of a file of a TiB through slots of 256 KiB; beyond that something is wrong with the plan, and memory would be short first.
constexpr uint64_t kMostUnits = uint64_t{1} << 22;

struct Piece {
  uint32_t unit = 0, blocks = 0;
};

// A product in the making: bytes and weights of what one node multiplies with.
struct Product {
  ScheduledTask task;
  double weights = 0;
};

class Player {
 public:
  Player(const StepShape& shape, const Plan& plan, const MachineProfile& machine, const StepWork& work)
      : shape_(shape), plan_(plan), cost_(shape, machine, workload_of(plan)), layout_(layout_stream(shape, plan)) {
    schedule_.work = work;
    schedule_.units = layout_.step_units(work.logit_rows > 0);
    schedule_.ring_slots = layout_.ring_slots;
    pieces_.resize(shape.matrices.size());
    for (uint32_t unit = 0; unit < layout_.units.size(); ++unit) {
      for (const StreamPiece& piece : layout_.units[unit].pieces) pieces_[piece.matrix].push_back({unit, piece.blocks});
    }
  }

  StepSchedule play() {
    add_row_reads();
    add_products();
    take_times();
    note_memory();
    return std::move(schedule_);
  }

 private:
  // The cost model asks a workload for the type of its caches only, as far as single steps go.
  static Workload workload_of(const Plan& plan) {
    Workload workload;
    workload.kv_type = plan.kv_type;
    return workload;
  }

  bool is_streamed(uint32_t matrix) const { return plan_.tensors[matrix].mode == Residence::kStreamed; }
  bool is_used(const MatrixShape& matrix) const {
    return matrix.use == MatrixUse::kEveryToken || (matrix.use == MatrixUse::kLogits && schedule_.work.logit_rows > 0);
  }

  void add_row_reads() {
    uint32_t row_reads = 0;
    ScheduledTask task;
    task.kind = TaskKind::kRowReads;
    for (uint32_t i = 0; i < shape_.matrices.size(); ++i) {
      if (!is_looked_up(shape_.matrices[i]) || !is_streamed(i)) continue;
      ++row_reads;
      task.first_matrix = task.last_matrix = i;
      task.bytes += file_row_bytes(shape_.matrices[i]) * schedule_.work.tokens;
    }
    if (row_reads == 0) return;
    task.end_s = cost_.row_reads_s(schedule_.work.tokens, row_reads);
    host_.push_back(task);
  }

  // Windows in the order of the step: matrices side by side that share layer, window and use. Attention follows a layer's first.
  void add_products() {
    const std::vector<MatrixShape>& matrices = shape_.matrices;
    bool is_first_of_layer = true;
    for (uint32_t i = 0; i < matrices.size();) {
      uint32_t end = i + 1;
      const auto shares_window = [&](const MatrixShape& matrix) {
        return matrix.layer == matrices[i].layer && matrix.window == matrices[i].window && matrix.use == matrices[i].use;
      };
      while (end < matrices.size() && shares_window(matrices[end])) ++end;
      if (is_used(matrices[i])) {
        add_window(i, end);
        if (matrices[i].use == MatrixUse::kEveryToken && is_first_of_layer) add_attention(matrices[i].layer);
      }
      is_first_of_layer = end < matrices.size() && matrices[end].layer != matrices[i].layer;
      i = end;
    }
    if (attention_.empty()) add_attention(0);  // a model whose layers have no matrices still attends
    spread_overheads();
  }

  // One node for what is resident and the first unit; each further unit starts another, so that computing begins with the first.
  void add_window(uint32_t begin, uint32_t end) {
    Product product = new_product(begin);
    for (uint32_t i = begin; i < end; ++i) {
      const MatrixShape& matrix = shape_.matrices[i];
      product.task.last_matrix = i;
      if (!is_streamed(i)) {
        product.task.bytes += matrix.packed_bytes;
        product.weights += static_cast<double>(matrix.rows) * static_cast<double>(matrix.columns);
        continue;
      }
      uint64_t row = 0;
      for (const Piece& piece : pieces_[i]) {
        if (product.task.unit != kNoUnit && product.task.unit != piece.unit) {
          finish(product);
          product = new_product(i);
        }
        const uint64_t rows = std::min<uint64_t>(uint64_t{piece.blocks} * kRowsOfBlock, matrix.rows - row);
        row += rows;
        product.task.unit = piece.unit;
        product.task.slot = piece.unit % std::max(1u, schedule_.ring_slots);
        product.task.bytes += piece.blocks * matrix.row_block_bytes;
        product.weights += static_cast<double>(rows) * static_cast<double>(matrix.columns);
      }
    }
    finish(product);
  }

  Product new_product(uint32_t matrix) const {
    Product product;
    product.task.kind = shape_.matrices[matrix].use == MatrixUse::kLogits ? TaskKind::kHead : TaskKind::kProduct;
    product.task.layer = shape_.matrices[matrix].layer;
    product.task.first_matrix = product.task.last_matrix = matrix;
    return product;
  }

  void finish(Product& product) {
    const double tokens = product.task.kind == TaskKind::kHead ? schedule_.work.logit_rows : schedule_.work.tokens;
    product.task.end_s = cost_.product_s(static_cast<double>(product.task.bytes), product.weights, tokens);
    host_.push_back(product.task);
  }

  void add_attention(uint32_t layer) {
    ScheduledTask task;
    task.kind = TaskKind::kAttention;
    task.layer = layer;
    attention_.push_back(host_.size());
    host_.push_back(task);
  }

  // Until here end_s is a duration. A step's overhead and the reader's share of the cores are spread over the host's work.
  void spread_overheads() {
    for (const size_t i : attention_) host_[i].end_s = cost_.attention_s(schedule_.work) / static_cast<double>(attention_.size());
    double work_s = 0;
    uint64_t repacked = 0, tasks = 0;
    for (const ScheduledTask& task : host_) {
      if (task.kind == TaskKind::kRowReads) continue;
      work_s += task.end_s;
      ++tasks;
    }
    for (uint32_t unit = 0; unit < schedule_.units; ++unit) repacked += layout_.units[unit].packed_bytes;
    if (tasks == 0) return;
    const double slowed = work_s > 0 ? 1 + cost_.repack_share_s(repacked) / work_s : 1, overhead = cost_.step_overhead_s() / static_cast<double>(tasks);
    for (ScheduledTask& task : host_) {
      if (task.kind != TaskKind::kRowReads) task.end_s = task.end_s * slowed + overhead;
    }
  }

  void take_times() {
    const uint32_t units = schedule_.units, slots = schedule_.ring_slots;
    std::vector<size_t> last_use(units, 0);
    for (size_t i = 0; i < host_.size(); ++i) {
      if (host_[i].unit != kNoUnit) last_use[host_[i].unit] = i;
    }
    std::vector<double> arrived(units, 0);  // when the j-th fetch is done
    double host_free = 0, disk_free = 0;
    uint32_t fetches = 0;
    for (size_t i = 0; i < host_.size(); ++i) {
      ScheduledTask& task = host_[i];
      const double duration = task.end_s, ready = task.unit != kNoUnit && task.unit >= slots ? arrived[task.unit - slots] : 0;
      task.begin_s = std::max(host_free, ready);
      host_free = task.end_s = task.begin_s + duration;
      schedule_.busy_s[static_cast<size_t>(ScheduleLane::kHost)] += duration;
      if (task.unit == kNoUnit || last_use[task.unit] != i) continue;
      disk_free = arrived[fetches] = add_fetch((fetches + slots) % units, fetches % slots, std::max(disk_free, task.end_s));
      ++fetches;
    }
    schedule_.total_s = std::max(host_free, disk_free);
    schedule_.tasks.insert(schedule_.tasks.end(), host_.begin(), host_.end());
  }

  double add_fetch(uint32_t index, uint32_t slot, double begin_s) {
    const StreamUnit& unit = layout_.units[index];
    ScheduledTask task;
    task.lane = ScheduleLane::kDisk;
    task.kind = TaskKind::kFetch;
    task.begin_s = begin_s;
    task.end_s = begin_s + cost_.fetch_s(unit.file_bytes, unit.packed_bytes);
    task.bytes = unit.file_bytes;
    task.layer = shape_.matrices[unit.pieces.front().matrix].layer;
    task.first_matrix = unit.pieces.front().matrix;
    task.last_matrix = unit.pieces.back().matrix;
    task.unit = index;
    task.slot = slot;
    schedule_.busy_s[static_cast<size_t>(ScheduleLane::kDisk)] += task.end_s - task.begin_s;
    schedule_.tasks.push_back(task);
    return task.end_s;
  }

  // A slot is full from the beginning of a fetch to the last use of what it brought; the step begins with all of them full.
  void note_memory() {
    struct Change {
      double time_s;
      int slots, staging, rows;
    };
    std::vector<Change> changes;
    std::vector<double> used(schedule_.units, 0);
    for (const ScheduledTask& task : host_) {
      if (task.unit != kNoUnit) used[task.unit] = task.end_s;
      if (task.kind == TaskKind::kRowReads) changes.insert(changes.end(), {{task.begin_s, 0, 0, 1}, {task.end_s, 0, 0, -1}});
    }
    for (const double time_s : used) changes.push_back({time_s, -1, 0, 0});
    for (const ScheduledTask& task : schedule_.tasks) {
      if (task.kind == TaskKind::kFetch) changes.insert(changes.end(), {{task.begin_s, 1, 1, 0}, {task.end_s, 0, -1, 0}});
    }
    // What ends at a moment makes room for what begins then.
    std::sort(changes.begin(), changes.end(), [](const Change& a, const Change& b) {
      return std::pair(a.time_s, a.slots + a.staging + a.rows) < std::pair(b.time_s, b.slots + b.staging + b.rows);
    });
    int slots = static_cast<int>(schedule_.ring_slots), staging = 0, rows = 0;
    add_moment(0, slots, staging, rows);
    for (const Change& change : changes) add_moment(change.time_s, slots += change.slots, staging += change.staging, rows += change.rows);
  }

  void add_moment(double time_s, int slots, int staging, int rows) {
    if (!schedule_.memory.empty() && schedule_.memory.back().time_s == time_s) schedule_.memory.pop_back();
    MemoryMoment moment{time_s, static_cast<uint32_t>(slots), plan_.host.breakdown};
    moment.host.stream_slots = static_cast<uint64_t>(slots) * plan_.slot_bytes + static_cast<uint64_t>(staging) * plan_.staging_bytes +
                               static_cast<uint64_t>(rows) * whole_pages(plan_.row_buffer_bytes);
    schedule_.memory.push_back(moment);
  }

  const StepShape& shape_;
  const Plan& plan_;
  const CostModel cost_;
  const StreamLayout layout_;
  std::vector<std::vector<Piece>> pieces_;  // by matrix
  std::vector<ScheduledTask> host_;
  std::vector<size_t> attention_;           // their places in host_
  StepSchedule schedule_;
};

// "blk.3.attn_q.weight" -> {"blk.3", "attn_q"}
std::pair<std::string, std::string> name_parts(std::string name) {
  constexpr std::string_view kSuffix = ".weight";
  if (name.size() > kSuffix.size() && name.ends_with(kSuffix)) name.resize(name.size() - kSuffix.size());
  const size_t dot = name.rfind('.');
  return dot == std::string::npos ? std::pair(std::string(), name) : std::pair(name.substr(0, dot), name.substr(dot + 1));
}

std::string matrices_label(const StepShape& shape, uint32_t first, uint32_t last) {
  std::string label, prefix;
  for (uint32_t i = first; i <= last; ++i) {
    if (i != first && i != last && last - first > 3) {  // a unit of many small matrices: its ends say enough
      if (i == first + 1) label += ", ...";
      continue;
    }
    const auto [of, own] = name_parts(shape.matrices[i].name);
    if (i > first) label += ", ";
    if ((i == first || of != prefix) && !of.empty()) label += of + " ";
    label += own;
    prefix = of;
  }
  return label;
}

}  // namespace

const char* schedule_lane_name(ScheduleLane lane) { return lane == ScheduleLane::kDisk ? "disk" : "host"; }

ScheduleLane StepSchedule::binding_lane() const {
  return static_cast<ScheduleLane>(std::max_element(busy_s.rbegin(), busy_s.rend()).base() - busy_s.begin() - 1);
}

std::string task_label(const StepShape& shape, const ScheduledTask& task) {
  switch (task.kind) {
    case TaskKind::kAttention:
      return fmt::format("attention, layer {}", task.layer);
    case TaskKind::kRowReads:
      return "rows of " + matrices_label(shape, task.first_matrix, task.last_matrix);
    case TaskKind::kFetch:
      return fmt::format("fetch unit {}: {}", task.unit, matrices_label(shape, task.first_matrix, task.last_matrix));
    case TaskKind::kProduct:
    case TaskKind::kHead:
      break;
  }
  return matrices_label(shape, task.first_matrix, task.last_matrix);
}

Result<StepSchedule> schedule_step(const StepShape& shape, const Plan& plan, const MachineProfile& machine, const StepWork& work) {
  OTR_TRY(check_plan(plan, shape));
  OTR_TRY(check_profile(machine));
  uint64_t streamed_bytes = 0;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    if (plan.tensors[i].mode == Residence::kStreamed && is_multiplied(shape.matrices[i])) {
      streamed_bytes = add_bytes(streamed_bytes, shape.matrices[i].packed_bytes);
    }
  }
  if (plan.slot_bytes > 0 && streamed_bytes / plan.slot_bytes > kMostUnits) {
    return Status(StatusCode::kUnsupported, fmt::format("the plan streams {} bytes through slots of {}: more units than a schedule is made for",
                                                        streamed_bytes, plan.slot_bytes));
  }
  return Player(shape, plan, machine, work).play();
}

}  // namespace outrigger
