// Finds every tensor of a model and describes it to the planner and the residency.
#include "src/model/layout.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <set>

#include "src/base/macros.h"
#include "src/model/step_buffers.h"
#include "src/tensor/packed.h"

namespace outrigger {
namespace {

constexpr uint64_t kNoLayer = UINT64_MAX;

// N of "blk.N.": what a tensor's name says of its layer.
uint64_t layer_of(std::string_view name) {
  if (!name.starts_with("blk.")) return kNoLayer;
  name.remove_prefix(4);
  uint64_t layer = kNoLayer;
  std::from_chars(name.data(), name.data() + name.size(), layer);
  return layer;
}

constexpr uint64_t kFloatsPerLine = 16;  // 64 bytes: fixed tensors start on cache lines

class LayoutBuilder {
 public:
  LayoutBuilder(const GgufFile& file, const ModelConfig& config) : file_(file) { layout_.config = config; }

  Result<ModelLayout> build() {
    const ModelConfig& config = layout_.config;
    OTR_TRY(read_vocabulary());
    for (uint32_t layer = 0; layer < config.layers; ++layer) OTR_TRY(add_layer(layer));
    OTR_ASSIGN(layout_.output_norm, add_fixed("output_norm.weight", config.width));
    OTR_TRY(add_rope_factors());
    OTR_TRY(add_head());
    OTR_TRY(refuse_leftovers());
    fill_shape();
    return std::move(layout_);
  }

 private:
  // The embedding's second dimension is the vocabulary: the tokenizer may be absent, its size is compared where it is used.
  Status read_vocabulary() {
    OTR_ASSIGN(const GgufTensor* embedding, require("token_embd.weight"));
    if (embedding->rank != 2 || embedding->dims[0] != layout_.config.width || embedding->dims[1] == 0 || embedding->dims[1] > INT32_MAX) {
      return wrong_shape(*embedding, fmt::format("[{}, 1 to 2^31 - 1 tokens]", layout_.config.width));
    }
    layout_.vocabulary = embedding->dims[1];
    return {};
  }

  Status add_layer(uint32_t layer) {
    const ModelConfig& config = layout_.config;
    const ArchitectureTraits& traits = *config.traits;
    LayerLayout parts;
    OTR_ASSIGN(parts.attention_norm, add_fixed(part_name(layer, "attn_norm"), config.width));
    OTR_ASSIGN(parts.q, add_part(layer, "attn_q", config.attention_width(), config.width, traits.qkv_bias));
    OTR_ASSIGN(parts.k, add_part(layer, "attn_k", config.kv_width(), config.width, traits.qkv_bias));
    OTR_ASSIGN(parts.v, add_part(layer, "attn_v", config.kv_width(), config.width, traits.qkv_bias));
    if (traits.query_key_norm) {
      OTR_ASSIGN(parts.query_norm, add_fixed(part_name(layer, "attn_q_norm"), config.head_dim));
      OTR_ASSIGN(parts.key_norm, add_fixed(part_name(layer, "attn_k_norm"), config.head_dim));
    }
    ++window_;
    OTR_ASSIGN(parts.output, add_part(layer, "attn_output", config.width, config.attention_width(), traits.output_bias));
    ++window_;
    OTR_ASSIGN(parts.ffn_norm, add_fixed(part_name(layer, "ffn_norm"), config.width));
    OTR_ASSIGN(parts.gate, add_part(layer, "ffn_gate", config.ffn_width, config.width, traits.ffn_bias));
    OTR_ASSIGN(parts.up, add_part(layer, "ffn_up", config.ffn_width, config.width, traits.ffn_bias));
    ++window_;
    OTR_ASSIGN(parts.down, add_part(layer, "ffn_down", config.width, config.ffn_width, traits.ffn_bias));
    ++window_;
    layout_.layers.push_back(parts);
    return {};
  }

  static std::string part_name(uint32_t layer, const char* part, const char* kind = "weight") { return fmt::format("blk.{}.{}.{}", layer, part, kind); }

