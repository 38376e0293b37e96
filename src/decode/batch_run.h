// BatchRun: one call of generate_batch(): who is in a step, who takes a place that is free, and what came of each.
#ifndef OUTRIGGER_SRC_DECODE_BATCH_RUN_H_
#define OUTRIGGER_SRC_DECODE_BATCH_RUN_H_

#include <outrigger/batch.h>

#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "src/decode/batch_draft_length.h"
#include "src/decode/batch_drafter.h"
#include "src/decode/batch_sequence.h"
#include "src/decode/batch_shares.h"
#include "src/decode/draft_thread.h"
#include "src/decode/group_choice.h"
#include "src/decode/load_follower.h"

namespace outrigger {

/// Texts go together, or, where a model drafts, in two groups that alternate: while a pass verifies one group's drafts, the model drafts
/// for the other on a thread of its own. The texts are the same either way.
class BatchRun {
 public:
  /// `requests` and `options` must outlive it.
  BatchRun(Engine::Impl& engine, std::span<const BatchRequest> requests, const BatchOptions& options, float branch_share, size_t sequences);

  /// Before run(): as many as `sequences`.
  void add_place(Session session);
  BatchResult run();

 private:
  using Clock = std::chrono::steady_clock;

  /// Places next to each other whose texts share a step.
  struct Group {
    explicit Group(double growth) : length(growth) {}
    size_t begin = 0, end = 0;
    size_t turn = 0;          ///< the place that has the first share of its next step
    bool is_ready = false;    ///< shares and drafts are those of its next step, and someone has a share
    double draft_ms = 0;      ///< that these drafts cost: of those made beside a pass, what they took longer than it
    bool has_read = false;    ///< the draft also read prompts for them: its time is no draft's
    BatchDraftLength length;  ///< of its drafts
  };

  bool alternates() const;
  bool go_together();
  void alternate();

  void admit(const Group& group);
  Result<std::unique_ptr<DraftSource>> source_for(size_t place, const GenerateOptions& options);
  void prepare(Group& group);
  void share_out(Group& group);
  bool has_texts(const Group& group) const;
  void ask_for_drafts(const Group& group);
  void draft_for(Group& group);
  bool read_beside();
  void warn_of_failed_draft();

  struct Pass {
    double ms = 0;
    uint32_t drafted = 0;        ///< tokens
    uint32_t tokens = 0;         ///< that texts grew by
    bool is_comparable = false;  ///< it was done, and read no prompt
  };
  Pass run_step(Group& group);
  void count_step(Group& group, Pass* pass);

  void stop_if_cancelled(BatchSequence& place);
  void end(const BatchSequence& place, const Group& group, Result<GenerateResult> result);
  void settle(size_t index, Result<GenerateResult> result);
  void stop_all();
  BatchResult finish(Clock::time_point start);

  Engine::Impl& engine_;
  const std::span<const BatchRequest> requests_;
  const BatchOptions& options_;
  std::unique_ptr<BatchDrafter> drafter_;  ///< null: no text asked for a draft model yet. Outlives the places, whose drafts it makes
  Status draft_status_;                    ///< of its last run
  std::deque<BatchSequence> places_;       ///< where each stays
  std::vector<BatchShare> shares_;         ///< of each place
  Group all_;
  std::array<Group, 2> halves_;
  size_t slot_ = 0;  ///< whose turn it is of the halves
  GroupChoice groups_;
  BatchStep step_;
  std::shared_ptr<LoadFollower> follower_;  ///< null: the share is fixed
  std::vector<BatchSequence*> joined_;      ///< the step, in its order
  const BatchStep::OnRow on_row_ = [this](size_t index, size_t row, std::span<const float> logits) { joined_[index]->judge(row, logits); };
  std::vector<std::optional<Result<GenerateResult>>> results_;
  size_t next_request_ = 0;
  BatchReport report_;
  std::atomic<bool> is_read_enough_ = false;  ///< by the draft, of prompts
  DraftThread thread_;  ///< last, so that what it works on is there till it is done
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_BATCH_RUN_H_
