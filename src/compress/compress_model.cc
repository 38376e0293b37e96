// compress_model: the file around the compressed matrices.
#include <fmt/format.h>
#include <outrigger/compress.h>

#include <algorithm>
#include <map>
#include <new>

#include "src/base/bytes.h"
#include "src/base/macros.h"
#include "src/compress/compressor.h"
#include "src/io/atomic_file.h"
#include "src/io/gguf_header.h"
#include "src/model/model_copy.h"
#include "src/tensor/encode_own.h"

namespace outrigger {
namespace {

constexpr uint64_t kChunkBytes = 2_MiB;
constexpr uint64_t kAlignment = 4096;  // for direct reads
constexpr const char* kAlignmentKey = "general.alignment";

uint64_t aligned(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/// A tensor of the new file.
struct Target {
  const GgufTensor* source = nullptr;
  bool is_compressed = false;
  uint64_t place = 0, bytes = 0;
};

Status unsupported(const std::string& message) { return Status(StatusCode::kUnsupported, message); }

// Of every layer.
std::vector<uint32_t> matrices_of_layers(const ModelLayout& layout) {
  std::vector<uint32_t> matrices;
  for (const LayerLayout& layer : layout.layers) {
    matrices.insert(matrices.end(), {layer.q, layer.k, layer.v, layer.output, layer.ffn.gate, layer.ffn.up, layer.ffn.down});
  }
  return matrices;
}

Status check_model(const Model::Impl& model) {
  if (!model.layout) return model.run_status;
  const ModelLayout& layout = *model.layout;
  if (layout.config.experts > 0) return unsupported("mixtures of experts cannot be compressed by this version").in_file(model.info.file);
  for (const uint32_t matrix : matrices_of_layers(layout)) {
    const WeightSource& weight = layout.weights[matrix];
    if (weight.columns % kOwnBlock == 0) continue;
    return unsupported(fmt::format("rows of {} weights cannot be compressed, need a multiple of {}", weight.columns, kOwnBlock))
        .in_file(model.info.file)
        .about(layout.shape.matrices[matrix].name);
  }
  return {};
}

// Whole chunks, spread evenly.
Result<std::vector<Token>> choose_chunks(std::span<const Token> tokens, uint64_t vocabulary, const CompressOptions& options) {
  const auto is_known = [vocabulary](Token token) { return token >= 0 && static_cast<uint64_t>(token) < vocabulary; };
  if (!std::all_of(tokens.begin(), tokens.end(), is_known)) {
    return Status(StatusCode::kInvalidArgument, fmt::format("the calibration has tokens that are not among the {} of the vocabulary", vocabulary));
  }
  const size_t given = tokens.size() / options.chunk_tokens, used = std::min<size_t>(given, options.most_chunks);
  if (used == 0) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("the calibration has {} tokens, need at least {}; give a longer text", tokens.size(), options.chunk_tokens));
  }
  std::vector<Token> chosen;
  for (size_t i = 0; i < used; ++i) {
    const auto begin = tokens.begin() + static_cast<ptrdiff_t>(i * given / used * options.chunk_tokens);
    chosen.insert(chosen.end(), begin, begin + options.chunk_tokens);
  }
  return chosen;
}

// First what stays as it is, then what is compressed, in the order of a step.
std::vector<Target> choose_targets(const Model::Impl& model, DType type) {
  std::map<uint64_t, const GgufTensor*> by_offset;
  for (const GgufTensor& tensor : model.file.tensors()) by_offset.emplace(tensor.offset, &tensor);
  std::vector<Target> compressed, targets;
  for (const uint32_t matrix : matrices_of_layers(*model.layout)) {
    const WeightSource& weight = model.layout->weights[matrix];
    compressed.push_back({by_offset.at(weight.file_offset), true, 0, weight.rows * *row_bytes(type, weight.columns)});
  }
  for (const GgufTensor& tensor : model.file.tensors()) {
    const bool is_compressed = std::any_of(compressed.begin(), compressed.end(), [&](const Target& target) { return target.source == &tensor; });
    if (!is_compressed) targets.push_back({&tensor, false, 0, tensor.bytes});
  }
  targets.insert(targets.end(), compressed.begin(), compressed.end());
  return targets;
}

// Sets the targets' places. A key that the file has and we set keeps its place.
std::string make_header(const GgufFile& file, DType type, std::vector<Target>* targets) {
  GgufHeader header;
  for (const GgufValue* value : values_in_order(file)) {
    const std::string& key = value->key();
    if (key != kAlignmentKey && key != kGgufOwnNamesKey && key != kGgufOwnTypesKey) header.add_value(*value);
  }
  header.add_u32(kAlignmentKey, static_cast<uint32_t>(kAlignment));
  header.begin_array(kGgufOwnNamesKey, GgufType::kString);
  for (const Target& target : *targets) {
    if (target.is_compressed) header.add_element(target.source->name);
  }
  header.end_array();
  header.begin_array(kGgufOwnTypesKey, GgufType::kI32);
  for (const Target& target : *targets) {
    if (target.is_compressed) header.add_element(static_cast<int32_t>(type));
  }
  header.end_array();
  for (const Target& target : *targets) {
    const GgufTensor& source = *target.source;
    if (target.is_compressed) {
      const uint64_t dims[] = {*row_bytes(type, source.dims[0]), source.dims[1]};
      header.add_tensor(source.name, DType::kI8, dims);
    } else {
      header.add_tensor(source.name, source.type, std::span(source.dims).first(source.rank), source.is_packed);
    }
  }
  std::vector<uint64_t> places;
  uint64_t next = aligned(header.bytes());
  for (Target& target : *targets) {
    places.push_back(target.place = next);
    next += aligned(target.bytes);
  }
  return header.finish(places, kAlignment);
}

class Writer {
 public:
  Writer(const GgufFile& file, AtomicFile* out) : file_(file), out_(*out) {}

