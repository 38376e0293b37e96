// The table of architectures.
#include "src/model/architectures.h"

#include <algorithm>
#include <iterator>

namespace outrigger {
namespace {

constexpr ArchitectureTraits kArchitectures[] = {
    {.name = "llama",
     .models = "Llama 2 and 3, Mistral, Mixtral, SmolLM2, TinyLlama",
     .rope_style = RopeStyle::kInterleaved,
     .qkv_bias = Presence::kIfPresent,
     .output_bias = Presence::kIfPresent,
     .ffn_bias = Presence::kIfPresent,
     .query_key_norm = false,
     .experts = Presence::kIfPresent,
     .normalises_expert_weights = true},
    {.name = "qwen2",
     .models = "Qwen2, Qwen2.5",
     .rope_style = RopeStyle::kHalves,
     .qkv_bias = Presence::kAlways,
     .output_bias = Presence::kNever,
     .ffn_bias = Presence::kNever,
     .query_key_norm = false},
    {.name = "qwen2moe",
     .models = "Qwen1.5-MoE, Qwen2-MoE",
     .rope_style = RopeStyle::kHalves,
     .qkv_bias = Presence::kAlways,
     .output_bias = Presence::kNever,
     .ffn_bias = Presence::kNever,
     .query_key_norm = false,
     .experts = Presence::kAlways,
     .shared_expert = true},
    {.name = "qwen3",
     .models = "Qwen3",
     .rope_style = RopeStyle::kHalves,
     .qkv_bias = Presence::kIfPresent,
     .output_bias = Presence::kIfPresent,
     .ffn_bias = Presence::kNever,
     .query_key_norm = true},
    {.name = "qwen3moe",
     .models = "Qwen3-MoE",
     .rope_style = RopeStyle::kHalves,
     .qkv_bias = Presence::kIfPresent,
     .output_bias = Presence::kIfPresent,
     .ffn_bias = Presence::kNever,
     .query_key_norm = true,
     .experts = Presence::kAlways,
     .normalises_expert_weights = true},
};

}  // namespace

const ArchitectureTraits* find_architecture(std::string_view name) {
  const auto found = std::find_if(std::begin(kArchitectures), std::end(kArchitectures),
                                  [name](const ArchitectureTraits& row) { return row.name == name; });
  return found == std::end(kArchitectures) ? nullptr : found;
}

std::string known_architectures() {
  std::string text;
  for (size_t i = 0; i < std::size(kArchitectures); ++i) {
    if (i > 0) text += i + 1 == std::size(kArchitectures) ? " and " : ", ";
    text += kArchitectures[i].name;
  }
  return text;
}

}  // namespace outrigger
