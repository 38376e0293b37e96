// Which tensor plays which part, described to the planner and the residency.
#include "src/model/layout.h"

#include <cmath>
#include <optional>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/kernels/sparse_residual.h"
#include "src/kernels/threshold_table.h"
#include "src/model/layout_tensors.h"
#include "src/model/product_kinds.h"
#include "src/model/step_buffers.h"
#include "src/plan/memory_model.h"
#include "src/tensor/packed.h"

namespace outrigger {
namespace {

class LayoutBuilder {
 public:
  LayoutBuilder(const GgufFile& file, const ModelConfig& config) : file_(file), tensors_(file, layout_) { layout_.config = config; }

  Result<ModelLayout> build() {
    const ModelConfig& config = layout_.config;
    OTR_TRY(read_vocabulary());
    for (uint32_t layer = 0; layer < config.layers; ++layer) OTR_TRY(add_layer(layer));
    OTR_ASSIGN(layout_.output_norm, tensors_.add_fixed("output_norm.weight", config.width));
    OTR_TRY(add_rope_factors());
    OTR_TRY(add_head());
    OTR_TRY(tensors_.refuse_leftovers());
    name_products(layout_);
    fill_shape();
    return std::move(layout_);
  }

 private:
  // The embedding's second dimension is the vocabulary: the tokenizer may be absent, its size is compared where it is used.
  Status read_vocabulary() {
    OTR_ASSIGN(const GgufTensor* embedding, tensors_.require("token_embd.weight"));
    if (embedding->rank != 2 || embedding->dims[0] != layout_.config.width || embedding->dims[1] == 0 || embedding->dims[1] > INT32_MAX) {
      return tensors_.wrong_shape(*embedding, formatted("[{}, 1 to 2^31 - 1 tokens]", layout_.config.width));
    }
    layout_.vocabulary = embedding->dims[1];
    return {};
  }

  Status add_layer(uint32_t layer) {
    const ModelConfig& config = layout_.config;
    LayerLayout parts;
    OTR_TRY(add_attention(layer, parts));
    name_part(MatrixPart::kAttention);
    OTR_ASSIGN(parts.ffn_norm, tensors_.add_fixed(layer_tensor_name(layer, "ffn_norm"), config.width));
    if (config.experts == 0) {
      OTR_TRY(add_ffn(layer, {"ffn_gate", "ffn_up", "ffn_down"}, config.ffn_width, config.traits->ffn_bias, parts.ffn));
      name_part(MatrixPart::kFeedForward);
    } else {
      OTR_TRY(add_mixture(layer, parts));
      name_part(MatrixPart::kHost);
    }
    layout_.layers.push_back(parts);
    return {};
  }

  // What was added since the last call.
  void name_part(MatrixPart part) {
    for (; named_ < layout_.shape.matrices.size(); ++named_) layout_.shape.matrices[named_].part = part;
  }

  Status add_attention(uint32_t layer, LayerLayout& parts) {
    const ModelConfig& config = layout_.config;
    const ArchitectureTraits& traits = *config.traits;
    OTR_ASSIGN(parts.attention_norm, tensors_.add_fixed(layer_tensor_name(layer, "attn_norm"), config.width));
    OTR_ASSIGN(parts.q, add_part(layer, "attn_q", config.attention_width(), config.width, traits.qkv_bias));
    OTR_ASSIGN(parts.k, add_part(layer, "attn_k", config.kv_width(), config.width, traits.qkv_bias));
    OTR_ASSIGN(parts.v, add_part(layer, "attn_v", config.kv_width(), config.width, traits.qkv_bias));
    if (traits.query_key_norm) {
      OTR_ASSIGN(parts.query_norm, tensors_.add_fixed(layer_tensor_name(layer, "attn_q_norm"), config.head_dim));
      OTR_ASSIGN(parts.key_norm, tensors_.add_fixed(layer_tensor_name(layer, "attn_k_norm"), config.head_dim));
    }
    OTR_TRY(add_branches(layer, {{parts.q, "attn_q"}, {parts.k, "attn_k"}, {parts.v, "attn_v"}}));
    OTR_ASSIGN(parts.output, add_part(layer, "attn_output", config.width, config.attention_width(), traits.output_bias));
    return add_branches(layer, {{parts.output, "attn_output"}});
  }

