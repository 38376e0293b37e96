// ExportedTensor: names, shapes and types as other engines know them.
#include "src/compress/exported_tensor.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "src/tensor/dequantize.h"
#include "src/tensor/half.h"
#include "src/tensor/own_form.h"
#include "src/tensor/recode_own.h"

namespace outrigger {
namespace {

constexpr std::string_view kBranchIn = ".branch_a", kBranchOut = ".branch_b";

// "blk.0.attn_q.weight": whether RoPE turns what its rows give.
bool is_of_query_or_key(std::string_view name) {
  return name.find(".attn_q.") != std::string_view::npos || name.find(".attn_k.") != std::string_view::npos;
}

// Directories have the halves of a head one after the other, and programs that read GGUF files of this architecture expect pairs.
bool must_turn(const ModelConfig& config) {
  return config.rope_style == RopeStyle::kHalves && config.traits->rope_style == RopeStyle::kInterleaved;
}

ExportedTensor as_it_is(const GgufTensor& tensor, std::string name, const ModelConfig& config) {
  ExportedTensor made;
  made.name = std::move(name);
  made.dims.assign(tensor.dims.begin(), tensor.dims.begin() + tensor.rank);
  made.type = tensor.type;
  made.source = &tensor;
  made.columns = tensor.row_elements(), made.rows = tensor.rows();
  const bool has_row_of_output = !tensor.name.ends_with(kBranchIn);
  if (!must_turn(config) || !is_of_query_or_key(tensor.name) || !has_row_of_output) return made;
  made.head_rows = config.head_dim, made.turned_rows = config.rope_dim;
  if (tensor.rank == 1) std::swap(made.columns, made.rows);
  return made;
}

// What Llama 3 does to frequencies is a tensor in GGUF files.
ExportedTensor rope_frequencies(const ModelConfig& config) {
  ExportedTensor made;
  made.name = "rope_freqs.weight";
  for (const double divisor : rope_divisors(config.rope_scaling, config.rope_base, config.rope_dim))
    made.values.push_back(static_cast<float>(divisor));
  made.dims = {made.values.size()};
  made.columns = made.values.size(), made.rows = 1;
  return made;
}

bool is_dense(DType type) { return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16; }

void to_f16(const float* values, size_t count, std::byte* dst) {
  for (size_t i = 0; i < count; ++i) {
    const uint16_t bits = float_to_f16(values[i]);
    std::memcpy(dst + 2 * i, &bits, 2);
  }
}

}  // namespace

uint64_t ExportedTensor::row_bytes() const { return *outrigger::row_bytes(type, columns); }
uint64_t ExportedTensor::bytes() const { return rows * row_bytes(); }
uint64_t ExportedTensor::source_row_bytes() const { return *outrigger::row_bytes(source->type, columns); }

uint64_t ExportedTensor::source_row(uint64_t row) const {
  if (head_rows == 0) return row;
  const uint64_t in_head = row % head_rows;
  return in_head < turned_rows ? row - in_head + in_head / 2 + in_head % 2 * (turned_rows / 2) : row;
}

std::vector<ExportedTensor> backbone_tensors(const Model::Impl& model) {
  const ModelConfig& config = model.layout->config;
  std::vector<ExportedTensor> tensors;
  if (config.rope_scaling.kind == RopeScalingKind::kLlama3) tensors.push_back(rope_frequencies(config));
  for (const GgufTensor& tensor : model.file.tensors()) {
    if (tensor.name.ends_with(kBranchIn) || tensor.name.ends_with(kBranchOut)) continue;
    tensors.push_back(as_it_is(tensor, tensor.name, config));
    if (is_own_type(tensor.type)) tensors.back().type = own_form(tensor.type).has_codebook ? DType::kF16 : DType::kQ4_1;
    if (tensor.rank == 1 && is_dense(tensor.type)) tensors.back().type = DType::kF32;  // others add and multiply these in float32 only
  }
  return tensors;
}

std::vector<ExportedTensor> adapter_tensors(const Model::Impl& model) {
  std::vector<ExportedTensor> tensors;
  for (const GgufTensor& tensor : model.file.tensors()) {
    for (const auto& [ours, theirs] : {std::pair{kBranchIn, ".weight.lora_a"}, {kBranchOut, ".weight.lora_b"}}) {
      if (!tensor.name.ends_with(ours)) continue;
      tensors.push_back(as_it_is(tensor, tensor.name.substr(0, tensor.name.size() - ours.size()) + theirs, model.layout->config));
      tensors.back().type = DType::kF16;
    }
  }
  return tensors;
}

void convert_rows(const ExportedTensor& tensor, const std::byte* src, uint64_t count, std::byte* dst) {
  const DType from = tensor.source->type;
  const uint64_t elements = count * tensor.columns;
  if (from == tensor.type) {
    std::memcpy(dst, src, count * tensor.row_bytes());
  } else if (tensor.type == DType::kQ4_1) {
    recode_own_as_q4_1(from, src, elements / traits(from).block_elements, dst);
  } else if (tensor.type == DType::kF32) {
    (void)dequantize(from, src, reinterpret_cast<float*>(dst),
                     elements);  // cannot fail: a model that runs has types whose values are known
  } else {
    std::vector<float> values(elements);
    (void)dequantize(from, src, values.data(), elements);
    to_f16(values.data(), elements, dst);
  }
}

}  // namespace outrigger
