// On a device: which parts of a model the steps of a plan compute there.
#ifndef OUTRIGGER_SRC_MODEL_ON_DEVICE_H_
#define OUTRIGGER_SRC_MODEL_ON_DEVICE_H_

#include <outrigger/plan.h>

#include <vector>

#include "src/model/layout.h"

namespace outrigger {

/// Per layer: keys and values are there too. Precondition: check_plan(plan, layout.shape) is ok.
inline std::vector<bool> attention_on_device(const ModelLayout& layout, const Plan& plan) {
  std::vector<bool> there;
  for (const LayerLayout& layer : layout.layers) there.push_back(plan.tensors[layer.q].tier == Tier::kDevice);
  return there;
}

/// Whether a step computes with the matrix on the device: what streams there, only if the step is large enough.
inline bool is_computed_on_device(const Plan& plan, uint32_t matrix, bool streams_to_device) {
  const TensorPlacement& tensor = plan.tensors[matrix];
  return tensor.tier == Tier::kDevice && (tensor.mode == Residence::kResident || streams_to_device);
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_ON_DEVICE_H_
