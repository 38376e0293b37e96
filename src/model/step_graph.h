// The task graph of one step of a model: which nodes there are and what must happen before what.
#ifndef OUTRIGGER_SRC_MODEL_STEP_GRAPH_H_
#define OUTRIGGER_SRC_MODEL_STEP_GRAPH_H_

#include <outrigger/status.h>

#include <cstdint>

#include "src/graph/task_graph.h"
#include "src/memory/residency.h"
#include "src/model/layout.h"

namespace outrigger {

/// What a node does. TaskNode::argument is the layer, for kFetch the stream unit; the products' operands say which row blocks.
enum class StepOp : uint16_t {
  kEmbed,          ///< token ids -> residual; angles of the positions
  kAttentionNorm,  ///< residual -> normed, panel
  kQkv,            ///< panel -> qkv; this and the other products add their biases
  kRopeAppend,     ///< norms (where the model has them) and turns q and k, stores k and v
  kAttention,      ///< qkv, cache -> attention, panel
  kOutput,         ///< panel -> residual +=
  kFfnNorm,        ///< residual -> normed, panel
  kGateUp,         ///< panel -> gate, up
  kSiluMul,        ///< gate, up -> gate, panel
  kDown,           ///< panel -> residual +=
  kOutputNorm,     ///< residual of the tokens whose logits are wanted -> normed, panel
  kHead,           ///< panel -> logits
  kFetch,          ///< disk lane: reads a unit of streamed weights into the ring
};

/// Builds the step's graph. A product whose matrices stream is cut into one node per unit it needs, so that computing begins with
/// the first unit. A step of N units has N fetches: the j-th reads unit (j + ring slots) mod N into the slot of the j-th, once that was used
/// last; so a step ends with the ring as it found it, and the next one starts at once.
/// Errors: kInternal only.
Result<TaskGraph> build_step_graph(const ModelLayout& layout, const TensorResidency& residency, bool with_logits);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_STEP_GRAPH_H_
