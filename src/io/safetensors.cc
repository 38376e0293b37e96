// SafetensorsFile: from the header's JSON to checked tensors.
#include "src/io/safetensors.h"

#include <algorithm>
#include <cstring>

#include "src/base/bytes.h"
#include "src/base/checked.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/json_text.h"
#include "src/io/printable.h"

namespace outrigger {
namespace {

struct Dtype {
  const char* name;
  uint32_t bits;
  std::optional<DType> type;
};

constexpr Dtype kDtypes[] = {
    {"BOOL", 8, {}},          {"U8", 8, {}},
    {"I8", 8, DType::kI8},    {"F8_E5M2", 8, {}},
    {"F8_E4M3", 8, {}},       {"F8_E8M0", 8, {}},
    {"I16", 16, DType::kI16}, {"U16", 16, {}},
    {"F16", 16, DType::kF16}, {"BF16", 16, DType::kBF16},
    {"I32", 32, DType::kI32}, {"U32", 32, {}},
    {"F32", 32, DType::kF32}, {"F64", 64, DType::kF64},
    {"I64", 64, DType::kI64}, {"U64", 64, {}},
    {"C64", 64, {}},          {"F4", 4, {}},
    {"F6_E2M3", 6, {}},       {"F6_E3M2", 6, {}},
};

constexpr uint64_t kLengthBytes = 8;

class HeaderReader {
 public:
  HeaderReader(const ByteSource& source, std::vector<SafetensorsTensor>& tensors) : source_(source), tensors_(tensors) {}

  Status read(uint64_t* header_bytes) {
    OTR_ASSIGN(const JsonText text, load(header_bytes));
    data_start_ = *header_bytes;
    OTR_TRY(text.root().each_member([this](std::string_view name, JsonValue entry) {
      return name == "__metadata__" ? check_metadata(entry) : take_tensor(name, entry);
    }));
    return check_tiling();
  }

 private:
  Status corrupt(uint64_t offset, std::string message, std::string_view subject = {}) const {
    return Status(StatusCode::kCorruptFile, std::move(message)).in_file(source_.name()).at_offset(offset).about(printable(subject));
  }

  Result<JsonText> load(uint64_t* header_bytes);
  static Status check_metadata(JsonValue metadata);
  Status take_tensor(std::string_view name, JsonValue entry);
  Status take_name(std::string_view name, JsonValue entry) const;
  static Status take_dtype(const std::string& name, JsonValue entry, const Dtype** dtype);
  static Status take_shape(const std::string& name, JsonValue entry, SafetensorsTensor* tensor);
  Status take_place(JsonValue entry, uint32_t bits, SafetensorsTensor* tensor) const;
  Status check_tiling();

  const ByteSource& source_;
  std::vector<SafetensorsTensor>& tensors_;
  uint64_t data_start_ = 0;
};

Result<JsonText> HeaderReader::load(uint64_t* header_bytes) {
  const uint64_t file_bytes = source_.size_bytes();
  if (file_bytes < kLengthBytes)
    return corrupt(0, formatted("the file ends inside the header's length: 8 bytes needed, {} are there", file_bytes));
  std::byte raw[kLengthBytes];
  OTR_TRY(source_.read(0, raw));
  uint64_t length;
  std::memcpy(&length, raw, sizeof length);
  if (length > file_bytes - kLengthBytes) {
    return corrupt(0, formatted("a header of {} bytes is announced, but {} bytes remain", length, file_bytes - kLengthBytes));
  }
  if (length > kSafetensorsMaxHeaderBytes) {
    return Status(StatusCode::kUnsupported,
                  formatted("the header has {}, the limit is {}", format_bytes(length), format_bytes(kSafetensorsMaxHeaderBytes)))
        .in_file(source_.name());
  }
  if (length < 2) return corrupt(0, formatted("a header of {} bytes is announced; the smallest, {{}}, has 2", length));
  std::string text(length, '\0');
  OTR_TRY(source_.read(kLengthBytes, std::as_writable_bytes(std::span(text))));
  if (text[0] != '{')
    return corrupt(kLengthBytes, formatted("not a safetensors file: its header begins with the byte {:#04x}, not with '{{'",
                                           static_cast<uint8_t>(text[0])));
  *header_bytes = kLengthBytes + length;
  return JsonText::parse(std::move(text), source_.name(), kLengthBytes);
}

Status HeaderReader::check_metadata(JsonValue metadata) {
  if (metadata.kind() != JsonKind::kObject) return metadata.wrong("__metadata__", "an object of strings");
  return metadata.each_member([](std::string_view, JsonValue value) {
    return value.kind() == JsonKind::kString ? Status() : value.wrong("__metadata__", "strings only");
  });
}

Status HeaderReader::take_name(std::string_view name, JsonValue entry) const {
  const auto control = std::find_if(name.begin(), name.end(), [](char c) { return static_cast<uint8_t>(c) < 0x20 || c == 0x7f; });
  if (name.empty()) return corrupt(entry.offset(), "a tensor's name is empty");
  if (control != name.end())
    return corrupt(entry.offset(), formatted("a tensor's name contains the control character {}", static_cast<int>(*control)), name);
  if (name.size() <= kSafetensorsMaxNameBytes) return {};
  return corrupt(entry.offset(), formatted("a tensor's name has {} bytes, at most {} are allowed", name.size(), kSafetensorsMaxNameBytes),
                 name);
}

Status HeaderReader::take_dtype(const std::string& name, JsonValue entry, const Dtype** dtype) {
  const std::optional<JsonValue> value = entry.find("dtype");
  if (!value) return entry.error(StatusCode::kCorruptFile, name, "dtype is missing");
  const std::optional<std::string> text = value->string();
  if (!text) return value->wrong(name, "a string as dtype");
  const auto* found = std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const Dtype& d) { return *text == d.name; });
  if (found == std::end(kDtypes)) {
    return value->error(StatusCode::kUnsupported, name, formatted("dtype \"{}\" is unknown to this build", printable(*text, 40)));
  }
  *dtype = found;
  return {};
}

