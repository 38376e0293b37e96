// GgufParser: from the bytes of a header to checked metadata and a checked tensor directory.
//
// The header is walked twice. The first walk finds its end and keeps nothing but its bytes; the second builds the lists, whose lengths
// are by then known to be true. So a count in the file never decides an allocation, and the peak is the lists (88 bytes for an entry
// of at least 14 in the file) plus the header once.
#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <bit>
#include <numeric>
#include <tuple>

#include "src/base/checked.h"
#include "src/base/macros.h"
#include "src/io/gguf.h"
#include "src/io/gguf_cursor.h"

namespace outrigger {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint32_t kVersion = 3;
constexpr uint32_t kDefaultAlignment = 32;
// The smallest entry: length and one byte of name, then type and one byte, or rank, one dimension, type and offset.
constexpr uint64_t kMinEntryBytes = 8 + 1 + 4 + 1, kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

struct Counts {
  uint64_t tensors, entries;
};

// A key or tensor name: not empty, within the limit, UTF-8, without control characters (NUL among them), so that it can be printed.
Status check_name(const GgufCursor& cursor, std::string_view name, uint64_t offset, const char* what, uint64_t limit) {
  if (name.empty()) return cursor.corrupt(offset, fmt::format("a {} is empty", what));
  if (name.size() > limit)
    return cursor.corrupt(offset, fmt::format("a {} has {} bytes, at most {} are allowed", what, name.size(), limit));
  for (size_t i = 0; i < name.size();) {
    utf8proc_int32_t code;
    const utf8proc_ssize_t length =
        utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(name.data()) + i, static_cast<utf8proc_ssize_t>(name.size() - i), &code);
    if (length <= 0) return cursor.corrupt(offset + i, fmt::format("a {} is not valid UTF-8", what));
    if (code < 0x20 || code == 0x7f) return cursor.corrupt(offset + i, fmt::format("a {} contains the control character {}", what, code));
    i += static_cast<size_t>(length);
  }
  return {};
}

// Reads a name and makes it the subject of the errors that follow.
Status take_name(GgufCursor* cursor, std::string_view* name, const char* what, uint64_t limit) {
  cursor->set_subject({});
  const uint64_t start = cursor->position();
  OTR_TRY(cursor->take_text(name, what));
  OTR_TRY(check_name(*cursor, *name, start + 8, what, limit));
  cursor->set_subject(*name);
  return {};
}

Status take_type(GgufCursor* cursor, GgufType* type, const char* what) {
  uint32_t number;
  OTR_TRY(cursor->take(&number, what));
  if (number > static_cast<uint32_t>(GgufType::kF64)) {
    return cursor->corrupt(cursor->position() - 4, fmt::format("{} {} is unknown; 0 to 12 exist", what, number));
  }
  *type = static_cast<GgufType>(number);
  return {};
}

// Moves past `count` values of one type, strings one by one.
Status skip_values(GgufCursor* cursor, GgufType type, uint64_t count) {
  if (type != GgufType::kString) {
    const uint64_t start = cursor->position();
    OTR_TRY(cursor->skip(count, gguf_fixed_bytes(type), "a value"));
    for (uint64_t i = 0; type == GgufType::kBool && i < count; ++i) {
      const int byte = std::to_integer<int>(*cursor->at(start + i));
      if (byte > 1) return cursor->corrupt(start + i, fmt::format("a bool is {}; 0 or 1 is needed", byte));
    }
    return {};
  }
  if (count > cursor->remaining() / 8) {
    return cursor->corrupt(cursor->position(),
                           fmt::format("{} strings are announced, but only {} bytes remain", count, cursor->remaining()));
  }
  std::string_view text;
  for (uint64_t i = 0; i < count; ++i) OTR_TRY(cursor->take_text(&text, "a string"));
  return {};
}

Status open_header(GgufCursor* cursor, Counts* counts) {
  uint32_t magic, version;
  OTR_TRY(cursor->take(&magic, "the magic number"));
  if (magic != kMagic) return cursor->corrupt(0, fmt::format("not a GGUF file: it begins with {:#010x}, not with \"GGUF\"", magic));
  OTR_TRY(cursor->take(&version, "the version"));
  if (version != kVersion && (version & 0xffff) == 0 && version != 0) {
    return cursor->unsupported(4, "the file is big-endian; convert it to little-endian");
  }
  if (version != kVersion) return cursor->unsupported(4, fmt::format("GGUF version {}; this build reads version 3", version));
  OTR_TRY(cursor->take(&counts->tensors, "the number of tensors"));
  OTR_TRY(cursor->take(&counts->entries, "the number of metadata entries"));
  const uint64_t remaining = cursor->remaining();
  if (counts->tensors > remaining / kMinTensorBytes) {
    return cursor->corrupt(8, fmt::format("{} tensors are announced, {} bytes remain", counts->tensors, remaining));
  }
  if (counts->entries > remaining / kMinEntryBytes) {
    return cursor->corrupt(16, fmt::format("{} metadata entries are announced, {} bytes remain", counts->entries, remaining));
  }
  return {};
}

}  // namespace

