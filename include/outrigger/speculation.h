// Speculation: a cheap draft proposes tokens, one step of the model verifies them; the output is the model's own.
#ifndef OUTRIGGER_SPECULATION_H_
#define OUTRIGGER_SPECULATION_H_

#include <outrigger/export.h>
#include <outrigger/model.h>
#include <outrigger/plan.h>
#include <outrigger/status.h>

#include <array>
#include <cstdint>
#include <string>

namespace outrigger {

/// Who proposes.
enum class DraftKind : int32_t {
  kNone = 0,
  /// kSelf where the plan has low-bit copies for it and nothing is drawn, else kNgram, while it pays: it stops while it loses, and drafts
  kAuto = 1,
               ///< nothing where the plan has no room for it
  kNgram = 2,  ///< what followed the last tokens when they stood in the text before
  /// A compressed model without its branches, for itself with them; or a model with low-bit copies of what streams (Workload::stand_ins),
  kSelf = 3,
               ///< for itself with the whole weights
  kModel = 4,  ///< another model of the same vocabulary
};
OTR_API const char* draft_kind_name(DraftKind kind) noexcept;  ///< "none", "auto", "ngram", "self", "model"

/// What is proposed.
enum class DraftShape : int32_t {
  kAuto = 0,   ///< kChain, and kTree where it is measured to be faster; of a fixed number of tokens always kChain
  kChain = 1,  ///< one continuation
  kTree = 2,   ///< several, of which the step that verifies them takes the best
};
OTR_API const char* draft_shape_name(DraftShape shape) noexcept;  ///< "auto", "chain", "tree"

struct OTR_API DraftOptions {
  DraftKind kind = DraftKind::kNone;
  std::string path;  ///< of kModel: a file or directory as Model::open takes it; empty for the others
  /// Most tokens of a draft, up to kMostDraftTokens (kMostTreeDraftTokens for kTree) and to what the plan has rows of logits for;
  /// kAsItPays: chosen as the generation goes, from what was accepted and what steps took, and none while it does not pay.
  uint32_t tokens = kAsItPays;
  DraftShape shape = DraftShape::kAuto;
  static constexpr uint32_t kAsItPays = 0;

  /// Errors: kInvalidArgument naming the field, its value and what it may be.
  Status validate() const;
};

/// What speculation did in one generation.
struct SpeculationReport {
  DraftKind draft = DraftKind::kNone;  ///< who proposed: kSelf or kNgram for kAuto, and kNone where nobody could
  std::string draft_name = "none";     ///< "none", "ngram", "self", or the draft model's path
  uint64_t passes = 0;                 ///< steps of the model that made the tokens after the first, those without a draft too
  uint64_t drafted = 0;                ///< tokens proposed
  uint64_t accepted = 0;               ///< of these, those that the model said too
  uint64_t tree_passes = 0;            ///< of the passes, those whose draft was a tree and no chain
  /// Of the passes, those whose draft was copied from the text where kAuto otherwise drafts with the model
  uint64_t quoted_passes = 0;
  /// Drafts that were so deep, and that were accepted so deep: in a chain the tokens by their place.
  std::array<uint64_t, kMostDraftTokens> drafted_at = {}, accepted_at = {};
  /// The same of each draft's likeliest path, which is all of a chain: what a chain of the same length has accepted.
  std::array<uint64_t, kMostDraftTokens> chain_drafted_at = {}, chain_accepted_at = {};
  double tokens_per_pass = 0;  ///< tokens that these steps made, over their number; 0 without any
  /// What the passes' drafts took, without reading the prompt, and what their steps took. In a batch of both what was done for all texts of
  /// the step counts for each; of a draft that was made beside another pass, what it took longer than that.
  double draft_ms = 0, verify_ms = 0;
  bool auto_off = false;       ///< the draft was given up when generation ended, because it lost
  /// Why: what a token was expected to take with the draft that is worth most, and without one, when it was last given up. 0 unless
  /// auto_off.
  double ms_per_token_drafted = 0, ms_per_token_plain = 0;
  /// What `accepted` was expected to be: the sum over passes of what each one's draft promised by what had been accepted before it. Lengths
  /// are chosen by this.
  double expected_accepted = 0;
};

/// Whether a model can draft for another: every id is the same bytes in both; two files without a tokenizer need as many tokens. Further
/// tokens of one that a file names as unused, as those that pad a vocabulary are, do not matter. Preconditions: both can run. Pure.
/// Errors: kInvalidArgument with the first id that differs and both pieces.
OTR_API Status check_same_vocabulary(const Model& target, const Model& draft);

/// Bytes of host memory that a draft model takes, all of it resident, for a conversation of so many tokens, or for as many of them at once
/// as a batch has (`texts`): Workload::draft_bytes. Of a model for fewer tokens, those that it is for. `threads`: the target plan's. Pure.
/// Errors: kUnsupported when the model cannot run; kInvalidArgument.
OTR_API Result<uint64_t> draft_model_bytes(const Model& draft, uint32_t context_tokens, uint32_t threads, uint32_t texts = 1);

/// Workload::draft_bytes and draft_device_bytes of a draft model that computes on its target's device.
struct DraftDeviceBytes {
  uint64_t host = 0;    ///< what steps begin and end with, and what a device does not compute: a mixture's experts, sparse residuals
  uint64_t device = 0;  ///< all else
};
/// The same of a draft that computes on a device: all of it that can be there is resident there. `device_threads`: MachineProfile's. Pure.
/// Errors: also kUnsupported when a device would compute nothing of the model.
OTR_API Result<DraftDeviceBytes> draft_model_device_bytes(const Model& draft, uint32_t context_tokens, uint32_t threads,
                                                          uint32_t device_threads, uint32_t texts = 1);

}  // namespace outrigger

#endif  // OUTRIGGER_SPECULATION_H_