  struct FfnNames {
    const char *gate, *up, *down;
  };

  Status add_ffn(uint32_t layer, const FfnNames& names, uint64_t ffn_width, Presence bias, FfnLayout& ffn) {
    const uint64_t width = layout_.config.width;
    OTR_ASSIGN(ffn.gate, add_part(layer, names.gate, ffn_width, width, bias));
    OTR_ASSIGN(ffn.up, add_part(layer, names.up, ffn_width, width, bias));
    OTR_TRY(add_branches(layer, {{ffn.gate, names.gate}, {ffn.up, names.up}}));
    OTR_ASSIGN(ffn.down, add_part(layer, names.down, width, ffn_width, bias));
    return add_branches(layer, {{ffn.down, names.down}});
  }

  struct NamedMatrix {
    uint32_t matrix;
    const char* part;
  };

  // Ends a window: first what its branches make of its input, which belongs to it; then what they add to its results.
  Status add_branches(uint32_t layer, std::initializer_list<NamedMatrix> window) {
    uint32_t components = 0;
    for (const auto& [matrix, part] : window) {
      const std::string name_a = layer_tensor_name(layer, part, "branch_a");
      if (!tensors_.has(name_a) || layout_.shape.matrices[matrix].use == MatrixUse::kRouted) continue;  // of experts: refused as left over
      OTR_ASSIGN(const uint32_t rank, tensors_.rank_of_branch(name_a));
      OTR_ASSIGN(const uint32_t a, tensors_.add_matrix(name_a, layer, rank, layout_.weights[matrix].columns));
      layout_.branches[matrix] = {a, kNoMatrix, rank, components};
      layout_.corrects[a] = matrix;
      layout_.shape.matrices[a].is_branch = true;
      components += rank;
    }
    uint64_t rows = 0;
    bool is_corrected = components > 0;
    for (const auto& [matrix, part] : window) {
      OTR_TRY(add_residual(layer, matrix, part));
      rows += layout_.weights[matrix].rows;
      is_corrected |= layout_.residuals[matrix].file_bytes > 0;
    }
    if (is_corrected)
      layout_.shape.correction_row_bytes = std::max(layout_.shape.correction_row_bytes, (rows * sizeof(float) + 63) / 64 * 64);
    layout_.panels.most_components = std::max(layout_.panels.most_components, components);
    tensors_.next_window();
    if (components == 0) return {};
    for (const auto& [matrix, part] : window) {
      BranchLayout& branch = layout_.branches[matrix];
      if (branch.rank == 0) continue;
      OTR_ASSIGN(const uint32_t b,
                 tensors_.add_matrix(layer_tensor_name(layer, part, "branch_b"), layer, layout_.weights[matrix].rows, branch.rank));
      layout_.branches[matrix].b = b;
      layout_.corrects[b] = matrix;
      layout_.shape.matrices[b].is_branch = layout_.shape.matrices[b].adds_to_window = true;
    }
    tensors_.next_window();
    return {};
  }

  // Of a stack all tensors have the experts as their last dimension.
  Status add_residual(uint32_t layer, uint32_t matrix, const char* part) {
    const std::string name = layer_tensor_name(layer, part, "residual");
    if (!tensors_.has(name)) return {};
    const WeightSource& weight = layout_.weights[matrix];
    const bool is_stack = layout_.shape.matrices[matrix].use == MatrixUse::kRouted;
    const std::optional<uint32_t> experts = is_stack ? std::optional(weight.experts) : std::nullopt;
    ResidualLayout& residual = layout_.residuals[matrix];
    OTR_ASSIGN(residual, tensors_.take_residual(name, weight.rows, weight.columns, experts));
    OTR_ASSIGN(residual.norms, tensors_.add_fixed(name + "_norms", weight.columns, experts));
    OTR_ASSIGN(residual.means, tensors_.add_fixed(name + "_means", weight.columns, experts));
    OTR_ASSIGN(residual.bias, tensors_.add_fixed(name + "_bias", weight.rows, experts));
    OTR_ASSIGN(residual.thresholds, tensors_.add_fixed(name + "_thresholds", ThresholdTable::kSteps + 1, experts));
    residual.offset = layout_.shape.residual_bytes;
    layout_.shape.residual_bytes += (residual.file_bytes + 63) / 64 * 64;
    layout_.panels.residual_columns = std::max(layout_.panels.residual_columns, weight.columns);
    return {};
  }

