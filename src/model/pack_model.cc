// pack_model: from a model's tensors to a file of packed ones, a few megabytes at a time.
#include <outrigger/pack.h>

#include <algorithm>
#include <map>
#include <new>
#include <set>
#include <vector>

#include "src/base/bytes.h"
#include "src/base/macros.h"
#include "src/io/atomic_file.h"
#include "src/io/gguf_header.h"
#include "src/model/model_copy.h"
#include "src/tensor/packed.h"

namespace outrigger {
namespace {

// As loading does: large enough for a disk's full rate, small enough that what was read is in a cache when it is packed.
constexpr uint64_t kChunkBytes = 2_MiB;

constexpr const char* kAlignmentKey = "general.alignment";

/// A tensor of the new file. `is_packed` differs from the source's where it is to be packed.
struct Target {
  const GgufTensor* source = nullptr;
  bool is_packed = false;
  uint64_t place = 0, bytes = 0;
};

uint64_t aligned(uint64_t bytes) { return (bytes + kGgufPackedAlignment - 1) / kGgufPackedAlignment * kGgufPackedAlignment; }

// The tensors in which the layout's matrices lie, in the order of a step; several may lie in one (the experts of a layer).
std::vector<Target> choose_tensors(const Model::Impl& model) {
  std::map<uint64_t, const GgufTensor*> by_offset;
  for (const GgufTensor& tensor : model.file.tensors()) by_offset.emplace(tensor.offset, &tensor);
  std::vector<Target> matrices, targets;
  std::set<const GgufTensor*> seen;
  for (size_t i = 0; i < model.layout->weights.size(); ++i) {
    const WeightSource& weights = model.layout->weights[i];
    // Of what is only looked up single rows are read, and a packed row costs sixteen.
    const bool is_multiplied = model.layout->shape.matrices[i].use != MatrixUse::kRowLookup;
    const std::vector<uint64_t> offsets = weights.expert_offsets.empty() ? std::vector{weights.file_offset} : weights.expert_offsets;
    for (const uint64_t offset : offsets) {
      const GgufTensor* tensor = by_offset.at(offset);
      if (seen.insert(tensor).second) matrices.push_back({tensor, tensor->is_packed || is_multiplied});
    }
  }
  for (const GgufTensor& tensor : model.file.tensors()) {
    if (!seen.contains(&tensor)) targets.push_back({&tensor, tensor.is_packed});
  }
  targets.insert(targets.end(), matrices.begin(), matrices.end());
  for (Target& target : targets) {
    const GgufTensor& tensor = *target.source;
    target.bytes = tensor.bytes;
    if (target.is_packed && !tensor.is_packed) {
      target.bytes = tensor.dims[2] * packed_bytes(*packed_kind(tensor.type), tensor.dims[1], tensor.dims[0]);
    }
  }
  return targets;
}

// Entries in their order, so that packing again gives the same bytes. Sets the targets' places.
std::string make_header(const GgufFile& file, std::vector<Target>* targets) {
  GgufHeader header;
  const auto is_ours = [](const GgufValue& value) { return value.key() == kAlignmentKey || value.key() == kGgufPackedLayoutKey; };
  const auto add_ours = [&header](std::string_view key) {
    header.add_u32(key, key == kAlignmentKey ? static_cast<uint32_t>(kGgufPackedAlignment) : kGgufPackedLayout);
  };
  for (const GgufValue* value : values_in_order(file)) is_ours(*value) ? add_ours(value->key()) : header.add_value(*value);
  for (const char* key : {kAlignmentKey, kGgufPackedLayoutKey}) {
    if (file.find(key) == nullptr) add_ours(key);
  }
  for (const Target& target : *targets) {
    header.add_tensor(target.source->name, target.source->type, std::span(target.source->dims).first(target.source->rank),
                      target.is_packed);
  }
  std::vector<uint64_t> places;
  uint64_t next = aligned(header.bytes());
  for (Target& target : *targets) {
    places.push_back(target.place = next);
    next += aligned(target.bytes);
  }
  return header.finish(places, kGgufPackedAlignment);
}

class Packer {
 public:
  Packer(const GgufFile& file, const PackOptions& options, AtomicFile* out) : file_(file), options_(options), out_(*out) {
    for (const GgufTensor& tensor : file.tensors()) total_bytes_ += tensor.bytes;
  }