/// Fills a GgufFile; the only code besides it that sees its inside.
class GgufParser {
 public:
  explicit GgufParser(std::shared_ptr<const ByteSource> source) : cursor_(*source) { file_.source_ = std::move(source); }

  Result<GgufFile> parse();

 private:
  Status take_entry(GgufValue* value);
  Status take_tensor(GgufTensor* tensor);
  Status take_tensors(uint64_t count, uint64_t data_start, uint64_t alignment);
  Status sort_values();
  Status sort_names(const std::vector<uint64_t>& entry_offsets);
  Status check_overlap();
  Status find_alignment(uint64_t* alignment);

  Status corrupt(std::string_view subject, uint64_t offset, std::string message) {
    cursor_.set_subject(subject);
    return cursor_.corrupt(offset, std::move(message));
  }

  GgufCursor cursor_;
  GgufFile file_;
};

// Checks an entry; fills `value`, whose bytes are only good until the cursor moves on, unless it is null.
Status GgufParser::take_entry(GgufValue* value) {
  std::string_view key;
  OTR_TRY(take_name(&cursor_, &key, "metadata key", kGgufMaxKeyBytes));
  if (value != nullptr) value->key_ = key;
  GgufType type, element_type = GgufType::kU8;
  uint64_t count = 1;
  OTR_TRY(take_type(&cursor_, &type, "value type"));
  uint64_t start = cursor_.position();
  if (type == GgufType::kArray) {
    OTR_TRY(take_type(&cursor_, &element_type, "array element type"));
    if (element_type == GgufType::kArray) return cursor_.corrupt(start, "an array of arrays; only arrays of plain values are allowed");
    OTR_TRY(cursor_.take(&count, "an array's length"));
    start = cursor_.position();
  }
  OTR_TRY(skip_values(&cursor_, type == GgufType::kArray ? element_type : type, count));
  if (value == nullptr) return {};
  value->type_ = type;
  value->element_type_ = element_type;
  value->count_ = count;
  value->offset_ = start;
  value->bytes_ = {cursor_.at(start), static_cast<size_t>(cursor_.position() - start)};
  value->file_ = file_.source_->name();
  return {};
}

// Checks all of a tensor that needs no other: name, shape, type, size. `offset` stays relative to the data.
Status GgufParser::take_tensor(GgufTensor* tensor) {
  std::string_view name;
  OTR_TRY(take_name(&cursor_, &name, "tensor name", kGgufMaxNameBytes));
  tensor->name = name;
  OTR_TRY(cursor_.take(&tensor->rank, "a tensor's rank"));
  if (tensor->rank < 1 || tensor->rank > 4) {
    return cursor_.corrupt(cursor_.position() - 4, fmt::format("{} dimensions; 1 to 4 are allowed", tensor->rank));
  }
  tensor->dims = {1, 1, 1, 1};
  CheckedSize elements = 1;
  for (uint32_t i = 0; i < tensor->rank; ++i) {
    OTR_TRY(cursor_.take(&tensor->dims[i], "a tensor's shape"));
    if (tensor->dims[i] == 0) return cursor_.corrupt(cursor_.position() - 8, fmt::format("dimension {} is 0", i));
    elements = elements * tensor->dims[i];
  }
  const uint64_t shape_end = cursor_.position();
  if (!elements.fits(INT64_MAX)) {
    return cursor_.corrupt(shape_end - 8, fmt::format("shape [{}] has more than 2^63 elements", fmt::join(tensor->dims, ", ")));
  }
  uint32_t type;
  OTR_TRY(cursor_.take(&type, "a tensor's type"));
  const DTypeTraits* layout = find_dtype(type);
  if (layout == nullptr) return cursor_.unsupported(shape_end, fmt::format("tensor type {} is unknown to this build", type));
  tensor->type = layout->type;
  if (tensor->dims[0] % layout->block_elements != 0) {
    return cursor_.corrupt(
        shape_end, fmt::format("a row of {} elements is not whole {} blocks of {}", tensor->dims[0], layout->name, layout->block_elements));
  }
  const CheckedSize bytes = CheckedSize(tensor->elements() / layout->block_elements) * layout->block_bytes;
  if (!bytes.fits(INT64_MAX)) return cursor_.corrupt(shape_end, "the tensor has more than 2^63 bytes");
  tensor->bytes = *bytes.value();
  return cursor_.take(&tensor->offset, "a tensor's offset");
}

