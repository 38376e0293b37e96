// The task graph of one step of a model: which nodes there are and what must happen before what.
#ifndef OUTRIGGER_SRC_MODEL_STEP_GRAPH_H_
#define OUTRIGGER_SRC_MODEL_STEP_GRAPH_H_

#include <outrigger/plan.h>
#include <outrigger/status.h>

#include <cstdint>

#include "src/graph/task_graph.h"
#include "src/memory/residency.h"
#include "src/model/layout.h"

namespace outrigger {

/// What a node does. TaskNode::argument is the layer, for units of the ring the unit, for waves of experts both (ExpertWave); the products'
/// operands say which row blocks.
enum class StepOp : uint16_t {
  kEmbed,          ///< token ids -> residual; angles of the positions
  kAttentionNorm,  ///< residual -> normed, panel
  kQkv,            ///< panel -> qkv; this and the other products add their biases, and compute their branches' components
  kRopeAppend,     ///< norms (where the model has them) and turns q and k, stores k and v
  kAttention,      ///< qkv, cache -> attention, panel
  kOutput,         ///< panel -> residual +=
  kFfnNorm,        ///< residual -> normed, panel
  kGateUp,         ///< panel -> gate, up
  kSiluMul,        ///< gate, up -> gate, panel
  kDown,           ///< panel -> residual +=
  kBranchPanel,    ///< a window's components -> their panels; the argument is a BranchWindow's
  kBranchOut,      ///< their panels -> where the window's results went +=
  kResidual,       ///< the window's input -> where its results went +=, by the columns each token reads; the argument is a BranchWindow's
  kOutputNorm,     ///< residual of the tokens whose logits are wanted -> normed, panel
  kHead,           ///< panel -> logits
  // A mixture's, instead of kGateUp to kDown:
  kRouter,         ///< normed -> router logits
  kRoute,          ///< router logits -> which experts, their rows and panels
  kGuess,          ///< residual -> which experts the next layer will probably use
  kSharedGateUp,   ///< the expert of every token: panel -> gate, up
  kSharedSiluMul,  ///< gate, up -> gate, panel
  kSharedDown,     ///< panel -> attention, which is free by then
  kExperts,        ///< a wave of experts: their panels -> their rows
  kCombine,        ///< experts' rows -> residual +=
  // Between what is computed:
  kArrive,          ///< waits until a unit of streamed weights is in the ring
  kRequest,         ///< begins to read a unit into the ring
  kArriveExperts,   ///< waits until a wave of experts has arrived
  kRequestExperts,  ///< begins to read those that were routed to, and after them those that kGuess said
  // Disk lane:
  kFetchKv,  ///< brings the keys and values of a spilled layer before the step's tokens into its slot
  kStoreKv,  ///< writes those of the step's tokens back
  // The link's lanes:
  kArriveOnDevice,   ///< waits until a unit of streamed weights is in the device's ring
  kRequestToDevice,  ///< begins to copy a unit into it
  kUploadAngles,     ///< the positions' angles -> the device's
  kUpload,           ///< residual -> the device's, where the next part is computed there; the argument is the layer
  kDownload,         ///< and back
  kDownloadLogits,   ///< the device's logits -> the host's
  // Of a window on the device that the host corrects; the argument is a BranchWindow's. Between the second and the third the host computes
  // the branches as its own. The copies are the device lane's: they are put in the order of its work, and the host waits for no more than
  // the first.
  kDownloadInput,     ///< the window's input -> the host's; the segment is complete when that is there, whatever follows it in the segment
  kBeginCorrection,   ///< host: that -> panel; 0 -> the window's results
  kUploadCorrection,  ///< the host's results -> the device's buffer of corrections
  kAddCorrection,     ///< device: that -> where the window's results went +=
  // The same where words hand over in turn (Handoff), on the lane of whoever does it: a residual's argument is the layer.
  kSendResidual,
  kReceiveResidual,
  kSendInput,          ///< device
  kReceiveInput,       ///< host: before kBeginCorrection
  kSendCorrection,     ///< host
  kReceiveCorrection,  ///< device: -> where the window's results went +=
  kSubmit,             ///< device: what was submitted so far begins; the segment is complete then, and the host may wait for words of it
  kFinish,             ///< device: all that was submitted is done
};

/// A wave of a layer's experts, as TaskNode::argument.
struct ExpertWave {
  uint32_t layer = 0, wave = 0;

  uint32_t argument() const { return wave << 16 | layer; }
  static ExpertWave of(uint32_t argument) { return {argument & 0xffff, argument >> 16}; }
};

/// The window that branches belong to, by the op of its product, as TaskNode::argument.
struct BranchWindow {
  StepOp op = StepOp::kQkv;
  uint32_t layer = 0;

  uint32_t argument() const { return static_cast<uint32_t>(op) << 16 | layer; }
  static BranchWindow of(uint32_t argument) { return {static_cast<StepOp>(argument >> 16), argument & 0xffff}; }
};

struct StepGraphOptions {
  bool with_logits = true;
  uint32_t expert_waves = 1;  ///< of each layer with experts; ExpertPool::waves()
  bool streams_to_device = false;  ///< a step of at least Plan::device_from_tokens
  bool corrects_in_turn = false;   ///< the device waits for the host's correction of a window before it multiplies; for comparison
  bool is_corrected = true;        ///< false leaves out what Plan::corrections_beside asks for: a step whose branch_share is 0
  /// Host and device hand over to each other by words: the device's work is submitted ahead. Not with streams_to_device or
  /// corrects_in_turn.
  bool by_words = false;
  bool by_stand_ins = false;       ///< a draft's: copies in memory are multiplied with instead of what streams from disk
};

/// Builds the step's graph. A product whose matrices stream is cut into one node per unit it needs, so that computing begins with
/// the first unit. A step of N units has N arrivals and N requests: once unit j was used last, unit (j + ring slots) mod N is requested
/// into its slot; so a step ends with the ring as it found it, and the next one starts at once. Both are the host lane's: neither takes
/// long but for waiting. Experts that are not all resident are computed in waves: those in memory at once, the others as they come. What
/// the plan computes on a device is nodes of the device's lane, with the same ops; the residual moves where the next part is elsewhere. A
/// ring of the device's is served by the link's lane. A layer whose keys and values are spilled is fetched into a slot before its rows are
/// appended and stored after it has attended; the next but one's fetch follows, as the slot is free then. Both slots' first layers are
/// fetched as the step begins. By words nodes of the device are submitted in batches, which only the host's nodes of the same batch come
/// after: see kBatchNodes in step_graph.cc.
/// Errors: kInternal only.
Result<TaskGraph> build_step_graph(const ModelLayout& layout, const Plan& plan, const TensorResidency& residency,
                                   const StepGraphOptions& options);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_STEP_GRAPH_H_
