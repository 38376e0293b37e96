// LoadFollower: the branch share of a session, or of a batch, that follows the host's load.
#ifndef OUTRIGGER_SRC_DECODE_LOAD_FOLLOWER_H_
#define OUTRIGGER_SRC_DECODE_LOAD_FOLLOWER_H_

#include <outrigger/session.h>

#include <cstdint>
#include <map>
#include <memory>

#include "src/decode/branch_governor.h"
#include "src/model/layout.h"

namespace outrigger {

/// What steps used and took so far; the difference of two of them is that of the steps between.
struct BranchCounts {
  uint64_t steps = 0;
  double share_sum = 0, known_ms = 0, bare_ms = 0;

  BranchUse use() const;
};
BranchCounts operator-(const BranchCounts& later, const BranchCounts& earlier);

/// A governor for each size of step, since what a share takes depends on it: a batch's steps have a token of each text, and texts end.
/// Sizes that come up begin with the share of the one before. Threads: those of the session.
class LoadFollower {
 public:
  /// Begins with the eighth next to `share`. Null where the model has no branches.
  static std::shared_ptr<LoadFollower> make(const ModelLayout& layout, const FollowLoad& options, float share);

  /// Of a decode step of so many tokens. Allocates for a size that comes up, but not for one token.
  float next_share(uint32_t tokens) { return of(tokens).next_share(); }
  /// What that step took.
  void record(uint32_t tokens, double step_ms) { of(tokens).record(step_ms); }
  /// Of other steps: prompts, and evaluation.
  float settled_share() const { return governors_.at(latest_).settled_share(); }

  double max_slowdown() const { return max_slowdown_; }
  BranchCounts counts() const;

 private:
  LoadFollower(double max_slowdown, float share) : max_slowdown_(max_slowdown) { governors_.try_emplace(1, max_slowdown, share); }
  BranchGovernor& of(uint32_t tokens);

  double max_slowdown_;
  std::map<uint32_t, BranchGovernor> governors_;  ///< by tokens
  uint32_t latest_ = 1;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_LOAD_FOLLOWER_H_
