// One walk over the buffers, used both to size the arena and to place them in it.
#include "src/model/step_buffers.h"

#include <algorithm>

#include "src/kernels/bf16_activations.h"

namespace outrigger {
namespace {

constexpr uint64_t kAlignment = 64;

uint64_t align_up(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Hands out consecutive aligned pieces; with a null arena it only counts.
class Placer {
 public:
  explicit Placer(std::byte* arena) : arena_(arena) {}
  std::byte* bytes(uint64_t count) {
    std::byte* const at = arena_ == nullptr ? nullptr : arena_ + used_;
    used_ += align_up(count);
    return at;
  }
  template <typename T>
  T* array(uint64_t count) {
    return reinterpret_cast<T*>(bytes(count * sizeof(T)));
  }
  float* floats(uint64_t count) { return array<float>(count); }
  uint64_t used() const { return used_; }

 private:
  std::byte* arena_;
  uint64_t used_ = 0;
};

// A width that is not whole groups belongs to float matrices, which do not fill the panel of int8.
uint64_t panel_bytes(PanelKinds panels, uint64_t rows, uint64_t width) {
  const uint64_t int8_bytes = panels.has_int8 ? activation_panel_bytes(rows, (width + kGroup - 1) / kGroup * kGroup) : 0;
  return std::max(int8_bytes, panels.has_bf16 ? bf16_panel_bytes(rows, width) : 0);
}

void walk_experts(Placer& placer, const ModelConfig& config, PanelKinds panels, uint64_t tokens, ExpertBuffers* buffers) {
  const uint64_t rows = tokens * config.used_experts;
  buffers->rows = placer.floats(rows * config.width);
  buffers->input_panel = placer.bytes(panel_bytes(panels, rows, config.width));
  buffers->down_panel = placer.bytes(panel_bytes(panels, rows, config.expert_ffn_width));
  buffers->router_logits = placer.floats(tokens * config.experts);
  buffers->chosen = placer.array<uint32_t>(rows);
  buffers->weights = placer.floats(rows);
  buffers->row_of = placer.array<uint32_t>(rows);
  buffers->token_of = placer.array<uint32_t>(rows);
  buffers->uses = placer.array<ExpertUse>(config.experts);
  buffers->counts = placer.array<uint32_t>(config.experts);
  buffers->wave_ends = placer.array<uint32_t>(config.experts + uint64_t{1});
  buffers->guesses = placer.array<uint32_t>(std::max(config.experts, kMostGuessedTokens * config.used_experts));
}

uint64_t walk(std::byte* arena, const ModelConfig& config, PanelKinds panels, uint32_t tokens, StepBuffers* buffers) {
  Placer placer(arena);
  const uint64_t ffn_width = config.experts > 0 ? config.shared_ffn_width : config.ffn_width;
  const uint64_t widest = std::max({config.width, config.attention_width(), ffn_width});
  const uint64_t gate_elements = std::max(tokens * ffn_width, uint64_t{tokens} * config.used_experts * config.expert_ffn_width);
  buffers->residual = placer.floats(tokens * config.width);
  buffers->normed = placer.floats(tokens * config.width);
  buffers->panel = placer.bytes(panel_bytes(panels, tokens, widest));
  buffers->remainder_panel =
      placer.bytes(panels.has_int8 ? activation_panel_bytes(tokens, (config.width + kGroup - 1) / kGroup * kGroup) : 0);
  buffers->qkv = placer.floats(tokens * (config.attention_width() + 2 * config.kv_width()));
  buffers->attention = placer.floats(tokens * std::max(config.attention_width(), config.width));
  buffers->gate = placer.floats(gate_elements);
  buffers->up = placer.floats(gate_elements);
  buffers->components = placer.floats(uint64_t{tokens} * panels.most_components);
  buffers->component_panel = placer.bytes(StepBuffers::component_panel_offset(tokens, panels.most_components));
  buffers->cos_sin = placer.floats(uint64_t{tokens} * config.rope_dim);
  buffers->tree = placer.array<TokenTree>(1);
  if (config.experts > 0) walk_experts(placer, config, panels, tokens, &buffers->experts);
  return placer.used();
}

}  // namespace

uint64_t StepBuffers::bytes(const ModelConfig& config, PanelKinds panels, uint32_t tokens) {
  StepBuffers ignored;
  return walk(nullptr, config, panels, tokens, &ignored);
}

uint64_t StepBuffers::logits_row_bytes(uint64_t vocabulary) { return align_up(vocabulary * sizeof(float)); }

uint64_t StepBuffers::residual_scratch_bytes(PanelKinds panels) {
  return align_up(kResidualTokens * panels.residual_columns * (sizeof(float) + sizeof(uint32_t)));
}

// A panel of r groups is at most r panels of one, which begin on cache lines.
uint64_t StepBuffers::component_panel_offset(size_t tokens, uint32_t first_component) {
  return first_component / kGroup * activation_panel_bytes(tokens, kGroup);
}

StepBuffers StepBuffers::place(std::byte* arena, const ModelConfig& config, PanelKinds panels, uint32_t tokens, uint32_t threads,
                               uint64_t correction_row_bytes) {
  StepBuffers buffers;
  buffers.scratch = arena + walk(arena, config, panels, tokens, &buffers);
  buffers.residual_scratch = buffers.scratch + threads * attention_scratch_bytes(config.head_dim);
  std::byte* const after_scratch = buffers.residual_scratch + threads * residual_scratch_bytes(panels);
  buffers.corrections = reinterpret_cast<float*>(after_scratch);
  buffers.logits = reinterpret_cast<float*>(after_scratch + tokens * correction_row_bytes);
  return buffers;
}

}  // namespace outrigger