  // In the order of the step: the router first, so that reading the experts it chooses begins; the shared expert meanwhile.
  Status add_mixture(uint32_t layer, LayerLayout& parts) {
    const ModelConfig& config = layout_.config;
    OTR_ASSIGN(parts.router, tensors_.add_matrix(layer_tensor_name(layer, "ffn_gate_inp"), layer, config.experts, config.width));
    tensors_.next_window();
    if (config.shared_ffn_width > 0) {
      OTR_ASSIGN(parts.shared_gate, tensors_.add_fixed(layer_tensor_name(layer, "ffn_gate_inp_shexp"), config.width));
      OTR_TRY(
          add_ffn(layer, {"ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"}, config.shared_ffn_width, Presence::kNever, parts.shared));
    }
    OTR_ASSIGN(parts.ffn.gate, tensors_.add_stack("ffn_gate", layer, config.expert_ffn_width, config.width));
    OTR_ASSIGN(parts.ffn.up, tensors_.add_stack("ffn_up", layer, config.expert_ffn_width, config.width));
    OTR_TRY(add_branches(layer, {{parts.ffn.gate, "ffn_gate_exps"}, {parts.ffn.up, "ffn_up_exps"}}));
    OTR_ASSIGN(parts.ffn.down, tensors_.add_stack("ffn_down", layer, config.width, config.expert_ffn_width));
    return add_branches(layer, {{parts.ffn.down, "ffn_down_exps"}});
  }

  // A layer's matrix and its bias. What a later layer has beyond the first one is left over, and refused as such.
  Result<uint32_t> add_part(uint32_t layer, const char* part, uint64_t rows, uint64_t columns, Presence bias) {
    OTR_ASSIGN(const uint32_t matrix, tensors_.add_matrix(layer_tensor_name(layer, part), layer, rows, columns));
    const bool has_bias = bias == Presence::kAlways || (bias == Presence::kIfPresent && tensors_.has(layer_tensor_name(0, part, "bias")));
    if (has_bias) {
      OTR_ASSIGN(layout_.biases[matrix], tensors_.add_fixed(layer_tensor_name(layer, part, "bias"), rows));
    }
    return matrix;
  }

  Status add_rope_factors() {
    const std::string name = "rope_freqs.weight";
    if (!tensors_.has(name)) return {};
    const RopeScalingKind kind = layout_.config.rope_scaling.kind;
    if (kind == RopeScalingKind::kLlama3 || kind == RopeScalingKind::kYarn) {
      return Status(StatusCode::kUnsupported,
                    formatted("{} and {} both scale RoPE's frequencies by index; this version computes one of them", name,
                              layout_.config.architecture + ".rope.scaling.type"))
          .in_file(file_.source().name())
          .about(name);
    }
    OTR_ASSIGN(layout_.rope_factors, tensors_.add_fixed(name, layout_.config.rope_dim / 2));
    return {};
  }

  Status add_head() {
    const ModelConfig& config = layout_.config;
    const bool tied = !tensors_.has("output.weight");
    OTR_ASSIGN(layout_.head,
               tensors_.add_matrix(tied ? "token_embd.weight" : "output.weight", config.layers, layout_.vocabulary, config.width));
    layout_.shape.matrices[layout_.head].use = MatrixUse::kLogits;
    layout_.shape.matrices[layout_.head].part = MatrixPart::kHead;
    layout_.shape.matrices[layout_.head].also_rows = tied;
    layout_.embedding = layout_.head;
    if (tied) return {};
    tensors_.next_window();
    OTR_ASSIGN(layout_.embedding, tensors_.add_matrix("token_embd.weight", config.layers, layout_.vocabulary, config.width));
    layout_.shape.matrices[layout_.embedding].use = MatrixUse::kRowLookup;
    return {};
  }

