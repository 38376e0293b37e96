// CompressNeed: walks through a pass, and a survey's measurements.
#include "src/compress/compress_need.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/compress/memory_tally.h"
#include "src/compress/pass_walk.h"
#include "src/tensor/encode_own.h"
#include "src/tensor/packed.h"

namespace outrigger {
namespace {

using enum MemoryUse;
using Held = MemoryTally::Held;

constexpr uint64_t kMeasuredChunks = 2;  // as survey_model() takes
constexpr uint64_t kLogitTokens = 64;    // whose logits a meter has at once
constexpr uint64_t kUncounted = 64_KiB;  // by which a vector may fall below what a lease is, and be counted where a sum of several is
// What is not the model's: reading the parts that stay as they are, and the file's checksum, in pieces.
constexpr uint64_t kFileBytes = 4_MiB + 64_KiB;

struct Start {
  MemoryTally tally;
  Held tokens, files;

  explicit Start(const CompressScale& scale) : tokens(tally.bytes(kCalibration, scale.tokens * sizeof(Token))) {
    const Held pieces = tally.bytes(kMatrices, kFileBytes);
  }
};

// A layer of a meter's pass, of two chunks.
void measure_layer(const CompressScale& scale, const LayerLayout& layer, PassWalk* walk, MemoryTally* tally) {
  const ModelConfig& config = scale.layout.config;
  const uint64_t chunk = scale.options.chunk_tokens, tokens = std::min(scale.tokens, kMeasuredChunks * chunk);
  {
    const Held activations =
        tally->floats(kCalibration, chunk * (config.width + 2 * config.attention_width() + 2 * config.kv_width()) + 3 * kUncounted);
    std::vector<Held> matrices;
    for (const uint32_t matrix : {layer.q, layer.k, layer.v, layer.output}) matrices.push_back(walk->read_packed(kMatrices, matrix));
  }
  if (config.experts == 0) {
    const Held activations = tally->floats(kCalibration, chunk * (config.width + 2 * config.ffn_width) + 3 * kUncounted);
    std::vector<Held> matrices;
    for (const uint32_t matrix : {layer.ffn.gate, layer.ffn.up, layer.ffn.down}) matrices.push_back(walk->read_packed(kMatrices, matrix));
    return;
  }
  const uint64_t widest = std::max(config.shared_ffn_width, config.expert_ffn_width);
  const Held inputs =
      tally->floats(kCalibration, tokens * (2 * config.width + 2 * widest + config.experts + 6 * config.used_experts) + 8 * kUncounted);
  std::vector<Held> matrices;
  for (const uint32_t matrix : {layer.ffn.gate, layer.ffn.up, layer.ffn.down}) matrices.push_back(walk->read_packed(kMatrices, matrix));
  if (config.shared_ffn_width == 0) return;
  matrices.clear();
  for (const uint32_t matrix : {layer.shared.gate, layer.shared.up, layer.shared.down})
    matrices.push_back(walk->read_packed(kMatrices, matrix));
}

void measure_survey(const CompressScale& scale, PassWalk* walk, MemoryTally* tally) {
  const ModelLayout& layout = scale.layout;
  const uint64_t chunk = scale.options.chunk_tokens, tokens = std::min(scale.tokens, kMeasuredChunks * chunk),
                 stream = tokens * layout.config.width;
  const std::vector<Held> forward = walk->forward(kCalibration, chunk);
  const Held head = walk->read_packed(kMatrices, layout.head);
  std::vector<Held> streams;
  for (uint32_t i = 0; i < layout.config.layers + 3; ++i) streams.push_back(tally->floats(kCalibration, stream));
  for (const LayerLayout& layer : layout.layers) measure_layer(scale, layer, walk, tally);
  const Held normed = tally->floats(kCalibration, stream), of_model = tally->floats(kCalibration, kLogitTokens * layout.vocabulary),
             of_other = tally->floats(kCalibration, kLogitTokens * layout.vocabulary);
}

uint64_t share_of(const CompressNeed& need, MemoryUse use) { return need.of_use[static_cast<size_t>(use)]; }

const char* advice(const CompressNeed& need, const CompressOptions& options) {
  if (share_of(need, kTraining) > need.bytes / 2) return "compress without training (polish_steps 0)";
  if (share_of(need, kCalibration) > need.bytes / 2) return "use fewer or shorter chunks (most_chunks, chunk_tokens)";
  if (share_of(need, kBackbone) > need.bytes / 2) return "ask for the same bits everywhere and no branches, which need no survey";
  return options.branch_bytes + options.branch_read_bytes > 0 ? "leave out branches, or have fewer threads and chunks"
                                                              : "have fewer threads and chunks";
}

}  // namespace

CompressNeed need_of_pass(const CompressScale& scale, std::span<const MatrixPlan> plans) {
  Start start(scale);
  PassWalk(scale, plans, {0, false, false}, &start.tally).run();
  return start.tally.most();
}

CompressNeed need_of_survey(const CompressScale& scale, std::span<const MatrixPlan> plans, uint32_t most_rank, bool columns) {
  Start start(scale);
  PassWalk walk(scale, plans, {most_rank, columns, true}, &start.tally);
  walk.run();
  measure_survey(scale, &walk, &start.tally);
  return start.tally.most();
}

Status check_need(const CompressNeed& need, const CompressOptions& options) {
  if (options.host_bytes == 0 || need.bytes <= options.host_bytes) return {};
  std::string parts;
  for (const auto& [use, name] : {std::pair{kCalibration, "the calibration's vectors"},
                                  {kGrams, "Gram matrices"},
                                  {kMatrices, "matrices as floats"},
                                  {kBackbone, "matrices in few bits"},
                                  {kBranches, "branches and residuals"},
                                  {kTraining, "training"}}) {
    if (share_of(need, use) > 0) parts += formatted("{}{} for {}", parts.empty() ? "" : ", ", format_bytes(share_of(need, use)), name);
  }
  return Status(StatusCode::kBudget, formatted("compressing needs {} of memory, {}; the budget is {}: raise it, or {}",
                                               format_bytes(need.bytes), parts, format_bytes(options.host_bytes), advice(need, options)))
      .with_bytes(need.bytes, options.host_bytes);
}

}  // namespace outrigger
