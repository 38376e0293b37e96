// GgufParser: from the bytes of a header to checked metadata and a checked tensor directory.
//
// The header is walked twice. The first walk finds its end and keeps nothing but its bytes; the second builds the lists, whose lengths
// are by then known to be true. So a count in the file never decides an allocation, and the peak is the lists (88 bytes for an entry
// of at least 14 in the file) plus the header once.
#include <algorithm>
#include <bit>
#include <numeric>
#include <tuple>

#include "src/base/checked.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/gguf.h"
#include "src/io/gguf_cursor.h"
#include "src/io/gguf_entries.h"

namespace outrigger {
namespace {

constexpr uint32_t kDefaultAlignment = 32;

}  // namespace

/// Fills a GgufFile; the only code besides it that sees its inside.
class GgufParser {
 public:
  GgufParser(std::shared_ptr<const ByteSource> source, uint64_t most_name_bytes) : cursor_(*source), most_name_bytes_(most_name_bytes) {
    file_.source_ = std::move(source);
  }

  Result<GgufFile> parse();

 private:
  Status take_entry(GgufValue* value);
  Status take_tensors(uint64_t count, uint64_t data_start, uint64_t alignment);
  Status sort_values();
  Status sort_names(const std::vector<uint64_t>& entry_offsets);
  Status check_overlap();
  Status find_alignment(uint64_t* alignment);
  Status check_layout();
  Status take_packed(uint64_t alignment, GgufTensor* tensor);
  Status take_own_types();
  Status take_own_type(std::string_view name, int32_t type, const GgufValue& types);

  Status corrupt(std::string_view subject, uint64_t offset, std::string message) {
    cursor_.set_subject(subject);
    return cursor_.corrupt(offset, std::move(message));
  }

  GgufCursor cursor_;
  const uint64_t most_name_bytes_;
  GgufFile file_;
};

// Checks an entry and, unless it is null, fills `value`: only in the second walk, when the bytes no longer move.
Status GgufParser::take_entry(GgufValue* value) {
  std::string_view key;
  OTR_TRY(gguf_take_name(&cursor_, &key, "metadata key", kGgufMaxKeyBytes));
  if (value != nullptr) value->key_ = key;
  GgufType type, element_type = GgufType::kU8;
  uint64_t count = 1;
  OTR_TRY(gguf_take_type(&cursor_, &type, "value type"));
  uint64_t start = cursor_.position();
  if (type == GgufType::kArray) {
    OTR_TRY(gguf_take_type(&cursor_, &element_type, "array element type"));
    if (element_type == GgufType::kArray) return cursor_.corrupt(start, "an array of arrays; only arrays of plain values are allowed");
    OTR_TRY(cursor_.take(&count, "an array's length"));
    start = cursor_.position();
  }
  OTR_TRY(gguf_skip_values(&cursor_, type == GgufType::kArray ? element_type : type, count));
  if (value == nullptr) return {};
  value->type_ = type;
  value->element_type_ = element_type;
  value->count_ = count;
  value->offset_ = start;
  value->bytes_ = {cursor_.at(start), static_cast<size_t>(cursor_.position() - start)};
  value->file_ = file_.source_->name();
  return {};
}

Status GgufParser::sort_values() {
  std::vector<GgufValue>& values = file_.values_;
  std::sort(values.begin(), values.end(),
            [](const GgufValue& a, const GgufValue& b) { return std::tie(a.key_, a.offset_) < std::tie(b.key_, b.offset_); });
  const auto twice =
      std::adjacent_find(values.begin(), values.end(), [](const GgufValue& a, const GgufValue& b) { return a.key_ == b.key_; });
  if (twice == values.end()) return {};
  return corrupt(twice->key_, (twice + 1)->offset_, formatted("the key appears twice, first at byte {}", twice->offset_));
}

Status GgufParser::find_alignment(uint64_t* alignment) {
  const GgufValue* value = file_.find("general.alignment");
  *alignment = kDefaultAlignment;
  if (value == nullptr) return {};
  if (value->type_ != GgufType::kU32) {
    return corrupt(value->key_, value->offset_, formatted("is of type {}; u32 is needed", gguf_type_name(value->type_)));
  }
  OTR_ASSIGN(*alignment, value->as_u64());
  if (std::has_single_bit(*alignment) && *alignment <= kGgufMaxAlignment) return {};
  return corrupt(value->key_, value->offset_, formatted("is {}; a power of two up to {} is needed", *alignment, kGgufMaxAlignment));
}

// Another version's tensors have other sizes: nothing about them could be said.
Status GgufParser::check_layout() {
  const GgufValue* value = file_.find(kGgufPackedLayoutKey);
  if (value == nullptr) return {};
  if (value->type_ != GgufType::kU32) {
    return corrupt(value->key_, value->offset_, formatted("is of type {}; u32 is needed", gguf_type_name(value->type_)));
  }
  OTR_ASSIGN(const uint64_t version, value->as_u64());
  if (version == kGgufPackedLayout) return {};
  cursor_.set_subject(value->key_);
  return cursor_.unsupported(value->offset_, formatted("packed weights of layout {}; this build reads layout {}; pack the model anew",
                                                       version, kGgufPackedLayout));
}

Status GgufParser::take_packed(uint64_t alignment, GgufTensor* tensor) {
  const uint64_t at = cursor_.position() - 12;
  if (file_.find(kGgufPackedLayoutKey) == nullptr) {
    return cursor_.corrupt(at, formatted("the tensor is packed, but the key {} is missing", kGgufPackedLayoutKey));
  }
  if (alignment < kGgufPackedAlignment) {
    return cursor_.corrupt(
        at, formatted("the tensor is packed, but general.alignment is {}; at least {} is needed", alignment, kGgufPackedAlignment));
  }
  return gguf_size_packed(cursor_, tensor);
}

Status GgufParser::take_tensors(uint64_t count, uint64_t data_start, uint64_t alignment) {
  const uint64_t file_bytes = file_.source_->size_bytes();
  std::vector<uint64_t> entry_offsets;
  entry_offsets.reserve(count);
  file_.tensors_.resize(count);
  for (GgufTensor& tensor : file_.tensors_) {
    entry_offsets.push_back(cursor_.position());
    OTR_TRY(gguf_take_tensor(&cursor_, &tensor, most_name_bytes_));
    if (tensor.is_packed) OTR_TRY(take_packed(alignment, &tensor));
    const uint64_t at = cursor_.position() - 8, relative = tensor.offset;
    if (relative % alignment != 0) return cursor_.corrupt(at, formatted("offset {} is not a multiple of {}", relative, alignment));
    if (!(CheckedSize(data_start) + relative + tensor.bytes).fits(file_bytes)) {
      return cursor_.corrupt(at, formatted("{} bytes from offset {} of the data are needed, but the file ends {} bytes into the data",
                                           tensor.bytes, relative, file_bytes - std::min(data_start, file_bytes)));
    }
    tensor.offset = data_start + relative;
  }
  OTR_TRY(sort_names(entry_offsets));
  OTR_TRY(take_own_types());
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
                 formatted("the tensor appears twice, first at byte {}", entry_offsets[twice[0]]));
}