  Status write_tensor(const Target& target) {
    if (target.is_packed == target.source->is_packed) {
      OTR_TRY(copy(target.source->offset, target.bytes));
    } else {
      OTR_TRY(pack(*target.source));
    }
    const std::span<std::byte> padding = packed_.take(aligned(target.bytes) - target.bytes);
    std::fill(padding.begin(), padding.end(), std::byte{0});
    return out_.write(padding);
  }

  // Between chunks, and before what cannot be undone.
  Status check_cancelled(uint64_t more_bytes) {
    done_bytes_ += more_bytes;
    const double share = total_bytes_ == 0 ? 1 : static_cast<double>(done_bytes_) / static_cast<double>(total_bytes_);
    try {
      if (options_.cancel.is_cancelled() || (options_.progress && !options_.progress(share))) {
        return Status(StatusCode::kCancelled, "packing was cancelled");
      }
    } catch (...) {
      return Status(StatusCode::kInternal, "the progress callback threw");
    }
    return {};
  }

 private:
  Result<const std::byte*> read(uint64_t offset, uint64_t bytes) {
    const ByteSource& source = file_.source();
    return source.read_direct(offset, bytes, staging_.take(source.direct_staging_bytes(bytes)));
  }

  Status copy(uint64_t offset, uint64_t bytes) {
    while (bytes > 0) {
      const uint64_t some = std::min(bytes, kChunkBytes);
      OTR_ASSIGN(const std::byte* data, read(offset, some));
      OTR_TRY(out_.write({data, some}));
      OTR_TRY(check_cancelled(some));
      offset += some;
      bytes -= some;
    }
    return {};
  }

  // Its matrices one after the other, each padded to whole row blocks.
  Status pack(const GgufTensor& tensor) {
    const PackedKind kind = *packed_kind(tensor.type);
    const uint64_t columns = tensor.dims[0], row_size = *row_bytes(tensor.type, columns), block_size = packed_block_bytes(kind, columns);
    const uint64_t at_once = std::max<uint64_t>(1, kChunkBytes / block_size) * kPackRows;
    uint64_t offset = tensor.offset;
    for (uint64_t matrix = 0; matrix < tensor.dims[2]; ++matrix) {
      for (uint64_t row = 0; row < tensor.dims[1]; row += at_once) {
        const uint64_t rows = std::min(at_once, tensor.dims[1] - row);
        OTR_ASSIGN(const std::byte* data, read(offset, rows * row_size));
        const std::span<std::byte> packed = packed_.take(packed_bytes(kind, rows, columns));
        pack_rows(tensor.type, data, rows, columns, packed.data());
        OTR_TRY(out_.write(packed));
        OTR_TRY(check_cancelled(rows * row_size));
        offset += rows * row_size;
      }
    }
    return {};
  }

  const GgufFile& file_;
  const PackOptions& options_;
  AtomicFile& out_;
  DirectBuffer staging_, packed_;
  uint64_t total_bytes_ = 0, done_bytes_ = 0;
};

Status pack(const Model::Impl& model, const std::string& path, const PackOptions& options) {
  if (!model.layout) return model.run_status;
  OTR_TRY(check_output_path(model, path));
  OTR_TRY(model.file.source().check_unchanged());
  OTR_ASSIGN(const GgufFile with_arrays, read_header_again(model));
  std::vector<Target> targets = choose_tensors(model);
  const std::string header = make_header(with_arrays, &targets);

  OTR_ASSIGN(AtomicFile out, AtomicFile::create(path, 0666));
  const Target& last = targets.back();  // a model that can run has weights
  OTR_TRY(out.reserve(last.place + aligned(last.bytes)));
  OTR_TRY(out.write(std::as_bytes(std::span(header))));
  Packer packer(model.file, options, &out);
  OTR_TRY(packer.check_cancelled(0));
  for (const Target& target : targets) OTR_TRY(packer.write_tensor(target));
  OTR_TRY(model.file.source().check_unchanged());
  return out.commit();
}

}  // namespace

Status pack_model(const Model& model, const std::string& path, const PackOptions& options) try {
  return pack(*model.impl(), path, options);
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");  // short enough to need none
}

}  // namespace outrigger
