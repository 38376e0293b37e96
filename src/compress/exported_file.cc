// ExportedFile: metadata, places, and rows in their new type and order.
#include "src/compress/exported_file.h"

#include <algorithm>
#include <numeric>

#include "src/base/bytes.h"
#include "src/base/macros.h"

namespace outrigger {
namespace {

constexpr uint64_t kPieceBytes = 1_MiB;  // of Q4_0 are 7 MiB as float32
constexpr uint64_t kAlignment = 32;  // what a file has that states none

// Numbers of general.file_type; they are for people.
constexpr uint32_t kMostlyFloat32 = 0, kMostlyFloat16 = 1, kMostlyQ4_1 = 3;
constexpr uint32_t kQuantizationVersion = 2;  // of all files since the middle of 2023

uint64_t aligned(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Whether a key tells what holds for our file alone.
bool is_ours(const std::string& key, const ModelConfig& config) {
  if (key == "general.alignment" || key.starts_with("outrigger.") || key == config.architecture + ".rope.halves") return true;
  // Others know no such scaling; a tensor has it.
  return config.rope_scaling.kind == RopeScalingKind::kLlama3 && key.starts_with(config.architecture + ".rope.scaling.");
}

}  // namespace

GgufHeader backbone_header(const GgufFile& file, const ModelConfig& config, std::optional<DType> recoded) {
  GgufHeader header;
  for (const GgufValue* value : values_in_order(file)) {
    const std::string& key = value->key();
    if (is_ours(key, config) || (recoded && key == "general.file_type")) continue;
    // The header of a directory has these, and other programs read float32 only.
    value->type() == GgufType::kF64 ? header.add_f32(key, static_cast<float>(value->as_f64().value())) : header.add_value(*value);
  }
  if (recoded) header.add_u32("general.file_type", *recoded == DType::kQ4_1 ? kMostlyQ4_1 : kMostlyFloat16);
  if (file.find("general.quantization_version") == nullptr) header.add_u32("general.quantization_version", kQuantizationVersion);
  return header;
}

GgufHeader adapter_header(const GgufFile& file, const ModelConfig& config, std::span<const ExportedTensor> tensors) {
  const bool is_half = std::all_of(tensors.begin(), tensors.end(), [](const ExportedTensor& tensor) { return tensor.type == DType::kF16; });
  GgufHeader header;
  header.add_string("general.type", "adapter");
  header.add_string("general.architecture", config.architecture);
  if (const GgufValue* name = file.find("general.name"); name != nullptr && name->as_string().is_ok())
    header.add_string("general.name", name->as_string().value());
  header.add_u32("general.file_type", is_half ? kMostlyFloat16 : kMostlyFloat32);
  header.add_string("adapter.type", "lora");
  header.add_f32("adapter.lora.alpha", 0);
  return header;
}

Status read_in_pieces(const ByteSource& source, const ExportedTensor& tensor, DirectBuffer* staging,
                      const std::function<Status(const std::byte*, uint64_t)>& use) {
  const uint64_t row_bytes = tensor.source_row_bytes(), whole = std::max<uint64_t>(tensor.head_rows, 1);
  const uint64_t at_once = std::max<uint64_t>(kPieceBytes / row_bytes / whole, 1) * whole;
  for (uint64_t row = 0; row < tensor.rows; row += at_once) {
    const uint64_t rows = std::min(at_once, tensor.rows - row), bytes = rows * row_bytes;
    OTR_ASSIGN(const std::byte* data,
               source.read_direct(tensor.source->offset + row * row_bytes, bytes, staging->take(source.direct_staging_bytes(bytes))));
    OTR_TRY(use(data, rows));
  }
  return {};
}

Result<ExportedFile> ExportedFile::create(const std::string& path, GgufHeader header, std::vector<ExportedTensor> tensors) {
  for (const ExportedTensor& tensor : tensors) header.add_tensor(tensor.name, tensor.type, tensor.dims);
  std::vector<uint64_t> places;
  uint64_t next = aligned(header.bytes());
  for (const ExportedTensor& tensor : tensors) {
    places.push_back(next);
    next += aligned(tensor.bytes());
  }
  const std::string text = header.finish(places, kAlignment);
  OTR_ASSIGN(AtomicFile out, AtomicFile::create(path, 0666));
  OTR_TRY(out.reserve(next));
  OTR_TRY(out.write(std::as_bytes(std::span(text))));
  return ExportedFile(std::move(out), std::move(tensors), next);
}

Status ExportedFile::write_rows(const ExportedTensor& tensor, const std::byte* rows, uint64_t count) {
  const uint64_t row_bytes = tensor.row_bytes(), source_bytes = tensor.source_row_bytes();
  const std::span<std::byte> converted = converted_.take(count * row_bytes);
  if (tensor.head_rows == 0) {
    convert_rows(tensor, rows, count, converted.data());
  } else {
    for (uint64_t row = 0; row < count; ++row)
      convert_rows(tensor, rows + tensor.source_row(row) * source_bytes, 1, converted.data() + row * row_bytes);
  }
  return out_.write(converted);
}

Status ExportedFile::write(const ByteSource& source, const ExportWatch& watch) {
  for (const ExportedTensor& tensor : tensors_) {
    if (tensor.source == nullptr) {
      OTR_TRY(out_.write(std::as_bytes(std::span(tensor.values))));
    } else {
      const auto use = [&](const std::byte* rows, uint64_t count) {
        OTR_TRY(write_rows(tensor, rows, count));
        return watch(count * tensor.source_row_bytes());
      };
      OTR_TRY(read_in_pieces(source, tensor, &staging_, use));
    }
    OTR_TRY(out_.write(std::vector<std::byte>(aligned(tensor.bytes()) - tensor.bytes())));
  }
  return {};
}

}  // namespace outrigger