  Status copy(const GgufTensor& tensor) {
    for (uint64_t done = 0, some; done < tensor.bytes; done += some) {
      some = std::min(tensor.bytes - done, kChunkBytes);
      OTR_ASSIGN(const std::byte* data,
                 file_.source().read_direct(tensor.offset + done, some, staging_.take(file_.source().direct_staging_bytes(some))));
      OTR_TRY(out_.write({data, some}));
    }
    return pad(tensor.bytes);
  }

  Status write(std::span<const std::byte> bytes) {
    OTR_TRY(out_.write(bytes));
    return pad(bytes.size());
  }

 private:
  Status pad(uint64_t bytes) {
    const std::vector<std::byte> zeros(aligned(bytes) - bytes);
    return out_.write(zeros);
  }

  const GgufFile& file_;
  AtomicFile& out_;
  DirectBuffer staging_;
};

Status report(const CompressOptions& options, double share) {
  try {
    if (options.cancel.is_cancelled() || (options.progress && !options.progress(share))) return Status(StatusCode::kCancelled, "compressing was cancelled");
  } catch (...) {
    return Status(StatusCode::kInternal, "the progress callback threw");
  }
  return {};
}

Result<CompressReport> compress(const Model::Impl& model, std::span<const Token> calibration, const std::string& path, const CompressOptions& options) {
  OTR_TRY(options.validate());
  OTR_TRY(check_model(model));
  OTR_TRY(check_output_path(model, path));
  OTR_TRY(model.file.source().check_unchanged());
  const DType type = *own_type(options.bits);
  OTR_ASSIGN(std::vector<Token> tokens, choose_chunks(calibration, model.layout->vocabulary, options));
  CompressReport result;
  result.calibration_tokens = tokens.size();
  OTR_ASSIGN(const GgufFile with_arrays, read_header_again(model));
  std::vector<Target> targets = choose_targets(model, type);
  const std::string header = make_header(with_arrays, type, &targets);

  OTR_ASSIGN(AtomicFile out, AtomicFile::create(path, 0666));
  result.output_bytes = targets.back().place + aligned(targets.back().bytes);
  OTR_TRY(out.reserve(result.output_bytes));
  OTR_TRY(out.write(std::as_bytes(std::span(header))));
  Writer writer(model.file, &out);
  for (const Target& target : targets) {
    if (!target.is_compressed) OTR_TRY(writer.copy(*target.source));
  }
  OTR_ASSIGN(const std::unique_ptr<Compressor> compressor, Compressor::create(model, std::move(tokens), options));
  const auto sink = [&](uint32_t, const LowBitMatrix& made) {
    result.backbone_bytes += made.bytes.size();
    result.backbone_weights += made.rows * made.columns;
    return writer.write(made.bytes);
  };
  OTR_TRY(compressor->run(sink, [&](uint32_t done, uint32_t all) { return report(options, static_cast<double>(done) / all); }));
  OTR_TRY(model.file.source().check_unchanged());
  OTR_TRY(out.commit());
  result.input_bytes = model.info.bytes;
  return result;
}

}  // namespace

Status CompressOptions::validate() const {
  const auto invalid = [](std::string message) { return Status(StatusCode::kInvalidArgument, "compressing: " + std::move(message)); };
  if (!own_type(bits)) return invalid(fmt::format("bits is {}, need 2, 3 or 4", bits));
  if (chunk_tokens < 16 || chunk_tokens > 65536) return invalid(fmt::format("chunk_tokens is {}, need 16 to 65536", chunk_tokens));
  if (most_chunks == 0 || most_chunks > 65536) return invalid(fmt::format("most_chunks is {}, need 1 to 65536", most_chunks));
  if (threads > 1024) return invalid(fmt::format("threads is {}, need at most 1024", threads));
  return {};
}

Result<CompressReport> compress_model(const Model& model, std::span<const Token> calibration, const std::string& path, const CompressOptions& options) try {
  return compress(*model.impl(), calibration, path, options);
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");  // short enough to need none
}

}  // namespace outrigger
