// Device cost: the same forms as the host's, with the device's rates, and the link.
#include "src/plan/device_cost.h"

#include <algorithm>
#include <cmath>

#include "src/plan/cost_model.h"

namespace outrigger {

CorrectedWindows& CorrectedWindows::operator+=(const CorrectedWindows& other) {
  there += other.there, here += other.here;
  count += other.count, residual_bytes += other.residual_bytes;
  input_bytes += other.input_bytes, result_bytes += other.result_bytes;
  return *this;
}

void CorrectedWindows::add(const MatrixShape& matrix) {
  const ProductWork work = product_work(matrix, matrix.rows, matrix.packed_bytes);
  if ((matrix.is_branch && matrix.used_share > 0) || matrix.residual_read_bytes > 0) count = 1;
  residual_bytes += static_cast<double>(matrix.residual_read_bytes);
  if (matrix.is_branch) {
    here += work;
    return;
  }
  there += DeviceWork(WorkSums{work, 0});
  input_bytes = static_cast<double>(matrix.columns) * sizeof(float);
  result_bytes += static_cast<double>(matrix.rows) * sizeof(float);
}

DeviceRates::DeviceRates(const StepShape& shape, const MachineProfile& machine, const Workload& workload)
    : stream_(machine.device_stream_bytes.per_s),
      int8_(machine.device_int8_ops.per_s),
      small_(machine.device_small_batch_ops.per_s),
      attention_(machine.device_attention_flops.per_s),
      h2d_(machine.h2d_bytes.per_s),
      d2h_(machine.d2h_bytes.per_s),
      latency_s_(machine.link_latency_us * 1e-6),
      handoff_s_(machine.handoff_us * 1e-6),
      overhead_s_(machine.device_step_overhead_us * 1e-6),
      residual_bytes_(static_cast<double>(shape.residual_row_bytes)),
      logits_bytes_(static_cast<double>(shape.logits_row_bytes)),
      layer_kv_bytes_per_position_(static_cast<double>(kv_bytes_per_token(shape, workload.kv_type)) / shape.kv_layers),
      layer_attention_flops_(shape.attention_flops_per_token_per_position / shape.kv_layers),
      layer_activation_flops_(shape.activation_flops_per_token / shape.kv_layers) {}

bool DeviceRates::are_known(const MachineProfile& machine) {
  for (const Rate* rate : {&machine.h2d_bytes, &machine.d2h_bytes, &machine.device_stream_bytes, &machine.device_int8_ops,
                           &machine.device_small_batch_ops, &machine.device_attention_flops}) {
    if (rate->per_s <= 0) return false;
  }
  return machine.device_memory_bytes > 0 && machine.device_threads > 0;
}

double DeviceRates::product_s(double bytes, double weights, double tokens) const {
  return std::max(bytes / stream_, 2 * weights * tokens / (tokens <= kSmallBatchTokens ? small_ : int8_));
}

double DeviceRates::attention_s(const StepWork& work) const {
  const double tokens = work.tokens;
  return std::max(layer_attention_flops_ * positions_seen(work) / attention_,
                  layer_kv_bytes_per_position_ * positions_read(work) / stream_) +
         tokens * layer_activation_flops_ / attention_;
}

double DeviceRates::work_s(const DeviceWork& work, double tokens, double attention_s) const {
  return product_s(work.bytes, work.weights, tokens) + work.attention_layers * attention_s;
}

DeviceTime DeviceRates::time(const DeviceLoad& load, const StepWork& work) const {
  const DeviceSums& sums = load.sums(work.tokens);
  DeviceTime time;
  if (!sums.is_used()) return time;
  const double tokens = work.tokens, rows = work.logit_rows, attention = attention_s(work);
  const bool with_head = rows > 0;
  const uint64_t bytes = sums.layer_upload_bytes + (with_head ? sums.head_upload_bytes : 0);
  const bool by_words = hands_words(tokens, bytes > 0);
  const double layers = work_s(DeviceWork(sums.layers), tokens, attention),
               heads = with_head ? product_s(sums.heads.products, rows) : 0;
  time.device_s = layers + heads + overhead_s_;
  time.up_s = (sums.uploads + (with_head ? sums.head_uploads : 0)) * up_s(tokens, by_words);
  time.down_s = (sums.downloads + (with_head ? sums.head_downloads : 0)) * down_s(tokens, by_words);
  if (with_head && sums.logits_download) time.down_s += logits_s(rows);
  time.disk_gap_s = work_s(sums.disk_gap, tokens, attention);

  if (bytes == 0) return time;
  const double slot = static_cast<double>(load.slot_bytes), units = std::ceil(static_cast<double>(bytes) / slot);
  time.upload_s = static_cast<double>(bytes) / h2d_ + units * upload_s(0);
  time.ring_s = load.slots * upload_s(load.slot_bytes);
  time.link_gap_s = work_s(sums.link_gap_device, tokens, attention);
  time.last_slot_s = (layers + heads) * std::min(1.0, slot / (sums.layers.products.bytes() + sums.heads.products.bytes()));
  return time;
}

}  // namespace outrigger