// What stands as bytes becomes what it is. A packed file has them under their own types already.
Status GgufParser::take_own_types() {
  const GgufValue *names = file_.find(kGgufOwnNamesKey), *types = file_.find(kGgufOwnTypesKey);
  if (names == nullptr && types == nullptr) return {};
  const GgufValue& one = names != nullptr ? *names : *types;
  if (names == nullptr || types == nullptr || names->count_ != types->count_) {
    return corrupt(one.key_, one.offset_,
                   formatted("{} and {} need each other, with as many elements", kGgufOwnNamesKey, kGgufOwnTypesKey));
  }
  OTR_ASSIGN(const std::vector<std::string_view> all_names, names->as_strings());
  OTR_ASSIGN(const std::vector<int32_t> all_types, types->as_i32s());
  for (size_t i = 0; i < all_names.size(); ++i) OTR_TRY(take_own_type(all_names[i], all_types[i], *types));
  return {};
}

Status GgufParser::take_own_type(std::string_view name, int32_t type, const GgufValue& types) {
  const auto found = std::lower_bound(file_.by_name_.begin(), file_.by_name_.end(), name,
                                      [this](uint32_t index, std::string_view wanted) { return file_.tensors_[index].name < wanted; });
  if (found == file_.by_name_.end() || file_.tensors_[*found].name != name) {
    return corrupt(types.key_, types.offset_, formatted("names the tensor \"{}\", which is not in the file", printable(name)));
  }
  GgufTensor& tensor = file_.tensors_[*found];
  const DTypeTraits* const layout = find_dtype(static_cast<uint32_t>(type));
  if (layout == nullptr || static_cast<uint32_t>(type) < kGgufOwnTypeBase) {
    cursor_.set_subject(name);
    return cursor_.unsupported(types.offset_, formatted("own type {} is unknown to this build", type));
  }
  if (tensor.type == layout->type) return {};
  if (tensor.type != DType::kI8 || tensor.dims[0] % layout->block_bytes != 0) {
    return corrupt(name, types.offset_,
                   formatted("rows of {} elements of type {} cannot be blocks of {}, which are {} bytes", tensor.dims[0],
                             traits(tensor.type).name, layout->name, layout->block_bytes));
  }
  tensor.type = layout->type;
  tensor.dims[0] = tensor.dims[0] / layout->block_bytes * layout->block_elements;
  if ((CheckedSize(tensor.dims[0]) * CheckedSize(tensor.dims[1]) * CheckedSize(tensor.dims[2]) * CheckedSize(tensor.dims[3]))
          .fits(INT64_MAX))
    return {};
  return corrupt(name, types.offset_, "the tensor has more than 2^63 elements");
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
    return corrupt(before.name, before.offset, formatted("{} bytes are needed, but {} begins after {}", before.bytes, tensor.name, room));
  }
  return {};
}

Result<GgufFile> GgufParser::parse() {
  GgufCounts counts = {};
  OTR_TRY(gguf_take_counts(&cursor_, &counts));

  const uint64_t entries_start = cursor_.position();
  for (uint64_t i = 0; i < counts.entries; ++i) OTR_TRY(take_entry(nullptr));
  GgufTensor scratch;
  for (uint64_t i = 0; i < counts.tensors; ++i) OTR_TRY(gguf_take_tensor(&cursor_, &scratch, most_name_bytes_));
  file_.header_bytes_ = cursor_.position();

  cursor_.trim();
  cursor_.rewind(entries_start);
  file_.values_.resize(counts.entries);
  for (GgufValue& value : file_.values_) OTR_TRY(take_entry(&value));
  OTR_TRY(sort_values());
  uint64_t alignment;
  OTR_TRY(find_alignment(&alignment));
  OTR_TRY(check_layout());
  OTR_TRY(take_tensors(counts.tensors, *CheckedSize(file_.header_bytes_).round_up(alignment).value(), alignment));
  file_.header_ = std::make_shared<const std::vector<std::byte>>(cursor_.release());
  return std::move(file_);
}

Result<GgufFile> GgufFile::open(std::shared_ptr<const ByteSource> source, uint64_t most_name_bytes) {
  return GgufParser(std::move(source), most_name_bytes).parse();
}

}  // namespace outrigger
