// Finds, checks and enters the tensors of a model.
#include "src/model/layout_tensors.h"

#include <charconv>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/kernels/sparse_residual.h"
#include "src/tensor/packed.h"

namespace outrigger {
namespace {

constexpr uint64_t kNoLayer = UINT64_MAX;
constexpr uint64_t kMostComponents = 1 << 16;  // of a branch: more than any matrix has rows
constexpr uint64_t kFloatsPerLine = 16;  // 64 bytes: fixed tensors start on cache lines

// N of "blk.N.": what a tensor's name says of its layer.
uint64_t layer_of(std::string_view name) {
  if (!name.starts_with("blk.")) return kNoLayer;
  name.remove_prefix(4);
  uint64_t layer = kNoLayer;
  std::from_chars(name.data(), name.data() + name.size(), layer);
  return layer;
}

bool has_shape(const GgufTensor& tensor, uint64_t rows, uint64_t columns) {
  return tensor.rank == 2 && tensor.dims[0] == columns && tensor.dims[1] == rows;
}

// A packed row is looked up with its row block. Else rows are whole blocks: the reader has checked.
WeightSource source_of(const GgufTensor& tensor, PackedKind kind, uint64_t rows, uint64_t columns) {
  const uint64_t row = tensor.is_packed ? packed_block_bytes(kind, columns) : row_bytes(tensor.type, columns).value();
  return {tensor.type, kind, rows, columns, tensor.offset, row, tensor.is_packed, 1, {}};
}

}  // namespace

std::string layer_tensor_name(uint32_t layer, const char* part, const char* kind) { return formatted("blk.{}.{}.{}", layer, part, kind); }

Result<const GgufTensor*> LayoutTensors::require(const std::string& name) const {
  const GgufTensor* tensor = file_.find_tensor(name);
  if (tensor != nullptr) return tensor;
  const ModelConfig& config = layout_.config;
  return Status(StatusCode::kCorruptFile,
                formatted("tensor {} is missing, which \"{}\" with {} layers needs", name, config.architecture, config.layers))
      .in_file(file_.source().name())
      .about(name);
}

Status LayoutTensors::wrong_shape(const GgufTensor& tensor, const std::string& need) const {
  const std::vector<uint64_t> dims(tensor.dims.begin(), tensor.dims.begin() + tensor.rank);
  return Status(StatusCode::kCorruptFile, formatted("shape of {}: got [{}], need {}", tensor.name, joined(dims, ", "), need))
      .in_file(file_.source().name()).about(tensor.name);
}

Result<PackedKind> LayoutTensors::kind_of(const GgufTensor& tensor) const {
  if (const std::optional<PackedKind> kind = packed_kind(tensor.type)) return *kind;
  return Status(StatusCode::kUnsupported, formatted("weights of type {} cannot be run by this version (F32, F16, BF16, Q8_0, Q4_0, Q4_1, "
                                                    "Q5_0, Q5_1, Q2_K to Q6_K, IQ4_NL, IQ4_XS and MXFP4 can)",
                                                    traits(tensor.type).name))
      .in_file(file_.source().name())
      .about(tensor.name);
}

uint32_t LayoutTensors::enter(const std::string& name, uint32_t layer, MatrixUse use, WeightSource source) {
  MatrixShape shape;
  shape.name = name;
  shape.layer = layer;
  shape.window = window_;
  shape.rows = source.rows;
  shape.columns = source.columns;
  shape.experts = source.experts;
  shape.file_bytes = source.expert_file_bytes() * source.experts;
  shape.packed_bytes = packed_bytes(source.kind, source.rows, source.columns) * source.experts;
  shape.row_block_bytes = packed_block_bytes(source.kind, source.columns);
  shape.row_block_file_bytes = source.block_file_bytes();
  shape.row_file_bytes = source.row_bytes;
  shape.is_packed = source.is_packed;
  shape.use = use;
  layout_.shape.matrices.push_back(shape);
  layout_.panels.add(source.kind);
  layout_.weights.push_back(std::move(source));
  layout_.biases.push_back(kNoTensor);
  layout_.branches.emplace_back();
  layout_.residuals.emplace_back();
  layout_.corrects.push_back(kNoMatrix);
  return static_cast<uint32_t>(layout_.weights.size() - 1);
}

Result<uint32_t> LayoutTensors::add_matrix(const std::string& name, uint32_t layer, uint64_t rows, uint64_t columns) {
  OTR_ASSIGN(const GgufTensor* tensor, require(name));
  if (!has_shape(*tensor, rows, columns)) return wrong_shape(*tensor, formatted("[{}, {}]", columns, rows));
  OTR_ASSIGN(const PackedKind kind, kind_of(*tensor));
  used_.insert(name);
  return enter(name, layer, MatrixUse::kEveryToken, source_of(*tensor, kind, rows, columns));
}

Result<uint32_t> LayoutTensors::rank_of_branch(const std::string& name) const {
  OTR_ASSIGN(const GgufTensor* tensor, require(name));
  const uint64_t rank = tensor->rank == 2 ? tensor->dims[1] : 0;
  if (rank == 0 || rank % kGroup != 0 || rank > kMostComponents)
    return wrong_shape(*tensor, formatted("[columns, a multiple of {} up to {}]", kGroup, kMostComponents));
  const std::optional<PackedKind> kind = packed_kind(tensor->type);
  if (kind && takes_int8_activations(*kind)) return static_cast<uint32_t>(rank);
  return Status(StatusCode::kUnsupported,
                formatted("a branch of type {} cannot be run by this version (Q8_0, Q4_0 and other types of few bits can)",
                          traits(tensor->type).name))
      .in_file(file_.source().name())
      .about(name);
}

Result<ResidualLayout> LayoutTensors::take_residual(const std::string& name, uint64_t rows, uint64_t columns,
                                                    std::optional<uint32_t> experts) {
  OTR_ASSIGN(const GgufTensor* tensor, require(name));
  const bool fits = experts ? tensor->rank == 3 && tensor->dims[0] == rows && tensor->dims[1] == columns && tensor->dims[2] == *experts
                            : has_shape(*tensor, columns, rows);
  if (!fits || rows % kResidualGroup != 0) {
    return wrong_shape(*tensor, formatted("[{}, {}{}], and columns of whole blocks of {}", rows, columns,
                                          experts ? formatted(", {}", *experts) : "", kResidualGroup));
  }
  if ((tensor->type != DType::kQ4_0 && tensor->type != DType::kIQ4_NL) || tensor->is_packed) {
    return Status(StatusCode::kUnsupported,
                  formatted("a residual of type {} cannot be run by this version (Q4_0 and IQ4_NL can)", traits(tensor->type).name))
        .in_file(file_.source().name())
        .about(name);
  }
  used_.insert(name);
  ResidualLayout residual;
  residual.type = tensor->type;
  residual.file_offset = tensor->offset;
  residual.file_bytes = tensor->bytes;
  residual.experts = experts.value_or(1);
  return residual;
}

Result<WeightSource> LayoutTensors::whole_stack(const GgufTensor& tensor, uint64_t rows, uint64_t columns) {
  const uint32_t experts = layout_.config.experts;
  if (tensor.rank != 3 || tensor.dims[0] != columns || tensor.dims[1] != rows || tensor.dims[2] != experts) {
    return wrong_shape(tensor, formatted("[{}, {}, {}]", columns, rows, experts));
  }
  OTR_ASSIGN(const PackedKind kind, kind_of(tensor));
  used_.insert(tensor.name);
  WeightSource source = source_of(tensor, kind, rows, columns);
  source.experts = experts;
  return source;
}

Result<WeightSource> LayoutTensors::single_experts(const char* part, uint32_t layer, uint64_t rows, uint64_t columns) {
  const bool is_old = has(layer_tensor_name(layer, part, "0.weight"));
  WeightSource source;
  for (uint32_t expert = 0; expert < layout_.config.experts; ++expert) {
    const std::string name = formatted("blk.{}.{}{}.{}.weight", layer, part, is_old ? "" : "_exps", expert);
    OTR_ASSIGN(const GgufTensor* tensor, require(name));
    if (!has_shape(*tensor, rows, columns)) return wrong_shape(*tensor, formatted("[{}, {}]", columns, rows));
    OTR_ASSIGN(const PackedKind kind, kind_of(*tensor));
    if (expert == 0) {
      source = source_of(*tensor, kind, rows, columns);
      source.experts = layout_.config.experts;
    }
    if (tensor->type != source.type || tensor->is_packed != source.is_packed) {
      return Status(StatusCode::kUnsupported,
                    formatted("expert {} is {} and expert 0 {}; this version needs the experts of a layer to be of one type", expert,
                              traits(tensor->type).name, traits(source.type).name))
          .in_file(file_.source().name())
          .about(name);
    }
    source.expert_offsets.push_back(tensor->offset);
    used_.insert(name);
  }
  return source;
}

Result<uint32_t> LayoutTensors::add_stack(const char* part, uint32_t layer, uint64_t rows, uint64_t columns) {
  const std::string name = formatted("blk.{}.{}_exps.weight", layer, part);
  const bool has_single = has(layer_tensor_name(layer, part, "0.weight")) || has(formatted("blk.{}.{}_exps.0.weight", layer, part));
  if (has_single && !has(name)) {
    OTR_ASSIGN(WeightSource source, single_experts(part, layer, rows, columns));
    return enter(name, layer, MatrixUse::kRouted, std::move(source));
  }
  OTR_ASSIGN(const GgufTensor* tensor, require(name));
  OTR_ASSIGN(WeightSource source, whole_stack(*tensor, rows, columns));
  return enter(name, layer, MatrixUse::kRouted, std::move(source));
}

Result<uint64_t> LayoutTensors::add_fixed(const std::string& name, uint64_t each, std::optional<uint32_t> experts) {
  OTR_ASSIGN(const GgufTensor* tensor, require(name));
  const uint64_t elements = each * experts.value_or(1);
  if (tensor->elements() != elements || tensor->dims[0] != each || tensor->dims[1] != experts.value_or(1)) {
    return wrong_shape(*tensor, experts ? formatted("[{}, {}]", each, *experts) : formatted("[{}]", each));
  }
  if (tensor->is_packed) {
    return Status(StatusCode::kCorruptFile, formatted("tensor {} is packed; only matrices that are multiplied are", name))
        .in_file(file_.source().name()).about(name);
  }
  if (!traits(tensor->type).can_dequantize) {
    return Status(StatusCode::kUnsupported, formatted("type {} cannot be read by this version", traits(tensor->type).name)).about(name);
  }
  const uint64_t offset = fixed_floats_;
  layout_.fixed.push_back({tensor->type, tensor->offset, tensor->bytes, elements, offset});
  fixed_floats_ += (elements + kFloatsPerLine - 1) / kFloatsPerLine * kFloatsPerLine;
  used_.insert(name);
  return offset;
}

Status LayoutTensors::refuse_leftovers() const {
  for (const GgufTensor& tensor : file_.tensors()) {
    if (used_.count(tensor.name) != 0) continue;
    if (const uint64_t layer = layer_of(tensor.name); layer >= layout_.config.layers && layer != kNoLayer) {
      return Status(StatusCode::kCorruptFile,
                    formatted("tensor {} is of layer {}, though the file says {} layers", tensor.name, layer, layout_.config.layers))
          .in_file(file_.source().name())
          .about(tensor.name);
    }
    return Status(StatusCode::kUnsupported,
                  formatted("tensor {} has no place in the computation of \"{}\"", tensor.name, layout_.config.architecture))
        .in_file(file_.source().name())
        .about(tensor.name);
  }
  return {};
}

}  // namespace outrigger
