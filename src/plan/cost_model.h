// Cost model: the predicted time of a step, from the machine's rates and what the step streams.
#ifndef OUTRIGGER_SRC_PLAN_COST_MODEL_H_
#define OUTRIGGER_SRC_PLAN_COST_MODEL_H_

#include <outrigger/machine_profile.h>
#include <outrigger/plan.h>
#include <outrigger/step_shape.h>

#include <cstdint>

#include "src/plan/device_cost.h"
#include "src/plan/host_rates.h"
#include "src/plan/kv_spill_model.h"
#include "src/plan/memory_model.h"

namespace outrigger {

/// Taken where the profile does not know the disk: what a SATA solid-state disk reads; slower ones are rare under a model.
inline constexpr double kUnknownDiskBytesPerS = 500e6;

/// Bytes that a step reads from disk, and the ring they pass through.
struct StreamLoad {
  uint64_t layer_file = 0, layer_packed = 0;  ///< read by every step
  uint64_t head_file = 0, head_packed = 0;    ///< read by steps that want logits
  uint64_t slot_bytes = 0;
  uint32_t slots = 0;
  uint32_t reads = kMostReads;  ///< in flight
  uint32_t row_reads = 0;  ///< matrices of which each token reads one row from the file
  uint64_t row_bytes = 0;  ///< of the file, what one token's rows take
  double absent_experts = 0;  ///< share of a mixture's experts that have no room in memory, 0 to 1
  uint32_t kv_spilled_layers = 0;
};

/// A step: how many tokens, of how many sessions, at which position each one's first, and of how many the logits are wanted.
struct StepWork {
  uint32_t tokens = 1;
  double position = 0;
  uint32_t logit_rows = 1;
  uint32_t sequences = 1;  ///< each has as many of the tokens

  uint32_t tokens_each() const { return tokens / sequences; }
};

/// How many each token sees, itself too, summed over the tokens.
inline double positions_seen(const StepWork& work) {
  const double tokens = work.tokens;
  return tokens * work.position + tokens * (work.tokens_each() + 1.0) / 2;
}
/// Of all sessions' keys and values, those that the step reads.
inline double positions_read(const StepWork& work) { return work.sequences * work.position + work.tokens; }

struct StepTime {
  double disk_s = 0, host_s = 0, total_s = 0;
  double h2d_s = 0, device_s = 0, d2h_s = 0;
  double expert_bytes = 0;  ///< of experts, from disk
};

/// What a mixture's experts add to a step, all layers.
struct ExpertTime {
  double host_s = 0, disk_s = 0, total_s = 0;
  double bytes = 0;  ///< from disk
};

/// What correcting on the host what a device multiplies with adds to a step.
struct CorrectionTime {
  double host_s = 0, input_s = 0, result_s = 0, add_s = 0;
  double waited_s = 0;  ///< what the device's products do not hide
};

struct WorkloadTime {
  double prefill_s = 0;  ///< the whole prompt
  double decode_s = 0;   ///< a step of decoding, at the middle of what is generated, over its tokens
  double total_s = 0;    ///< prompt and new tokens of one session
};

/// Every predicted time grows with each number of a StreamLoad's bytes, so that a plan which streams less is never predicted slower.
class CostModel {
 public:
  /// Precondition: the rates are finite and positive (disk: or zero), the profile has threads. Keeps no reference.
  CostModel(const StepShape& shape, const MachineProfile& machine, const Workload& workload);

  /// `device`: what is there, and not the host's; null for nothing.
  StepTime step(const StepWork& work, const StreamLoad& load, const DeviceLoad* device = nullptr) const;
  /// The parts of a step that the schedule plays one by one: products on the host,
  const HostRates& host() const { return host_; }
  /// all layers' attention, and the other work on activations that is as much for every layer (StepShape::activation_flops_per_token);
  double attention_s(const StepWork& work) const;
  /// rows of an embedding from the file, before anything else can start;
  double row_reads_s(uint32_t tokens, uint32_t row_reads) const;
  /// reading one unit of streamed weights while nobody computes,
  double fetch_s(uint64_t file_bytes, uint32_t reads) const;
  /// and how many times as long it takes in a step that reads so long and computes so long: the two share memory and processors;
  double disk_slowdown(double host_s, double disk_s) const;
  /// keys and values of a spilled layer: what the step needs of them, several reads in flight, and what it adds, one write after the other;
  double kv_fetch_s(const StepWork& work) const;
  double kv_store_s(const StepWork& work) const;
  /// a mixture's experts, of which the share `absent` has no room in memory.
  ExpertTime experts(const StepWork& work, double absent, uint32_t reads) const;
  /// one window's corrections on the host, and the same of all windows of a step;
  double correction_s(const CorrectedWindows& windows, double tokens, bool beside_link) const;
  CorrectionTime corrections(const DeviceSums& sums, double tokens, bool beside_link) const;
  const KvSpillShape& kv() const { return kv_; }
  double expert_layers() const { return expert_layers_; }
  double expert_repetition() const { return expert_repetition_; }
  /// What a step takes on the host beside products and attention: its overhead, and the tokens' sparse residuals.
  /// Without so many bytes a token of residuals, which correct what a device does.
  double step_overhead_s(uint32_t tokens, double corrected_bytes = 0) const;
  /// What the lanes that take a corrected window over from one another add to its correction.
  double handoff_s(bool by_words) const;
  /// What the device takes to add `bytes` of results, once they are there.
  double take_over_s(double bytes, bool by_words) const;

  /// The prompt in chunks of `step_tokens`, then the new tokens.
  WorkloadTime workload(uint32_t step_tokens, const StreamLoad& load, const DeviceLoad* device = nullptr) const;
  /// The steps that a plan reports: a decode step, and the prompt's last chunk if that is full, else one of the same size.
  StepWork decode_work(uint32_t step_tokens) const;
  StepWork prefill_work(uint32_t step_tokens) const;
  const DeviceRates& device() const { return device_; }
  /// No step that needs so many bytes from disk is shorter, and so many of them make up a workload.
  double least_read_s(double file_bytes) const { return file_bytes / disk_alone_; }
  double steps(uint32_t step_tokens) const;

 private:
  double read_s(double file_bytes, uint32_t reads) const;
  double missing_share(double needed, double absent_share) const;
  double disk_s(uint64_t file_bytes, uint64_t packed_bytes, const StreamLoad& load) const;
  double overlapped_s(double host, double elsewhere, double weights, double kv, const StreamLoad& load) const;

  ProductWork layers_, heads_;
  ProductWork expert_;                    ///< one of each layer's, all layers
  double expert_file_bytes_ = 0;   ///< the same
  double experts_ = 0, used_experts_ = 0, expert_layers_ = 0;
  double kv_bytes_per_position_, attention_flops_, activation_flops_, kv_layers_;
  KvSpillShape kv_;
  HostRates host_;
  double attention_, disk_, disk_alone_, overhead_s_, residual_bytes_, expert_repetition_;
  Workload workload_;
  DeviceRates device_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_COST_MODEL_H_
