// CompressedFile: header, places, and what is copied.
#include "src/compress/compressed_file.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "src/base/bytes.h"
#include "src/base/macros.h"
#include "src/compress/factor_codes.h"
#include "src/io/gguf_header.h"
#include "src/model/layout_tensors.h"
#include "src/model/model_copy.h"
#include "src/tensor/own_form.h"

namespace outrigger {
namespace {

constexpr uint64_t kChunkBytes = 2_MiB;
constexpr uint64_t kAlignment = 4096;  // for direct reads
constexpr const char* kAlignmentKey = "general.alignment";

uint64_t aligned(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/// A tensor of the new file: one of the old file's, or one of rows and columns.
struct Target {
  std::string name;
  const GgufTensor* source = nullptr;
  DType type = DType::kF32;
  uint64_t columns = 0, rows = 0;
  uint64_t experts = 0;  ///< of a stack
  bool is_table = false;  ///< vectors of experts, one a row

  bool is_own() const { return source == nullptr && is_own_type(type); }
  bool is_vector() const { return type == DType::kF32; }
  uint64_t bytes() const { return source != nullptr ? source->bytes : std::max<uint64_t>(experts, 1) * rows * *row_bytes(type, columns); }
};

// "blk.0.attn_q.weight" and "branch_a" make "blk.0.attn_q.branch_a".
std::string named_like(const std::string& weight, const char* kind) { return weight.substr(0, weight.rfind('.') + 1) + kind; }

// `read_bytes`: of residuals, by each token.
std::vector<Target> choose_targets(const Model::Impl& model, std::span<const MatrixPlan> plans, int factor_bits, uint64_t* read_bytes) {
  double reads = 0;
  std::map<uint64_t, const GgufTensor*> by_offset;
  for (const GgufTensor& tensor : model.file.tensors()) by_offset.emplace(tensor.offset, &tensor);
  std::vector<Target> backbone, branches, targets;
  std::set<const GgufTensor*> replaced;
  for (const uint32_t matrix : matrices_of_layers(*model.layout)) {
    const WeightSource& weight = model.layout->weights[matrix];
    const MatrixPlan& plan = plans[matrix];
    const GgufTensor* const source = by_offset.at(weight.file_offset);
    replaced.insert(source);
    for (const uint64_t offset : weight.expert_offsets) replaced.insert(by_offset.at(offset));
    // Of experts that of their stack, also where each has a tensor of its own.
    const std::string& name = model.layout->shape.matrices[matrix].name;
    const uint64_t experts = is_stack(*model.layout, matrix) ? weight.experts : 0;
    backbone.push_back({name, nullptr, plan.type(), weight.columns, weight.rows, experts});
    if (plan.rank > 0) {
      const DType type = factor_type(factor_bits);
      branches.push_back({named_like(name, "branch_a"), nullptr, type, weight.columns, plan.rank});
      branches.push_back({named_like(name, "branch_b"), nullptr, type, plan.rank, weight.rows});
    }
    if (plan.share > 0) {
      branches.push_back({named_like(name, "residual"), nullptr, DType::kQ4_0, weight.rows, weight.columns, experts});
      for (const auto& [kind, elements] : {std::pair{"residual_norms", weight.columns},
                                           {"residual_means", weight.columns},
                                           {"residual_bias", weight.rows},
                                           {"residual_thresholds", uint64_t{ThresholdTable::kSteps + 1}}}) {
        branches.push_back({named_like(name, kind), nullptr, DType::kF32, elements, std::max<uint64_t>(experts, 1), 0, experts > 0});
      }
      reads += plan.share * static_cast<double>(reached_residual_bytes(*model.layout, matrix));
    }
  }
  for (const GgufTensor& tensor : model.file.tensors()) {
    if (!replaced.contains(&tensor)) targets.push_back({tensor.name, &tensor, tensor.type, 0, 0});
  }
  targets.insert(targets.end(), backbone.begin(), backbone.end());
  targets.insert(targets.end(), branches.begin(), branches.end());
  *read_bytes = static_cast<uint64_t>(reads);
  return targets;
}

void add_tensor(const Target& target, GgufHeader* header) {
  if (target.source != nullptr) {
    const GgufTensor& source = *target.source;
    return header->add_tensor(source.name, source.type, std::span(source.dims).first(source.rank), source.is_packed);
  }
  const uint64_t dims[] = {target.is_own() ? *row_bytes(target.type, target.columns) : target.columns, target.rows, target.experts};
  const size_t rank = target.experts > 0 ? 3 : target.is_vector() && !target.is_table ? 1 : 2;
  header->add_tensor(target.name, target.is_own() ? DType::kI8 : target.type, std::span(dims).first(rank));
}

// A key that the file has and we set keeps its place. The size of the whole file in `bytes`.
std::string make_header(const GgufFile& file, std::span<const Target> targets, uint64_t residual_reads, uint64_t* bytes) {
  GgufHeader header;
  for (const GgufValue* value : values_in_order(file)) {
    const std::string& key = value->key();
    if (key != kAlignmentKey && key != kGgufOwnNamesKey && key != kGgufOwnTypesKey) header.add_value(*value);
  }
  header.add_u32(kAlignmentKey, static_cast<uint32_t>(kAlignment));
  if (residual_reads > 0) header.add_u64(kResidualReadsKey, residual_reads);
  header.begin_array(kGgufOwnNamesKey, GgufType::kString);
  for (const Target& target : targets) {
    if (target.is_own()) header.add_element(target.name);
  }
  header.end_array();
  header.begin_array(kGgufOwnTypesKey, GgufType::kI32);
  for (const Target& target : targets) {
    if (target.is_own()) header.add_element(static_cast<int32_t>(target.type));
  }
  header.end_array();
  for (const Target& target : targets) add_tensor(target, &header);
  std::vector<uint64_t> places;
  uint64_t next = aligned(header.bytes());
  for (const Target& target : targets) {
    places.push_back(next);
    next += aligned(target.bytes());
  }
  *bytes = next;
  return header.finish(places, kAlignment);
}

}  // namespace

Result<CompressedFile> CompressedFile::create(const Model::Impl& model, const std::string& path, std::span<const MatrixPlan> plans,
                                              int factor_bits) {
  OTR_ASSIGN(const GgufFile with_arrays, read_header_again(model));
  uint64_t bytes = 0, residual_reads = 0;
  const std::vector<Target> targets = choose_targets(model, plans, factor_bits, &residual_reads);
  const std::string header = make_header(with_arrays, targets, residual_reads, &bytes);
  OTR_ASSIGN(AtomicFile out, AtomicFile::create(path, 0666));
  OTR_TRY(out.reserve(bytes));
  CompressedFile file(std::move(out), bytes, plans.size());
  OTR_TRY(file.write(std::as_bytes(std::span(header))));
  DirectBuffer staging;
  const ByteSource& source = model.file.source();
  for (const Target& target : targets) {
    if (target.source == nullptr) break;
    const GgufTensor& tensor = *target.source;
    file.copies_[tensor.offset] = file.written_bytes_;
    for (uint64_t done = 0, some; done < tensor.bytes; done += some) {
      some = std::min(tensor.bytes - done, kChunkBytes);
      OTR_ASSIGN(const std::byte* data, source.read_direct(tensor.offset + done, some, staging.take(source.direct_staging_bytes(some))));
      OTR_TRY(file.write({data, some}));
    }
    OTR_TRY(file.write(LeasedVector<std::byte>(aligned(tensor.bytes) - tensor.bytes)));
  }
  return file;
}

Status CompressedFile::write(std::span<const std::byte> bytes) {
  written_bytes_ += bytes.size();
  return out_.write(bytes);
}

Status CompressedFile::write_tensor(std::span<const std::byte> bytes) {
  OTR_TRY(write(bytes));
  return write(LeasedVector<std::byte>(aligned(bytes.size()) - bytes.size()));
}

Status CompressedFile::write_backbone(uint32_t matrix, const LowBitMatrix& made) {
  places_[matrix] = written_bytes_;
  return write_tensor(made.bytes);
}

Status CompressedFile::write_branch(const LowRankBranch& branch) {
  OTR_TRY(write_tensor(branch.a));
  return write_tensor(branch.b);
}

Status CompressedFile::write_residual(const SelectiveResidual& residual) {
  OTR_TRY(write_tensor(residual.columns.bytes));
  for (const std::span<const float> values : {std::span<const float>(residual.columns.norms), std::span<const float>(residual.means),
                                              std::span<const float>(residual.columns.bias)}) {
    OTR_TRY(write_tensor(std::as_bytes(values)));
  }
  return write_tensor(std::as_bytes(std::span(residual.thresholds)));
}

}  // namespace outrigger
