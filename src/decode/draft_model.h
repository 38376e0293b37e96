// DraftModel: a small model beside another one, within the bytes that the other's plan keeps for it.
#ifndef OUTRIGGER_SRC_DECODE_DRAFT_MODEL_H_
#define OUTRIGGER_SRC_DECODE_DRAFT_MODEL_H_

#include <outrigger/session.h>
#include <outrigger/speculation.h>

#include <memory>
#include <optional>
#include <string>

#include "src/decode/draft_plan.h"
#include "src/decode/draft_source.h"
#include "src/decode/engine_impl.h"
#include "src/decode/random.h"
#include "src/decode/tree_draft.h"
#include "src/memory/memory_lease.h"

namespace outrigger {

/// A draft's engine, in memory that the target's plan keeps for it.
struct OpenedDraft {
  MemoryClaim claim, device_claim;  ///< given back after the memory
  Engine engine;
  size_t vocabulary = 0;  ///< ids that the target knows too
};

/// All of the draft is resident, on the target's device where the plan has bytes for it there, with streams of its own. Its planned bytes
/// are within the plan's TierBreakdown::draft, together with those of other drafts, and count in the target's ledgers as long as the claims
/// live. Errors: as Session::prepare_draft().
Result<OpenedDraft> open_draft(Engine::Impl& target, const std::string& path, const DraftTexts& texts, const Progress& progress,
                               const CancelToken& cancel);

/// Owned by the session it drafts for, whose engine must outlive it. Its cache stays from one generation to the next.
class DraftModel {
 public:
  /// open_draft() for one text.
  static Result<std::unique_ptr<DraftModel>> open(Engine::Impl& target, const std::string& path, uint32_t context_tokens,
                                                  const Progress& progress, const CancelToken& cancel);

  const std::string& path() const { return path_; }
  Session& session() { return session_; }
  /// It computes on its target's device, where its target computes nothing.
  bool has_own_lane() const { return has_own_lane_; }
  /// Ids that the target knows too.
  size_t vocabulary() const { return opened_.vocabulary; }

 private:
  DraftModel(std::string path, OpenedDraft opened, Session session, bool has_own_lane)
      : path_(std::move(path)), opened_(std::move(opened)), session_(std::move(session)), has_own_lane_(has_own_lane) {}

  std::string path_;
  OpenedDraft opened_;
  Session session_;
  bool has_own_lane_;
};

/// Candidates that a drawn draft token is drawn from: the likeliest ones, since any distribution may be drafted from, and what is kept of
/// each takes memory.
inline constexpr int32_t kMostDraftCandidates = 64;
/// What a draft samples by, given the target's options: the same penalty, temperature and cuts, of the likeliest candidates only, with
/// numbers of its own.
SamplingOptions draft_sampling(const SamplingOptions& target);

/// Adds to `draft` the next token by `sampler`: the likeliest, or one that is drawn together with what it was drawn from.
/// Errors: Sampler::sample's.
Result<Token> draft_token(Sampler& sampler, Random& random, bool draws, std::span<const float> logits, std::span<const Token> history,
                          Draft* draft);

/// One generation's use of a DraftModel.
class ModelDraft final : public DraftSource {
 public:
  ModelDraft(DraftModel& model, Sampler sampler, const SamplingOptions& options)
      : model_(model),
        sampler_(std::move(sampler)),
        random_(options.seed),
        draws_(options.temperature > 0),
        sampling_(options),
        ahead_(kMostDraftTokens, draws_ ? kMostDraftCandidates : 0) {}

  Status read(std::span<const Token> tokens, const CancelToken& cancel) override;
  Status propose(std::span<const Token> tokens, uint32_t most, const CancelToken& cancel, Draft* draft) override;
  uint32_t tree_width() const override;
  Status propose_tree(std::span<const Token> tokens, const DraftSize& size, const CancelToken& cancel, Draft* draft) override;
  bool drafts_ahead() const override { return model_.has_own_lane(); }
  Status draft_ahead(uint32_t most, const std::function<bool()>& is_enough) override;

 private:
  Status keep_accepted(std::span<const Token> tokens);
  bool take_ahead(std::span<const Token> tokens, uint32_t most, Draft* draft);
  Status draft_on(uint32_t most, const std::function<bool()>& is_enough, Draft* draft);

  DraftModel& model_;
  Sampler sampler_;
  Random random_;
  const bool draws_;
  const SamplingOptions sampling_;
  std::optional<TreeGrower> grower_;  ///< from the first tree on
  // The last tree, of which the first nodes are in the draft's cache, behind a text of so many tokens.
  TokenTree tree_;
  std::vector<Token> tree_tokens_;
  size_t computed_nodes_ = 0, tree_text_ = 0;
  std::optional<Token> last_;     ///< of the last chain, which its session has not been given yet
  Draft ahead_;                   ///< behind so many tokens of the session
  size_t ahead_text_ = 0;         ///< 0: there is none
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_DRAFT_MODEL_H_
