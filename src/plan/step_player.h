// StepPlayer: takes the tasks of a step and plays them on the lanes.
#ifndef OUTRIGGER_SRC_PLAN_STEP_PLAYER_H_
#define OUTRIGGER_SRC_PLAN_STEP_PLAYER_H_

#include <outrigger/step_shape.h>

#include <array>
#include <cstdint>
#include <vector>

#include "src/plan/cost_model.h"
#include "src/tensor/stream_layout.h"

namespace outrigger {

/// In the order in which they are drawn, from the source of bytes to what computes with them.
enum class ScheduleLane : uint8_t { kDisk = 0, kHost = 1, kToDevice = 2, kDevice = 3, kToHost = 4 };
inline constexpr size_t kScheduleLanes = 5;

enum class TaskKind : uint8_t {
  kRowReads,      ///< host: rows of an embedding that is not resident
  kProduct,       ///< host or device: what is in memory of one window's matrices
  kAttention,     ///< host or device
  kHead,          ///< host or device: a product of the output head
  kExperts,       ///< host: the experts that a layer's tokens are expected to take, and waiting for those that are read
  kFetch,         ///< disk: reads one unit
  kFetchKv,       ///< disk: a spilled layer's keys and values, into its slot
  kStoreKv,       ///< disk: what a step added to them
  kFetchExperts,  ///< disk: those of a layer's experts that are expected not to be in memory
  kSubmit,        ///< host: all that it does in a step that is the device's alone
  kUpload,        ///< to the device: the residual
  kDownload,      ///< to the host: the residual
  kLogits,        ///< to the host
  kBring,         ///< to the device: one unit of the device's ring
  kInput,         ///< to the host: what a window that it corrects is given
  kCorrect,       ///< host: its branches and residuals
  kResult,        ///< to the device: what they make
  kAdd,           ///< device: that to what it made itself
};

inline constexpr uint32_t kNoUnit = UINT32_MAX;

struct ScheduledTask {
  ScheduleLane lane = ScheduleLane::kHost;
  TaskKind kind = TaskKind::kProduct;
  double begin_s = 0, end_s = 0;
  uint64_t bytes = 0;                           ///< a product's packed weights; a fetch's, of the file; of keys and values, moved
  uint32_t layer = 0;
  uint32_t first_matrix = 0, last_matrix = 0;   ///< of products and fetches
  uint32_t unit = kNoUnit;  ///< the one that a product needs or a fetch brings: of the device's ring, if it is computed there
  uint32_t slot = 0;                            ///< where that unit is, if there is one
};

/// How many pieces of units `resident` leaves to be streamed, about: known without making them.
uint64_t least_units(const StepShape& shape, const std::vector<bool>& resident, uint64_t slot_bytes);
/// The same of what streams to a device.
uint64_t least_device_units(const StepShape& shape, const DeviceUse& device);

/// The steps of one placement, as the engine runs them (src/model/step_graph.h): the host's products in order, each window cut where a new
/// unit begins; the first ring_slots units are there when a step begins, and the j-th fetch brings unit (j + ring_slots) mod units into the
/// slot of unit j once that was used. The device's ring goes by the same rules, in steps that use it. Each lane does one thing at a time,
/// as soon as it can; host and device compute at once only where the host corrects what the device multiplies with, since every product
/// needs the one before. Durations are the cost model's. Keeps references to all but the residence. Reusable: a second step of the same
/// kind allocates little.
class StepPlayer {
 public:
  /// `absent_experts`: the share of a mixture's experts that is not in memory; `reads`: in flight; `from_tokens`: Plan::device_from_tokens.
  StepPlayer(const StepShape& shape, const CostModel& cost, const std::vector<bool>& resident, uint64_t slot_bytes, uint32_t slots,
             double absent_experts, uint32_t reads, uint32_t kv_spilled_layers = 0, const DeviceUse& device = {}, uint32_t from_tokens = 0);

