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
  float* floats(uint64_t count) { return reinterpret_cast<float*>(bytes(count * sizeof(float))); }
  uint64_t used() const { return used_; }

 private:
  std::byte* arena_;
  uint64_t used_ = 0;
};

uint64_t walk(std::byte* arena, const ModelConfig& config, PanelKinds panels, uint32_t tokens, StepBuffers* buffers) {
  Placer placer(arena);
  const uint64_t widest = std::max({config.width, config.attention_width(), config.ffn_width});
  buffers->residual = placer.floats(tokens * config.width);
  buffers->normed = placer.floats(tokens * config.width);
  // A width that is not whole groups belongs to float matrices, which do not fill the panel of int8.
  const uint64_t int8_bytes = panels.has_int8 ? activation_panel_bytes(tokens, (widest + kGroup - 1) / kGroup * kGroup) : 0;
  buffers->panel = placer.bytes(std::max(int8_bytes, panels.has_bf16 ? bf16_panel_bytes(tokens, widest) : 0));
  buffers->remainder_panel =
      placer.bytes(panels.has_int8 ? activation_panel_bytes(tokens, (config.width + kGroup - 1) / kGroup * kGroup) : 0);
  buffers->qkv = placer.floats(tokens * (config.attention_width() + 2 * config.kv_width()));
  buffers->attention = placer.floats(tokens * std::max(config.attention_width(), config.width));
  buffers->gate = placer.floats(tokens * config.ffn_width);
  buffers->up = placer.floats(tokens * config.ffn_width);
  buffers->cos_sin = placer.floats(uint64_t{tokens} * config.rope_dim);
  return placer.used();
}

}  // namespace

uint64_t StepBuffers::bytes(const ModelConfig& config, PanelKinds panels, uint32_t tokens) {
  StepBuffers ignored;
  return walk(nullptr, config, panels, tokens, &ignored);
}

uint64_t StepBuffers::logits_row_bytes(uint64_t vocabulary) { return align_up(vocabulary * sizeof(float)); }

StepBuffers StepBuffers::place(std::byte* arena, const ModelConfig& config, PanelKinds panels, uint32_t tokens, uint32_t threads) {
  StepBuffers buffers;
  buffers.scratch = arena + walk(arena, config, panels, tokens, &buffers);
  buffers.logits = reinterpret_cast<float*>(buffers.scratch + threads * attention_scratch_bytes(config.head_dim));
  return buffers;
}

}  // namespace outrigger