  // A layer's matrix and its bias. What a later layer has beyond the first one is left over, and refused as such.
  Result<uint32_t> add_part(uint32_t layer, const char* part, uint64_t rows, uint64_t columns, Presence bias) {
    OTR_ASSIGN(const uint32_t matrix, add_matrix(part_name(layer, part), layer, rows, columns));
    const bool has_bias = bias == Presence::kAlways || (bias == Presence::kIfPresent && file_.find_tensor(part_name(0, part, "bias")) != nullptr);
    if (has_bias) {
      OTR_ASSIGN(layout_.biases[matrix], add_fixed(part_name(layer, part, "bias"), rows));
    }
    return matrix;
  }

  Status add_rope_factors() {
    const std::string name = "rope_freqs.weight";
    if (file_.find_tensor(name) == nullptr) return {};
    const RopeScalingKind kind = layout_.config.rope_scaling.kind;
    if (kind == RopeScalingKind::kLlama3 || kind == RopeScalingKind::kYarn) {
      return Status(StatusCode::kUnsupported, fmt::format("{} and {} both scale RoPE's frequencies by index; this version computes one of them", name,
                                                          layout_.config.architecture + ".rope.scaling.type")).in_file(file_.source().name()).about(name);
    }
    OTR_ASSIGN(layout_.rope_factors, add_fixed(name, layout_.config.rope_dim / 2));
    return {};
  }

  Status add_head() {
    const ModelConfig& config = layout_.config;
    const bool tied = file_.find_tensor("output.weight") == nullptr;
    const std::string head = tied ? "token_embd.weight" : "output.weight";
    OTR_ASSIGN(layout_.head, add_matrix(head, config.layers, layout_.vocabulary, config.width));
    layout_.shape.matrices[layout_.head].use = MatrixUse::kLogits;
    layout_.shape.matrices[layout_.head].also_rows = tied;
    layout_.embedding = layout_.head;
    if (tied) return {};
    ++window_;
    OTR_ASSIGN(layout_.embedding, add_matrix("token_embd.weight", config.layers, layout_.vocabulary, config.width));
    layout_.shape.matrices[layout_.embedding].use = MatrixUse::kRowLookup;
    return {};
  }

  Result<uint32_t> add_matrix(const std::string& name, uint32_t layer, uint64_t rows, uint64_t columns) {
    OTR_ASSIGN(const GgufTensor* tensor, require(name));
    if (tensor->rank != 2 || tensor->dims[0] != columns || tensor->dims[1] != rows) return wrong_shape(*tensor, fmt::format("[{}, {}]", columns, rows));
    const std::optional<PackedKind> kind = packed_kind(tensor->type);
    if (!kind) {
      return Status(StatusCode::kUnsupported, fmt::format("weights of type {} cannot be run by this version (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K to Q6_K, IQ4_NL, IQ4_XS and MXFP4 can)",
                                                          traits(tensor->type).name)).in_file(file_.source().name()).about(name);
    }
    const uint64_t block_bytes = packed_block_bytes(*kind, columns);
    // A packed row is looked up with its row block. Else rows are whole blocks: the reader has checked.
    const uint64_t file_row_bytes = tensor->is_packed ? block_bytes : row_bytes(tensor->type, columns).value();
    MatrixShape shape;
    shape.name = name;
    shape.layer = layer;
    shape.window = window_;
    shape.rows = rows;
    shape.columns = columns;
    shape.file_bytes = tensor->bytes;
    shape.packed_bytes = packed_bytes(*kind, rows, columns);
    shape.row_block_bytes = block_bytes;
    shape.row_block_file_bytes = tensor->is_packed ? block_bytes : file_row_bytes * kPackRows;
    shape.row_file_bytes = file_row_bytes;
    shape.is_packed = tensor->is_packed;
    layout_.shape.matrices.push_back(shape);
    layout_.weights.push_back({tensor->type, *kind, rows, columns, tensor->offset, file_row_bytes, tensor->is_packed});
    layout_.biases.push_back(kNoTensor);
    layout_.panels.add(*kind);
    used_.insert(name);
    return static_cast<uint32_t>(layout_.weights.size() - 1);
  }

