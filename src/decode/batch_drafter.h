// BatchDrafter: one draft model that drafts for all texts of a batch, in the same steps.
#ifndef OUTRIGGER_SRC_DECODE_BATCH_DRAFTER_H_
#define OUTRIGGER_SRC_DECODE_BATCH_DRAFTER_H_

#include <outrigger/sampling.h>
#include <outrigger/session.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/decode/batch_shares.h"
#include "src/decode/batch_step.h"
#include "src/decode/draft_model.h"
#include "src/decode/draft_source.h"
#include "src/decode/random.h"

namespace outrigger {

/// A draft's step costs a pass over its weights, however many texts are in it: so texts draft together, each token of all of them in one
/// step. Every place of the batch has a cache of its own here, which is shortened to what of it the text still says, and never computed
/// anew. Threads: one call at a time, but for propose().
class BatchDrafter {
 public:
  /// As DraftModel::open, with a cache for each of `places` texts. `target` must outlive it. Errors: those.
  static Result<std::unique_ptr<BatchDrafter>> open(Engine::Impl& target, const std::string& path, uint32_t context_tokens, size_t places,
                                                    const CancelToken& cancel);

  const std::string& path() const { return path_; }

  /// A generation begins in the place: what drafts for it, which proposes what run() drafted. This must outlive it. Errors: those of
  /// Sampler::create.
  Result<std::unique_ptr<DraftSource>> begin(size_t place, const SamplingOptions& target_sampling);

  /// It computes on the device, beside what the host does.
  bool is_on_device() const;
  /// Will be asked for drafts behind `tokens`, a prompt, and more: read() reads them. Computes nothing, keeps no reference.
  void expect(size_t place, std::span<const Token> tokens);
  /// Reads what is expected, a step at a time until `is_enough`: what is left is read by the run() that drafts behind it. Errors: as run().
  Status read(const std::function<bool()>& is_enough, const CancelToken& cancel);

  /// Wants up to `most` tokens behind `tokens`, a text that is there till run() is over. Computes nothing.
  void ask(size_t place, std::span<const Token> tokens, uint32_t most);
  /// Drafts for all that were asked for. Meanwhile what was drafted for other places may be proposed. Any error leaves them without drafts;
  /// kCancelled may be tried again, another one ends its use: from then on nobody is drafted for.
  Status run(const CancelToken& cancel);
  /// The last run() also read what is read once, a prompt: its time is no draft's.
  bool has_read() const { return has_read_; }
  bool has_failed() const { return has_failed_; }

 private:
  struct Place {
    explicit Place(Session opened) : session(std::move(opened)) {}
    Session session;
    std::optional<Sampler> sampler;
    Random random{0};
    bool draws = false;
    std::optional<Draft> draft;
    uint32_t most = 0;         ///< wanted by the next run()
    bool is_expected = false;  ///< to be read by the next read()
    size_t text_tokens = 0;    ///< that the draft stands behind
  };
  class Source;

  BatchDrafter(std::string path, OpenedDraft opened, size_t places);
  void hold(Place& place, std::span<const Token> tokens, size_t most_kept);
  bool has_more();
  bool has_more_to_read();
  Status run_step(const CancelToken& cancel);
  Status note(Status status);

  const std::string path_;
  OpenedDraft opened_;
  std::deque<Place> places_;        // where each stays
  std::vector<BatchShare> shares_;  // of each place
  std::vector<Place*> joined_;      // the step, in its order
  BatchStep step_;
  Status failure_;  // of a row
  bool has_read_ = false, has_failed_ = false;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_BATCH_DRAFTER_H_
