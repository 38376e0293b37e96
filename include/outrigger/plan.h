// Plan: where every tensor lives, what streams, what it will cost. Plain data: printable, comparable, replayable.
#ifndef OUTRIGGER_PLAN_H_
#define OUTRIGGER_PLAN_H_

#include <outrigger/export.h>
#include <outrigger/machine_profile.h>
#include <outrigger/status.h>
#include <outrigger/step_shape.h>

#include <cstdint>
#include <string>
#include <vector>

namespace outrigger {

/// Bytes a tier may use, everything counted: weights, KV cache, activations, scratch.
struct Budgets {
  static constexpr uint64_t kDefault = UINT64_MAX;  ///< 90 % of the smaller of available memory and the cgroup's limit
  static constexpr uint64_t kUnlimited = 0;
  uint64_t host_bytes = kDefault;
  uint64_t device_bytes = kDefault;                 ///< the same of the device's memory, never more than it has; ignored without a device
};

/// Where branches are computed whose matrices a device computes with.
enum class CorrectionPlace : int32_t {
  kAsItPays = 0,
  kOnDevice = 1,  ///< there too: their factors need its memory. Sparse residuals are never there
  kOnHost = 2,    ///< on the host, while the device multiplies with the matrix: input and results cross the link
};

/// Whether a plan keeps low-bit copies of the weights that it streams from disk, with which the model drafts for itself (DraftKind::kSelf).
enum class StandIns : int32_t {
  kNone = 0,
  kAsItPays = 1,   ///< where tokens are predicted to come faster with them, as kAsFit
  kTwoBits = 2,
  kThreeBits = 3,
  kFourBits = 4,
  kAsFit = 5,      ///< of as many bits as fit
};

/// Of a draft that is a chain, and the depth of a tree: beyond it hardly any is accepted, and each takes a row of logits
inline constexpr uint32_t kMostDraftTokens = 16;
/// Of a draft that is a tree: with the token before it a step of 32, the most that takes the way of small ones
inline constexpr uint32_t kMostTreeDraftTokens = 31;
/// Of Workload::expert_repetition: where a tenth of a mixture has room, a token then finds 97 % of its experts there.
inline constexpr double kMostExpertRepetition = 32;

/// What the plan is made for.
struct Workload {
  uint32_t prompt_tokens = 512;
  uint32_t new_tokens = 128;
  /// Sessions that exist at once, each with its own KV cache, and that a step of decoding computes a token of (generate_batch()): it has
  /// rows of logits for all of them, as far as it has tokens.
  uint32_t batch = 1;
  uint32_t context_tokens = 0;   ///< of each session; 0: prompt_tokens + new_tokens
  KvType kv_type = KvType::kF16;
  uint32_t logit_rows = 1;       ///< most tokens of one step whose logits are wanted (evaluation and verification want many)
  static constexpr uint32_t kAsItPays = UINT32_MAX;
  /// Layers whose keys and values are on disk, evenly spread; kAsItPays: as many as the budget asks for, or as the prediction is best with.
  uint32_t kv_spilled_layers = kAsItPays;
  CorrectionPlace corrections = CorrectionPlace::kAsItPays;
  static constexpr double kAnySlowdown = -1;
  /// How much longer a step of decoding may take for branches and residuals: 0.05 for a twentieth. The plan then has most of them with
  /// which it is predicted to take no longer: a share of all, or with a device all of some windows and of others none. kAnySlowdown: all of
  /// them, whatever they take.
  double max_slowdown = kAnySlowdown;
  /// Room for drafts of so many tokens: the logits of a step that verifies one for each session of the batch, for as many rows as a step
  /// has. Predictions are of steps without a draft.
  uint32_t draft_tokens = 0;
  uint64_t draft_bytes = 0;      ///< of host memory, kept for a draft model: draft_model_bytes() of it
  /// Of the device's, for one that computes there: draft_model_device_bytes(), which says draft_bytes too. 0: it computes on the host
  uint64_t draft_device_bytes = 0;
  /// Of what streams from disk, resident, for the model to draft with; beside them fewer weights are resident. Other than kNone needs
  /// draft_tokens, and goes without draft_bytes. kAsItPays and kAsFit have none where nothing streams, or where branches are what a draft
  /// leaves out. Where kAsItPays takes copies, there is room for drafts of kMostDraftTokens at least.
  StandIns stand_ins = StandIns::kNone;
  /// How texts come back to a mixture's experts: where a share s of all experts has room in memory, a token is expected to find all but
  /// (1 - s)^expert_repetition of its experts there. 1, the least: as if each were as likely as any. What a run measured is
  /// ExpertReport::repetition. At most kMostExpertRepetition. Predictions depend on it, and what is decided by them.
  double expert_repetition = 1;
};

enum class Tier : int32_t { kDisk = 0, kHost = 1, kDevice = 2 };
enum class Residence : int32_t { kResident = 0, kStreamed = 1 };
OTR_API const char* tier_name(Tier tier) noexcept;            ///< "disk", "host", "device"
OTR_API const char* residence_name(Residence mode) noexcept;  ///< "resident", "streamed"

struct TensorPlacement {
  std::string name;
  uint64_t bytes = 0;              ///< packed
  uint64_t file_bytes = 0;
  /// host, resident: in host memory. host, streamed: on disk, and through the ring of slots in host memory. device, resident: in the
  /// device's memory. device, streamed: in host memory, and for steps of at least Plan::device_from_tokens through the ring of slots in the
  /// device's.
  Tier tier = Tier::kHost;
  Residence mode = Residence::kResident;
  Tier compute = Tier::kHost;      ///< the same as tier; what streams to a device is computed on the host by smaller steps
  /// false: of a window whose branches and residuals steps leave out, whatever Plan::branch_share says. The same for all matrices of the
  /// window, factors too.
  bool is_corrected = true;
};

/// Bytes of one tier by purpose, as they are reserved: every allocation is rounded up to whole pages of 4096 bytes, so that what is
/// planned is what is taken. The allocations are:
///   weights_resident  one arena: the fixed bytes, then each resident matrix, every one starting at a multiple of 64
///   stream_slots      the ring (slots * slot_bytes), the staging memory, and the row buffer, each of its own
///   experts           one: expert_slots * expert_slot_bytes
///   kv_cache          one for each session of the batch, for its context rounded up to StepShape::kv_granule_tokens: the layers that are
///                     not spilled; and one for the slots that the others pass through, kv_slots * kv_slot_bytes
///   activations       one: those of the step size, scratch of each thread, logits
///   draft             one, kept for a draft model; or with self_draft_bits two: a copy of each matrix that streams from disk, every one
///                     starting at a multiple of 64, and StepShape::draft_step_bytes with scratch of each thread and logits of the step's
///                     tokens
/// Of a device:
///   weights_resident  one arena: the fixed bytes, then each matrix that is resident there, every one starting at a multiple of 64
///   stream_slots      its ring (device_slots * device_slot_bytes)
///   kv_cache          one for each session, for the layers whose attention it computes; the host's is for the others
///   activations       one, as the host's, with scratch of device_threads; with corrections_beside StepShape::correction_row_bytes a token
///   draft             kept for a draft model that computes there
///   other             what the device takes by being used, MachineProfile::device_taken_bytes; of nobody's allocations
/// All but the last two are 0 when nothing of the model is computed there; otherwise the host's `other` is what is uploaded through while
/// loading, one of transfer_bytes, and what both sides look at in a step, one of handoff_bytes.
struct TierBreakdown {
  uint64_t weights_resident = 0;
  uint64_t stream_slots = 0;       ///< the ring, the staging memory, the row buffer
  uint64_t kv_cache = 0;
  uint64_t activations = 0;        ///< with scratch and logits
  /// Kept for a draft model, which takes it when it is first used: its weights, cache, activations. Or what the model drafts for itself
  /// with.
  uint64_t draft = 0;
  uint64_t branches = 0;
  uint64_t experts = 0;            ///< slots for the experts of a mixture that are not all resident
  uint64_t other = 0;
  uint64_t total() const { return weights_resident + stream_slots + kv_cache + activations + draft + branches + experts + other; }
};

struct TierPlan {
  uint64_t budget_bytes = 0;       ///< 0: no limit
  uint64_t planned_bytes = 0;      ///< = breakdown.total(); never above the budget
  TierBreakdown breakdown;
  /// Of a device, the model's: without what a draft has and the device itself takes. 0 where nothing of the model is computed there.
  uint64_t own_bytes() const { return breakdown.total() - breakdown.draft - breakdown.other; }
};

/// Predicted busy time of each lane in one step.
struct LaneTimes {
  double disk_ms = 0, h2d_ms = 0, host_ms = 0, device_ms = 0;
};

struct StepPrediction {
  uint32_t tokens = 0;
  LaneTimes lanes;
  double predicted_ms = 0;
  uint64_t streamed_bytes = 0;     ///< of the file, needed from disk by one such step, logits wanted; without experts
  uint64_t expert_bytes = 0;       ///< of experts, expected (Workload::expert_repetition); what a text really needs depends on the text
  uint64_t h2d_bytes = 0;          ///< of weights, copied to the device by one such step
  uint64_t kv_disk_bytes = 0;      ///< of keys and values, read from disk and written there by one such step
  double position = 0;             ///< of its first token, as planned for
  uint32_t logit_rows = 1;         ///< tokens whose logits it wants
  uint32_t sequences = 1;          ///< sessions that its tokens belong to, as many to each
};

struct PlanAlternative {
  std::string what;                ///< "8 MiB more host memory", "everything resident"
  uint64_t host_bytes = 0;
  double predicted_decode_tokens_per_s = 0;
  uint64_t device_bytes = 0;       ///< 0: without a device
};

struct Plan {
  TierPlan host, device;
  uint64_t minimum_host_bytes = 0, minimum_device_bytes = 0;  ///< smallest feasible budgets for this workload
  uint32_t threads = 0;
  uint32_t batch = 1, context_tokens = 0;
  KvType kv_type = KvType::kF16;
  uint32_t kv_layers = 0;          ///< layers that have keys and values
  uint32_t kv_spilled_layers = 0;  ///< of these, evenly spread, those that keep them on disk
  uint32_t kv_slots = 0;           ///< that these pass through; 0 when none is spilled
  uint64_t kv_slot_bytes = 0;      ///< of each: a layer's keys and values of every session of the batch, each session's in whole pages
  uint64_t kv_spill_bytes = 0;     ///< taken on disk when the engine is opened: kv_spilled_layers * kv_slot_bytes
  uint32_t logit_rows = 1;         ///< never more than step_tokens
  uint32_t draft_tokens = 0;       ///< of a draft, as planned for: at most logit_rows - 1
  /// Of the resident copies of what streams from disk, with which the model drafts for itself; 0: there are none
  uint32_t self_draft_bits = 0;
  /// Tokens of a step that verifies such a draft, and tokens a second then, as expected of the copies' bits before anything was drafted;
  /// else 0.
  double draft_tokens_per_pass = 0, predicted_draft_tokens_per_s = 0;
  uint32_t step_tokens = 0;        ///< most tokens in one step: the prefill chunk
  uint32_t stream_slots = 0;       ///< slots of the ring; 0 when nothing streams
  uint64_t slot_bytes = 0;         ///< of each, rows as in the file: whole pages, room for a read of the largest row block that streams
  uint32_t reads = 0;              ///< in flight at once, as far as the disk gains from more: what predictions count on
  /// Between file and kernels: a buffer of each thread to pack streamed rows in, places in which experts arrive
  uint64_t staging_bytes = 0;
  uint64_t row_buffer_bytes = 0;   ///< for single rows of an embedding that is not resident; else 0
  uint32_t expert_slots = 0;       ///< experts of all layers that are in memory at once; 0 when they are all resident or there are none
  uint64_t expert_slot_bytes = 0;  ///< of each, packed: whole pages, room for the largest expert of any layer
  double expert_repetition = 1;    ///< Workload::expert_repetition
  uint32_t device_slots = 0;       ///< slots of the device's ring; 0 when nothing streams to it
  uint64_t device_slot_bytes = 0;  ///< of each, packed: whole pages, at least the largest row block that streams to it
  /// Tokens of the smallest step that streams weights to the device; smaller ones compute with them where they lie. 0: none does. 1 if keys
  /// and values are on the device of a layer whose attention's weights are not, since attention is computed where these are.
  uint32_t device_from_tokens = 0;
  /// Branches and residuals of matrices that a device computes with are the host's: in its memory, and computed there from the window's
  /// input while the device multiplies with the matrix.
  bool corrections_beside = false;
  /// Of branches and residuals what sessions use, unless they are told otherwise: Session::set_branch_share()
  float branch_share = 1;
  /// As many scratch buffers as StepShape::activation_bytes_per_thread says has the device; 0 when it does nothing, nor has a draft
  uint32_t device_threads = 0;
  uint64_t transfer_bytes = 0;     ///< of host memory, for what the device loads; 0 when it does nothing
  /// Of host memory that the device looks at as well, through which the two hand over to each other in the middle of a step of few tokens;
  /// 0 when they do so by copies, and where everything is on the device
  uint64_t handoff_bytes = 0;
  std::vector<TensorPlacement> tensors;  ///< in the order of StepShape::matrices
  StepPrediction decode;           ///< a token of each session, or of as many as a step has tokens, at the middle of what is generated
  StepPrediction prefill;          ///< the prompt's last chunk, were it full: step_tokens, or all of a shorter prompt
  double predicted_prefill_ms = 0; ///< of the workload's whole prompt
  double predicted_decode_tokens_per_s = 0;  ///< of all sessions together
  std::string binding_lane;        ///< of a decode step: "disk", "host", "h2d" or "device"
  std::vector<PlanAlternative> alternatives;
};

/// Decides where every tensor lives. Pure: touches no memory, disk or device, allocates only the result.
class OTR_API PlacementPlanner {
 public:
  /// Keeps resident what saves most time per byte and streams the rest from disk through a ring of slots with read-ahead. Where it is
  /// predicted to be faster, or nothing else fits, the keys and values of some layers go to disk, too. With a device (its memory, all its
  /// rates and device_threads are in the profile) parts are placed and computed there as far as that is predicted to be faster. The plan is
  /// for the profile's threads. Budgets::kDefault must have been resolved by the caller (see default_host_budget()). More memory of either
  /// tier never predicts a slower workload, and the smallest feasible budget does not depend on the machine's rates. The smallest feasible
  /// budget is that of host memory, given the device's; a device needs none. With Workload::stand_ins no more than that is promised of the
  /// whole: the rest is planned so in what memory they leave. Where kAsItPays declines them, what they would take and give is among the
  /// alternatives; where there are some, what the plan would be without. A disk of unknown rate (0) is taken for one of 500 MB/s.
  /// Cost: about 20 ms for 13,000 matrices; with a device about 20 ms for 700, twice that where branches have a choice of place, and up to
  /// forty times either with max_slowdown, and some twenty times that without a device with stand_ins. Any thread.
  /// Errors: kBudget with the smallest feasible budget (Status::needed_bytes) when the budget is below it, stand_ins that are asked for
  /// included; kUnsupported for these of a mixture of experts, of rows that are not whole blocks of 64, of matrices that have branches, or
  /// where the plan uses a device; kInvalidArgument for a workload of zero tokens or one that its context or the model's does not hold, a
  /// rate that is not a positive number, an unresolved budget, and sizes that contradict each other or add up to 2^64 bytes.
  static Result<Plan> plan(const StepShape& shape, const MachineProfile& machine, const Budgets& budgets, const Workload& workload);
};

/// What one step of a plan takes at the rates of `machine`: those it was made for, measured again, or another's.
/// The step: how many tokens, how many are in the context before them, of how many the logits are wanted, and to how many sessions they
/// belong, as many to each. Pure. Cost: some 20 us for 200 matrices. Any thread.
/// Errors: kInvalidArgument when the plan is not one for `shape` (check_plan), has no such step, or when a rate that it takes is not known.
OTR_API Result<StepPrediction> predict_step(const Plan& plan, const StepShape& shape, const MachineProfile& machine, uint32_t tokens,
                                            uint32_t position, uint32_t logit_rows, uint32_t sequences = 1);

/// 90 % of the smaller of the memory now available and what the cgroup still allows.
OTR_API uint64_t default_host_budget();

/// Whether `plan` is one for `shape` at all and adds up: names and sizes agree, sums are exact, nothing above a budget.
/// Errors: kInvalidArgument naming the first thing that does not hold.
OTR_API Status check_plan(const Plan& plan, const StepShape& shape);

/// A table that a person reads in ten seconds: what is where, what binds, what more memory would buy.
OTR_API std::string plan_to_text(const Plan& plan);
/// The tool's JSON document with everything needed to replay it.
OTR_API std::string plan_to_json(const Plan& plan);
/// A picture of the plan as one SVG file: what each lane does when in a step that decodes and in one that reads the prompt, memory by
/// purpose against the budget, and what of each layer is resident. Follows the reader's choice of light or dark. The steps are played by
/// `machine`'s rates; a plan does not hold these, nor which matrix belongs to which layer, so both are asked for. They are what the plan
/// was made from, or another machine that it is to be seen on.
/// Errors: kInvalidArgument when the plan is not one for `shape` (check_plan) or the profile has no rates; kUnsupported for a plan of more
/// than 2^22 units; kOutOfMemory.
OTR_API Result<std::string> plan_to_svg(const Plan& plan, const StepShape& shape, const MachineProfile& machine);
/// The same as a page, with the alternatives, the plan's text and a table of its tensors: one HTML file that needs no other and runs no
/// script.
OTR_API Result<std::string> plan_to_html(const Plan& plan, const StepShape& shape, const MachineProfile& machine);
/// Errors: kInvalidArgument naming the field.
OTR_API Result<Plan> plan_from_json(const std::string& json);

}  // namespace outrigger

#endif  // OUTRIGGER_PLAN_H_
