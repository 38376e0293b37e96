// LayerForward: whole models put together from it have the logits that transformers gives them.
#include "src/forward/layer_forward.h"

#include "src/forward/float_matrix.h"
#include "src/forward/packed_matrix.h"
#include "src/kernels/rms_norm.h"
#include "src/model/fixed_tensors.h"
#include "src/model/model_impl.h"
#include "tests/support/engines.h"
#include "tests/support/golden_logits.h"

namespace outrigger::testing {
namespace {

class FloatModel {
 public:
  explicit FloatModel(const std::string& name)
      : model_(must(Model::open(tiny_model_path(name)))),
        layout_(*model_.impl()->layout),
        config_(layout_.config),
        team_(must(ThreadTeam::create(2))) {
    fixed_.resize(layout_.shape.fixed_bytes / sizeof(float));
    must(load_fixed_tensors(model_.impl()->file, layout_, fixed_.data()));
  }

  /// Logits [tokens, vocabulary] of one sequence.
  std::vector<float> logits(const std::vector<int32_t>& sequence) {
    const size_t tokens = sequence.size();
    LayerForward forward(layout_, fixed_.data(), tokens, *team_);
    const LeasedVector<float> embedding = values(layout_.embedding);
    std::vector<float> residual, input(tokens * config_.width);
    for (const int32_t token : sequence) {
      const auto row = embedding.begin() + static_cast<ptrdiff_t>(static_cast<uint64_t>(token) * config_.width);
      residual.insert(residual.end(), row, row + static_cast<ptrdiff_t>(config_.width));
    }
    for (uint32_t layer = 0; layer < config_.layers; ++layer) run_layer(forward, layer, tokens, input, residual);
    for (size_t t = 0; t < tokens; ++t) {
      rms_norm({residual.data() + t * config_.width, fixed_.data() + layout_.output_norm, input.data() + t * config_.width, 1,
                config_.width, config_.norm_epsilon});
    }
    std::vector<float> all(tokens * layout_.vocabulary);
    multiply(layout_.head, input, tokens, all.data(), layout_.vocabulary, false);
    return all;
  }
  uint64_t vocabulary() const { return layout_.vocabulary; }

 private:
  LeasedVector<float> values(uint32_t matrix) { return must(read_matrix(model_.impl()->file.source(), layout_.weights[matrix])); }

  void multiply(uint32_t matrix, std::span<const float> src, size_t tokens, float* dst, size_t stride, bool adds) {
    const WeightSource& weight = layout_.weights[matrix];
    PackedMatrix(values(matrix), weight.rows, weight.columns).multiply(src, tokens, dst, stride, adds, *team_);
  }

  void run_layer(LayerForward& forward, uint32_t layer, size_t tokens, std::vector<float>& input, std::vector<float>& residual) {
    const LayerLayout& parts = layout_.layers[layer];
    const uint64_t q_width = config_.attention_width(), kv_width = config_.kv_width(), width = q_width + 2 * kv_width;
    std::vector<float> qkv(tokens * width), attended(tokens * q_width), gate(tokens * config_.ffn_width), up(gate.size());
    forward.attention_input(layer, residual, input);
    multiply(parts.q, input, tokens, qkv.data(), width, false);
    multiply(parts.k, input, tokens, qkv.data() + q_width, width, false);
    multiply(parts.v, input, tokens, qkv.data() + q_width + kv_width, width, false);
    forward.attention(layer, qkv, attended);
    multiply(parts.output, attended, tokens, residual.data(), config_.width, true);
    forward.add_bias_of(parts.output, residual.data(), config_.width, tokens);
    forward.ffn_input(layer, residual, input);
    multiply(parts.ffn.gate, input, tokens, gate.data(), config_.ffn_width, false);
    multiply(parts.ffn.up, input, tokens, up.data(), config_.ffn_width, false);
    forward.add_bias_of(parts.ffn.gate, gate.data(), config_.ffn_width, tokens);
    forward.add_bias_of(parts.ffn.up, up.data(), config_.ffn_width, tokens);
    forward.activation(gate, up);
    multiply(parts.ffn.down, gate, tokens, residual.data(), config_.width, true);
    forward.add_bias_of(parts.ffn.down, residual.data(), config_.width, tokens);
  }

  const Model model_;
  const ModelLayout& layout_;
  const ModelConfig& config_;
  std::unique_ptr<ThreadTeam> team_;
  std::vector<float> fixed_;
};

TEST_CASE("LayerForward: every dense family's layers make the logits that transformers makes") {
  for (const char* name : {"tinyllama", "smollm", "llama3", "mistral", "llama-biases", "qwen2", "qwen3", "qwen3-yarn", "odd-f32",
                           "llama3-mixed", "linear-f16", "dense-f16"}) {
    CAPTURE(name);
    FloatModel model(name);
    for (const GoldenSequence& sequence : GoldenLogits::read(name).sequences) {
      const std::vector<float> logits = model.logits(sequence.tokens);
      const GoldenLogits golden = GoldenLogits::read(name);
      double most = 0;
      for (size_t i = 0; i < sequence.positions.size(); ++i) {
        const float* const row = logits.data() + static_cast<size_t>(sequence.positions[i]) * model.vocabulary();
        for (size_t k = 0; k < golden.ids.size(); ++k)
          most = std::max(most, std::abs(static_cast<double>(row[golden.ids[k]]) - sequence.rows[i][k]));
        REQUIRE(std::max_element(row, row + model.vocabulary()) - row == sequence.best[i]);
      }
      REQUIRE(most < 1e-4);
    }
  }
}

}  // namespace
}  // namespace outrigger::testing