  const StreamLayout& layout() const { return disk_ring_.layout; }
  const StreamLayout& device_layout() const { return device_ring_.layout; }
  /// Whether the step that was played last streams to the device.
  bool streams_to_device() const { return streams_; }
  /// When everything is done, and how long each lane was busy. Cost: linear in units and matrices: 5 us for 211 matrices and 47 units, 0.1
  /// ms for 13,200 and 1051.
  StepTime play(const StepWork& work);
  /// Of the step that was played last: each lane's in order of time. The host's, and where there is a device, what it computes and the
  /// residual's ways between the two: one after the other.
  const std::vector<ScheduledTask>& host_tasks() const { return host_; }
  /// Units brought to the device.
  const std::vector<ScheduledTask>& brought() const { return brought_; }
  const std::vector<ScheduledTask>& fetches() const { return fetches_; }
  const std::vector<ScheduledTask>& expert_fetches() const { return expert_fetches_; }
  const std::vector<ScheduledTask>& kv_tasks() const { return kv_tasks_; }

 private:
  struct Product;
  /// Row blocks of a matrix that lie in one unit.
  struct Piece {
    uint32_t unit = 0, blocks = 0;
  };

  /// What streams through one ring.
  struct Ring {
    StreamLayout layout;
    std::vector<Piece> pieces;           // grouped by matrix, in order
    std::vector<uint32_t> pieces_begin;  // per matrix, and the end

    Ring(const StepShape& shape, const std::vector<bool>& stays, uint64_t slot_bytes, uint32_t slots, SlotsHold hold);
  };
  // When each lane is free again, and the chain.
  struct Clock {
    double chain = 0, disk = 0, link = 0;
    double correction = 0;  // of the window that the chain is at
  };

  bool is_used(const MatrixShape& matrix) const;
  bool is_there(uint32_t matrix) const { return device_.is_resident(matrix) || is_brought(matrix); }
  bool is_brought(uint32_t matrix) const { return streams_ && device_.is_streamed(matrix); }
  bool hands_words() const { return cost_.device().hands_words(work_.tokens, is_link_busy_); }
  void cross(bool to_device, uint32_t layer);
  void add_logits_download();
  void take_time(ScheduledTask& task, bool is_last_use, Clock* clock, StepTime* time);
  double begin_s(const ScheduledTask& task, const Clock& clock) const;
  ScheduledTask unit_task(const Ring& ring, uint32_t index, uint32_t slot) const;
  void add_row_reads();
  void add_products();
  void add_window(uint32_t begin, uint32_t end);
  double residual_bytes_of(const ScheduledTask& task) const;
  bool is_corrected(uint32_t begin, uint32_t end) const;
  void add_corrected_window(uint32_t begin, uint32_t end, uint32_t factors_end);
  void add_experts(uint32_t begin, uint32_t end);
  void take_experts_time(ScheduledTask& task, double* host_free, double* disk_free, StepTime* time);
  Product new_product(uint32_t matrix) const;
  void finish(Product& product);
  void add_attention(uint32_t layer);
  void spread_overheads();
  StepTime take_times();
  bool is_spilled(const ScheduledTask& task) const;
  void add_kv_task(TaskKind kind, uint32_t number, double begin_s, double* disk_free, StepTime* time);
  void begin_kv(double* disk_free, StepTime* time);
  void end_attention(const ScheduledTask& task, double* disk_free, StepTime* time);

  const StepShape& shape_;
  const CostModel& cost_;
  const std::vector<bool> resident_;
  const double absent_experts_;
  const uint32_t reads_, kv_spilled_layers_;
  const DeviceUse device_;
  const uint32_t from_tokens_;
  const Ring disk_ring_, device_ring_;
  bool streams_ = false;       // this step does, to the device
  double disk_slowdown_ = 1;   // of this step's reads
  bool is_link_busy_ = false;  // and has something to bring
  bool was_there_ = false;     // what was added last to the chain
  StepWork work_;
  std::vector<ScheduledTask> host_, fetches_, expert_fetches_, brought_, kv_tasks_;
  std::vector<double> kv_ready_;            // by number of the spilled layer: when it is in its slot
  std::vector<uint32_t> attention_;         // places in host_
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_STEP_PLAYER_H_
