// The branch share that follows the host's load: whose steps it is of, and what it comes to.
#include "src/decode/load_follower.h"

#include "src/base/formatted.h"

namespace outrigger {

Status FollowLoad::validate() const {
  // Less than the least is not told from noise.
  constexpr double kLeast = 0.01, kMost = 10;
  if (max_slowdown >= kLeast && max_slowdown <= kMost) return {};
  return Status(StatusCode::kInvalidArgument, formatted("follow_load: max_slowdown: got {}, need {} to {}", max_slowdown, kLeast, kMost));
}

BranchUse BranchCounts::use() const {
  BranchUse use;
  use.follows_load = true;
  use.steps = steps;
  if (steps > 0) use.mean_share = share_sum / static_cast<double>(steps);
  if (bare_ms > 0) use.slowdown = known_ms / bare_ms - 1;
  return use;
}

BranchCounts operator-(const BranchCounts& later, const BranchCounts& earlier) {
  return {later.steps - earlier.steps, later.share_sum - earlier.share_sum, later.known_ms - earlier.known_ms,
          later.bare_ms - earlier.bare_ms};
}

std::shared_ptr<LoadFollower> LoadFollower::make(const ModelLayout& layout, const FollowLoad& options, float share) {
  if (layout.shape.correction_row_bytes == 0) return nullptr;
  return std::shared_ptr<LoadFollower>(new LoadFollower(options.max_slowdown, share));
}

BranchGovernor& LoadFollower::of(uint32_t tokens) {
  const auto [place, unused] = governors_.try_emplace(tokens, max_slowdown_, settled_share());
  latest_ = tokens;
  return place->second;
}

BranchCounts LoadFollower::counts() const {
  BranchCounts sum;
  for (const auto& [unused, governor] : governors_) {
    sum.steps += governor.steps();
    sum.share_sum += governor.share_sum();
    sum.known_ms += governor.known_ms();
    sum.bare_ms += governor.bare_ms();
  }
  return sum;
}

}  // namespace outrigger