  // What a token has to do with: all of it, of a stack what belongs to the experts that the token takes.
  uint64_t residual_reach(size_t matrix) const {
    const ResidualLayout& residual = layout_.residuals[matrix];
    return layout_.shape.matrices[matrix].use == MatrixUse::kRouted ? residual.file_bytes / residual.experts * layout_.config.used_experts
                                                                    : residual.file_bytes;
  }

  // To each matrix its part by size: what the file says is the sum; without it all that a token has to do with.
  void share_residual_reads() {
    StepShape& shape = layout_.shape;
    uint64_t all = 0;
    for (size_t i = 0; i < shape.matrices.size(); ++i) all += residual_reach(i);
    const GgufValue* const value = file_.find(kResidualReadsKey);
    const Result<uint64_t> said = value != nullptr ? value->as_u64() : Result<uint64_t>(all);
    const uint64_t reads = said.is_ok() ? std::min(all, said.value()) : all;
    shape.residual_read_bytes_per_token = reads;
    for (size_t i = 0; i < shape.matrices.size(); ++i) {
      const double share = static_cast<double>(residual_reach(i)) / static_cast<double>(all);
      shape.matrices[i].residual_read_bytes = static_cast<uint64_t>(std::ceil(share * static_cast<double>(reads)));
    }
  }

  void fill_shape() {
    const ModelConfig& config = layout_.config;
    StepShape& shape = layout_.shape;
    shape.used_experts = config.used_experts;
    shape.fixed_bytes = tensors_.fixed_floats() * sizeof(float);
    shape.kv_layers = config.layers;
    shape.kv_runs = 2 * config.kv_heads;
    shape.kv_bytes_per_token = uint64_t{config.layers} * 2 * config.kv_width() * sizeof(uint16_t);
    shape.kv_takes_q8_0 = kv_type_fits(KvType::kQ8_0, config.head_dim);
    shape.kv_granule_tokens = kKvInterleave;
    shape.context_tokens = config.context_tokens;
    if (config.window_tokens != 0 && config.window_tokens < shape.context_tokens) {
      shape.context_tokens = config.window_tokens;
      shape.context_note =
          formatted("its attention looks back over {} tokens, and longer contexts with such a window are not computed by this version",
                    config.window_tokens);
    }
    for (const uint32_t tokens : kStepTokens) shape.activations.push_back({tokens, StepBuffers::bytes(config, layout_.panels, tokens)});
    shape.activation_bytes_per_thread = attention_scratch_bytes(config.head_dim) + StepBuffers::residual_scratch_bytes(layout_.panels);
    if (shape.residual_bytes > 0) share_residual_reads();
    shape.residual_row_bytes = config.width * sizeof(float);
    shape.logits_row_bytes = StepBuffers::logits_row_bytes(layout_.vocabulary);
    PanelKinds of_copies = layout_.panels;
    of_copies.has_int8 = true;
    shape.draft_step_bytes = StepBuffers::bytes(config, of_copies, kStandInTokens);
    // Of a 135M model of 30 layers 0.14 ms a token, with everything resident, where attention ran at 181 Gflop/s on the same two cores.
    constexpr double kFlopsOfElement = 100;
    const double ffn =
        3.0 * (config.experts > 0 ? config.shared_ffn_width + uint64_t{config.used_experts} * config.expert_ffn_width : config.ffn_width);
    const double elements =
        4.0 * static_cast<double>(config.width) + 2.0 * static_cast<double>(config.attention_width() + config.kv_width()) + ffn;
    shape.activation_flops_per_token = kFlopsOfElement * elements * config.layers;
    // A score and a weighted value: two multiply-adds of head_dim elements for each head.
    shape.attention_flops_per_token_per_position = 4.0 * static_cast<double>(config.attention_width()) * config.layers;
  }

  const GgufFile& file_;
  ModelLayout layout_;
  LayoutTensors tensors_;
  size_t named_ = 0;  // matrices whose part is known
};

}  // namespace

Result<ModelLayout> lay_out_model(const GgufFile& file, const ModelConfig& config) { return LayoutBuilder(file, config).build(); }

}  // namespace outrigger