Status HeaderReader::take_shape(const std::string& name, JsonValue entry, SafetensorsTensor* tensor) {
  const std::optional<JsonValue> shape = entry.find("shape");
  if (!shape || shape->kind() != JsonKind::kArray) return (shape ? *shape : entry).wrong(name, "an array of sizes as shape");
  tensor->rank = 0;
  tensor->dims = {1, 1, 1, 1};
  return shape->each_item([&](JsonValue item) -> Status {
    const std::optional<uint64_t> size = item.whole();
    if (!size) return item.wrong(name, "a whole number as size");
    if (tensor->rank == 4) return item.error(StatusCode::kUnsupported, name, "the shape has more than 4 dimensions");
    tensor->dims[tensor->rank++] = *size;
    return {};
  });
}

Status HeaderReader::take_place(JsonValue entry, uint32_t bits, SafetensorsTensor* tensor) const {
  const std::optional<JsonValue> offsets = entry.find("data_offsets");
  if (!offsets || offsets->kind() != JsonKind::kArray)
    return (offsets ? *offsets : entry).wrong(tensor->name, "[begin, end] as data_offsets");
  uint64_t ends[2] = {};
  uint32_t count = 0;
  OTR_TRY(offsets->each_item([&](JsonValue item) -> Status {
    const std::optional<uint64_t> end = item.whole();
    if (!end || count == 2) return item.wrong(tensor->name, "two whole numbers as data_offsets");
    ends[count++] = *end;
    return {};
  }));
  if (count != 2) return offsets->wrong(tensor->name, "two whole numbers as data_offsets");
  const auto [begin, end] = ends;
  const uint64_t data_bytes = source_.size_bytes() - data_start_;
  if (begin > end || end > data_bytes) {
    return offsets->error(StatusCode::kCorruptFile, tensor->name,
                          formatted("bytes {} to {} of the data are claimed, which has {}", begin, end, data_bytes));
  }
  CheckedSize needed_bits = bits;
  for (const uint64_t size : tensor->dims) needed_bits = needed_bits * size;
  if (!needed_bits.fits(INT64_MAX)) {
    return offsets->error(StatusCode::kCorruptFile, tensor->name,
                          formatted("shape [{}] of {} has more than 2^63 bits", joined(tensor->dims, ", "), tensor->dtype));
  }
  if (*needed_bits.value() % 8 != 0 || *needed_bits.value() / 8 != end - begin) {
    return offsets->error(StatusCode::kCorruptFile, tensor->name,
                          formatted("shape and dtype need {} bits, data_offsets give {} bytes", *needed_bits.value(), end - begin));
  }
  tensor->offset = data_start_ + begin;
  tensor->bytes = end - begin;
  return {};
}

Status HeaderReader::take_tensor(std::string_view name, JsonValue entry) {
  OTR_TRY(take_name(name, entry));
  SafetensorsTensor tensor;
  tensor.name = name;
  if (entry.kind() != JsonKind::kObject) return entry.wrong(tensor.name, "an object with dtype, shape and data_offsets");
  const Dtype* dtype = nullptr;
  OTR_TRY(take_dtype(tensor.name, entry, &dtype));
  tensor.dtype = dtype->name;
  tensor.type = dtype->type;
  OTR_TRY(take_shape(tensor.name, entry, &tensor));
  OTR_TRY(take_place(entry, dtype->bits, &tensor));
  tensors_.push_back(std::move(tensor));
  return {};
}

// Sorted by place, each tensor begins where the one before it ends, and the last ends with the file: no byte is read twice, and none can
// hide.
Status HeaderReader::check_tiling() {
  std::sort(tensors_.begin(), tensors_.end(), [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
  });
  uint64_t end = data_start_;
  std::string_view before = "the header";
  for (const SafetensorsTensor& tensor : tensors_) {
    if (tensor.offset < end)
      return corrupt(tensor.offset, formatted("begins {} bytes before {} ends", end - tensor.offset, printable(before)), tensor.name);
    if (tensor.offset > end)
      return corrupt(
          end, formatted("{} bytes between {} and {} belong to no tensor", tensor.offset - end, printable(before), printable(tensor.name)));
    end += tensor.bytes;
    before = tensor.name;
  }
  if (end == source_.size_bytes()) return {};
  return corrupt(end, formatted("{} bytes after {} belong to no tensor", source_.size_bytes() - end, printable(before)));
}

}  // namespace

Result<SafetensorsFile> SafetensorsFile::open(std::shared_ptr<const ByteSource> source) {
  SafetensorsFile file;
  file.source_ = std::move(source);
  OTR_TRY(HeaderReader(*file.source_, file.tensors_).read(&file.header_bytes_));
  return file;
}

}  // namespace outrigger
