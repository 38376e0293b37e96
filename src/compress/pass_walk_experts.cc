// PassWalk: what a layer's experts take.
#include <algorithm>
#include <initializer_list>
#include <utility>
#include <vector>

#include "src/compress/pass_walk.h"
#include "src/compress/selective_residual.h"
#include "src/forward/expert_forward.h"

namespace outrigger {
namespace {

using enum MemoryUse;

constexpr uint64_t kMostKeptOfFew = 128;  // of an expert's tokens, as ExpertWindow takes

}  // namespace

void PassWalk::mixture(const LayerLayout& parts) {
  const ModelConfig& config = layout_.config;
  const uint64_t routed = scale_.tokens * config.used_experts;
  const Held inputs = tally_.floats(kCalibration, scale_.tokens * config.width);
  // An expert's list grows by doubling.
  const Held rows = tally_.claim(kCalibration, 3 * routed * (sizeof(uint32_t) + sizeof(float)));
  {
    const Held router = read_packed(kCalibration, parts.router), logits = tally_.floats(kCalibration, scale_.tokens * config.experts),
               chosen = tally_.bytes(kCalibration, routed * (sizeof(uint32_t) + sizeof(float)) + 2 * least_lease(kCalibration));
  }
  if (config.shared_ffn_width > 0) ffn(parts.shared, config.shared_ffn_width);
  const uint64_t some = ExpertForward::kMostRows;
  const Held gathered = tally_.floats(kMatrices, 2 * some * config.width),
             activations = tally_.floats(kMatrices, 2 * some * config.expert_ffn_width);
  std::vector<Held> stacks;
  for (const uint32_t matrix : {parts.ffn.gate, parts.ffn.up, parts.ffn.down}) {
    stacks.push_back(tally_.bytes(kBackbone, config.experts * backbone_bytes(matrix)));
    if (plans_[matrix].share == 0) continue;
    kept_.push_back(tally_.bytes(kBranches, config.experts * correction_bytes(matrix)));
    kept_.push_back(tally_.bytes(kBranches, config.experts * vector_bytes(matrix) + 3 * least_lease(kBranches)));
  }
  const Held pool = gram(config.width);
  expert(parts.ffn);
  if (!demands_.keeps_backbone) return;
  for (Held& stack : stacks) kept_.push_back(std::move(stack));
}

// All have the same shapes, and at most as many tokens of their own as the text has; of few the sample has more.
void PassWalk::expert(const FfnLayout& parts) {
  const uint64_t width = layout_.config.width, ffn_width = layout_.config.expert_ffn_width,
                 most = std::max(scale_.tokens, std::max(width, ffn_width)),
                 rows = std::max(kMostKeptOfFew, InputSample::kept_rows(most, ExpertForward::kMostRows));
  uint64_t all = 0, corrections = 0;
  for (const uint32_t matrix : {parts.gate, parts.up, parts.down}) {
    all += backbone_bytes(matrix);
    corrections += correction_bytes(matrix) + vector_bytes(matrix);
  }
  const Held made = tally_.bytes(kBackbone, all),
             journal = scale_.options.resume ? tally_.bytes(kMatrices, 4 * (all + corrections)) : Held();
  std::vector<Held> window;
  const auto compress = [&](uint64_t columns, std::initializer_list<uint32_t> matrices) {
    const Held kept = tally_.floats(kCalibration, rows * (columns + 1)), own = gram(columns), pooled = gram(columns);
    add_to_gram(columns, ExpertForward::kMostRows);
    const Held factor = feedback(columns);
    for (const uint32_t matrix : matrices) const Held backbone = make(matrix, rows, &window);
  };
  compress(width, {parts.gate, parts.up});
  compress(ffn_width, {parts.down});
}

}  // namespace outrigger