Status GgufParser::sort_values() {
  std::vector<GgufValue>& values = file_.values_;
  std::sort(values.begin(), values.end(),
            [](const GgufValue& a, const GgufValue& b) { return std::tie(a.key_, a.offset_) < std::tie(b.key_, b.offset_); });
  const auto twice =
      std::adjacent_find(values.begin(), values.end(), [](const GgufValue& a, const GgufValue& b) { return a.key_ == b.key_; });
  if (twice == values.end()) return {};
  return corrupt(twice->key_, (twice + 1)->offset_, fmt::format("the key appears twice, first at byte {}", twice->offset_));
}

Status GgufParser::find_alignment(uint64_t* alignment) {
  const GgufValue* value = file_.find("general.alignment");
  if (value == nullptr) return *alignment = kDefaultAlignment, Status();
  if (value->type_ != GgufType::kU32) {
    return corrupt(value->key_, value->offset_, fmt::format("is of type {}; u32 is needed", gguf_type_name(value->type_)));
  }
  OTR_ASSIGN(*alignment, value->as_u64());
  if (std::has_single_bit(*alignment) && *alignment <= kGgufMaxAlignment) return {};
  return corrupt(value->key_, value->offset_, fmt::format("is {}; a power of two up to {} is needed", *alignment, kGgufMaxAlignment));
}

Status GgufParser::take_tensors(uint64_t count, uint64_t data_start, uint64_t alignment) {
  const uint64_t file_bytes = file_.source_->size_bytes();
  std::vector<uint64_t> entry_offsets;
  entry_offsets.reserve(count);
  file_.tensors_.resize(count);
  for (GgufTensor& tensor : file_.tensors_) {
    entry_offsets.push_back(cursor_.position());
    OTR_TRY(take_tensor(&tensor));
    const uint64_t at = cursor_.position() - 8, relative = tensor.offset;
    if (relative % alignment != 0) return cursor_.corrupt(at, fmt::format("offset {} is not a multiple of {}", relative, alignment));
    if (!(CheckedSize(data_start) + relative + tensor.bytes).fits(file_bytes)) {
      return cursor_.corrupt(at, fmt::format("{} bytes from offset {} of the data are needed, but the file ends {} bytes into the data",
                                             tensor.bytes, relative, file_bytes - std::min(data_start, file_bytes)));
    }
    tensor.offset = data_start + relative;
  }
  OTR_TRY(sort_names(entry_offsets));
  return check_overlap();
}

Status GgufParser::sort_names(const std::vector<uint64_t>& entry_offsets) {
  const std::vector<GgufTensor>& tensors = file_.tensors_;
  std::vector<uint32_t>& order = file_.by_name_;
  order.resize(tensors.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](uint32_t a, uint32_t b) { return std::tie(tensors[a].name, a) < std::tie(tensors[b].name, b); });
  const auto twice =
      std::adjacent_find(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return tensors[a].name == tensors[b].name; });
  if (twice == order.end()) return {};
  return corrupt(tensors[*twice].name, entry_offsets[twice[1]],
                 fmt::format("the tensor appears twice, first at byte {}", entry_offsets[twice[0]]));
}

Status GgufParser::check_overlap() {
  const std::vector<GgufTensor>& tensors = file_.tensors_;
  std::vector<uint32_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return tensors[a].offset < tensors[b].offset; });
  for (size_t i = 1; i < order.size(); ++i) {
    const GgufTensor &before = tensors[order[i - 1]], &tensor = tensors[order[i]];
    const uint64_t room = tensor.offset - before.offset;
    if (room >= before.bytes) continue;
    return corrupt(before.name, before.offset, fmt::format("{} bytes are needed, but {} begins after {}", before.bytes, tensor.name, room));
  }
  return {};
}

Result<GgufFile> GgufParser::parse() {
  Counts counts = {};
  OTR_TRY(open_header(&cursor_, &counts));

  const uint64_t entries_start = cursor_.position();
  for (uint64_t i = 0; i < counts.entries; ++i) OTR_TRY(take_entry(nullptr));
  GgufTensor scratch;
  for (uint64_t i = 0; i < counts.tensors; ++i) OTR_TRY(take_tensor(&scratch));
  file_.header_bytes_ = cursor_.position();

  cursor_.trim();
  cursor_.rewind(entries_start);
  file_.values_.resize(counts.entries);
  for (GgufValue& value : file_.values_) OTR_TRY(take_entry(&value));
  OTR_TRY(sort_values());
  uint64_t alignment;
  OTR_TRY(find_alignment(&alignment));
  OTR_TRY(take_tensors(counts.tensors, *CheckedSize(file_.header_bytes_).round_up(alignment).value(), alignment));
  file_.header_ = std::make_shared<const std::vector<std::byte>>(cursor_.release());
  return std::move(file_);
}

Result<GgufFile> GgufFile::open(std::shared_ptr<const ByteSource> source) { return GgufParser(std::move(source)).parse(); }

}  // namespace outrigger
