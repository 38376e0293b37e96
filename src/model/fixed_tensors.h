// The small tensors of a model that are always in memory: norms, biases, factors of frequencies.
#ifndef OUTRIGGER_SRC_MODEL_FIXED_TENSORS_H_
#define OUTRIGGER_SRC_MODEL_FIXED_TENSORS_H_

#include <outrigger/status.h>

#include "src/io/gguf.h"
#include "src/model/layout.h"

namespace outrigger {

/// Reads them as float32 to `fixed`, which has room for the layout's StepShape::fixed_bytes.
/// Errors: kIo; kCorruptFile for factors of RoPE's frequencies that are no positive numbers.
Status load_fixed_tensors(const GgufFile& file, const ModelLayout& layout, float* fixed);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_FIXED_TENSORS_H_