  Result<uint64_t> add_fixed(const std::string& name, uint64_t elements) {
    OTR_ASSIGN(const GgufTensor* tensor, require(name));
    if (tensor->elements() != elements || tensor->dims[0] != elements) return wrong_shape(*tensor, fmt::format("[{}]", elements));
    if (tensor->is_packed) {
      return Status(StatusCode::kCorruptFile, fmt::format("tensor {} is packed; only matrices that are multiplied are", name))
          .in_file(file_.source().name()).about(name);
    }
    if (!traits(tensor->type).can_dequantize) {
      return Status(StatusCode::kUnsupported, fmt::format("type {} cannot be read by this version", traits(tensor->type).name)).about(name);
    }
    const uint64_t offset = fixed_floats_;
    layout_.fixed.push_back({tensor->type, tensor->offset, tensor->bytes, elements, offset});
    fixed_floats_ += (elements + kFloatsPerLine - 1) / kFloatsPerLine * kFloatsPerLine;
    used_.insert(name);
    return offset;
  }

  Result<const GgufTensor*> require(const std::string& name) const {
    const GgufTensor* tensor = file_.find_tensor(name);
    if (tensor == nullptr) {
      return Status(StatusCode::kCorruptFile, fmt::format("tensor {} is missing, which \"{}\" with {} layers needs", name, layout_.config.architecture, layout_.config.layers))
          .in_file(file_.source().name()).about(name);
    }
    return tensor;
  }

  Status wrong_shape(const GgufTensor& tensor, const std::string& need) const {
    const std::vector<uint64_t> dims(tensor.dims.begin(), tensor.dims.begin() + tensor.rank);
    return Status(StatusCode::kCorruptFile, fmt::format("shape of {}: got [{}], need {}", tensor.name, fmt::join(dims, ", "), need))
        .in_file(file_.source().name()).about(tensor.name);
  }

  // A bias or a second norm that is not added would change the text without a word.
  Status refuse_leftovers() const {
    for (const GgufTensor& tensor : file_.tensors()) {
      if (used_.count(tensor.name) == 0) {
        if (const uint64_t layer = layer_of(tensor.name); layer >= layout_.config.layers && layer != kNoLayer) {
          return Status(StatusCode::kCorruptFile, fmt::format("tensor {} is of layer {}, though the file says {} layers", tensor.name, layer, layout_.config.layers))
              .in_file(file_.source().name()).about(tensor.name);
        }
        return Status(StatusCode::kUnsupported, fmt::format("tensor {} has no place in the computation of \"{}\"", tensor.name, layout_.config.architecture))
            .in_file(file_.source().name()).about(tensor.name);
      }
    }
    return {};
  }

  void fill_shape() {
    const ModelConfig& config = layout_.config;
    StepShape& shape = layout_.shape;
    shape.fixed_bytes = fixed_floats_ * sizeof(float);
    shape.kv_bytes_per_token = uint64_t{config.layers} * 2 * config.kv_width() * sizeof(uint16_t);
    shape.kv_takes_q8_0 = kv_type_fits(KvType::kQ8_0, config.head_dim);
    shape.kv_granule_tokens = kKvInterleave;
    shape.context_tokens = config.context_tokens;
    if (config.window_tokens != 0 && config.window_tokens < shape.context_tokens) {
      shape.context_tokens = config.window_tokens;
      shape.context_note = fmt::format("its attention looks back over {} tokens, and longer contexts with such a window are not computed by this version", config.window_tokens);
    }
    for (const uint32_t tokens : kStepTokens) shape.activations.push_back({tokens, StepBuffers::bytes(config, layout_.panels, tokens)});
    shape.activation_bytes_per_thread = attention_scratch_bytes(config.head_dim);
    shape.logits_row_bytes = StepBuffers::logits_row_bytes(layout_.vocabulary);
    // A score and a weighted value: two multiply-adds of head_dim elements for each head.
    shape.attention_flops_per_token_per_position = 4.0 * static_cast<double>(config.attention_width()) * config.layers;
  }

  const GgufFile& file_;
  ModelLayout layout_;
  uint32_t window_ = 0;
  uint64_t fixed_floats_ = 0;
  std::set<std::string, std::less<>> used_;
};

}  // namespace

Result<ModelLayout> lay_out_model(const GgufFile& file, const ModelConfig& config) { return LayoutBuilder(file, config).build(); }

}  // namespace outrigger
