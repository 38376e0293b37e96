// The pieces of a GGUF header: names, types, values, one tensor of the directory.
#include "src/io/gguf_entries.h"

#include <utf8proc.h>

#include <optional>

#include "src/base/checked.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/tensor/packed.h"

namespace outrigger {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint32_t kVersion = 3;
// The smallest entry: length and one byte of name, then type and one byte, or rank, one dimension, type and offset.
constexpr uint64_t kMinEntryBytes = 8 + 1 + 4 + 1, kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

// A key or tensor name: not empty, within the limit, UTF-8, without control characters (NUL among them), so that it can be printed.
Status check_name(const GgufCursor& cursor, std::string_view name, uint64_t offset, const char* what, uint64_t limit) {
  if (name.empty()) return cursor.corrupt(offset, formatted("a {} is empty", what));
  if (name.size() > limit) {
    return cursor.corrupt(offset, formatted("a {} has {} bytes, at most {} are allowed", what, name.size(), limit));
  }
  for (size_t i = 0; i < name.size();) {
    utf8proc_int32_t code;
    const utf8proc_ssize_t length =
        utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(name.data()) + i, static_cast<utf8proc_ssize_t>(name.size() - i), &code);
    if (length <= 0) return cursor.corrupt(offset + i, formatted("a {} is not valid UTF-8", what));
    if (code < 0x20 || code == 0x7f) return cursor.corrupt(offset + i, formatted("a {} contains the control character {}", what, code));
    i += static_cast<size_t>(length);
  }
  return {};
}

}  // namespace

Status gguf_take_counts(GgufCursor* cursor, GgufCounts* counts) {
  uint32_t magic, version;
  OTR_TRY(cursor->take(&magic, "the magic number"));
  if (magic != kMagic) return cursor->corrupt(0, formatted("not a GGUF file: it begins with {:#010x}, not with \"GGUF\"", magic));
  OTR_TRY(cursor->take(&version, "the version"));
  if (version != kVersion && (version & 0xffff) == 0 && version != 0) {
    return cursor->unsupported(4, "the file is big-endian; convert it to little-endian");
  }
  if (version != kVersion) return cursor->unsupported(4, formatted("GGUF version {}; this build reads version 3", version));
  OTR_TRY(cursor->take(&counts->tensors, "the number of tensors"));
  OTR_TRY(cursor->take(&counts->entries, "the number of metadata entries"));
  const uint64_t remaining = cursor->remaining();
  if (counts->tensors > remaining / kMinTensorBytes) {
    return cursor->corrupt(8, formatted("{} tensors are announced, {} bytes remain", counts->tensors, remaining));
  }
  if (counts->entries > remaining / kMinEntryBytes) {
    return cursor->corrupt(16, formatted("{} metadata entries are announced, {} bytes remain", counts->entries, remaining));
  }
  return {};
}

Status gguf_take_name(GgufCursor* cursor, std::string_view* name, const char* what, uint64_t limit) {
  const uint64_t start = cursor->position();
  const std::string place = cursor->subject().empty() ? what : formatted("the {} after {}", what, cursor->subject());
  cursor->set_subject({});
  OTR_TRY(cursor->take_text(name, place.c_str()));
  OTR_TRY(check_name(*cursor, *name, start + 8, what, limit));
  cursor->set_subject(*name);
  return {};
}

Status gguf_take_type(GgufCursor* cursor, GgufType* type, const char* what) {
  uint32_t number;
  OTR_TRY(cursor->take(&number, what));
  if (number > static_cast<uint32_t>(GgufType::kF64)) {
    return cursor->corrupt(cursor->position() - 4, formatted("{} {} is unknown; 0 to 12 exist", what, number));
  }
  *type = static_cast<GgufType>(number);
  return {};
}

Status gguf_skip_values(GgufCursor* cursor, GgufType type, uint64_t count) {
  if (type != GgufType::kString) {
    const uint64_t start = cursor->position();
    OTR_TRY(cursor->skip(count, gguf_fixed_bytes(type), "a value"));
    for (uint64_t i = 0; type == GgufType::kBool && i < count; ++i) {
      const int byte = std::to_integer<int>(*cursor->at(start + i));
      if (byte > 1) return cursor->corrupt(start + i, formatted("a bool is {}; 0 or 1 is needed", byte));
    }
    return {};
  }
  if (count > cursor->remaining() / 8) {
    return cursor->corrupt(cursor->position(), formatted("{} strings are announced, but only {} bytes remain", count, cursor->remaining()));
  }
  std::string_view text;
  for (uint64_t i = 0; i < count; ++i) OTR_TRY(cursor->take_text(&text, "a string"));
  return {};
}

Status gguf_take_tensor(GgufCursor* cursor, GgufTensor* tensor, uint64_t most_name_bytes) {
  std::string_view name;
  OTR_TRY(gguf_take_name(cursor, &name, "tensor name", most_name_bytes));
  tensor->name = name;
  OTR_TRY(cursor->take(&tensor->rank, "a tensor's rank"));
  if (tensor->rank < 1 || tensor->rank > 4) {
    return cursor->corrupt(cursor->position() - 4, formatted("{} dimensions; 1 to 4 are allowed", tensor->rank));
  }
  tensor->dims = {1, 1, 1, 1};
  CheckedSize elements = 1;
  for (uint32_t i = 0; i < tensor->rank; ++i) {
    OTR_TRY(cursor->take(&tensor->dims[i], "a tensor's shape"));
    if (tensor->dims[i] == 0) return cursor->corrupt(cursor->position() - 8, formatted("dimension {} is 0", i));
    elements = elements * tensor->dims[i];
  }
  const uint64_t shape_end = cursor->position();
  if (!elements.fits(INT64_MAX)) {
    return cursor->corrupt(shape_end - 8, formatted("shape [{}] has more than 2^63 elements", joined(tensor->dims, ", ")));
  }
  uint32_t type;
  OTR_TRY(cursor->take(&type, "a tensor's type"));
  tensor->is_packed = type >= kGgufPackedTypeBase;
  const DTypeTraits* layout = find_dtype(tensor->is_packed ? type - kGgufPackedTypeBase : type);
  if (layout == nullptr) return cursor->unsupported(shape_end, formatted("tensor type {} is unknown to this build", type));
  tensor->type = layout->type;
  if (tensor->dims[0] % layout->block_elements != 0) {
    return cursor->corrupt(
        shape_end, formatted("a row of {} elements is not whole {} blocks of {}", tensor->dims[0], layout->name, layout->block_elements));
  }
  const CheckedSize bytes = CheckedSize(tensor->is_packed ? 0 : tensor->elements() / layout->block_elements) * layout->block_bytes;
  if (!bytes.fits(INT64_MAX)) return cursor->corrupt(shape_end, "the tensor has more than 2^63 bytes");
  tensor->bytes = *bytes.value();
  return cursor->take(&tensor->offset, "a tensor's offset");
}

Status gguf_size_packed(const GgufCursor& cursor, GgufTensor* tensor) {
  const uint64_t type_at = cursor.position() - 12;
  const std::optional<PackedKind> kind = packed_kind(tensor->type);
  if (!kind)
    return cursor.unsupported(type_at, formatted("packed tensors of type {} are unknown to this build", traits(tensor->type).name));
  if (tensor->rank != 2 && tensor->rank != 3) {
    return cursor.corrupt(type_at, formatted("a packed tensor of {} dimensions; 2 or 3 are needed", tensor->rank));
  }
  // A column of a row block takes at most 64 bytes (F32), and units at most 256 columns: packed_block_bytes cannot overflow either.
  const CheckedSize most = CheckedSize(tensor->dims[0]).round_up(256) * 64;
  if (!most.fits(INT64_MAX)) return cursor.corrupt(type_at, "a row block has more than 2^63 bytes");
  const CheckedSize blocks = CheckedSize((tensor->dims[1] - 1) / kPackRows + 1) * tensor->dims[2];
  const CheckedSize bytes = blocks * packed_block_bytes(*kind, tensor->dims[0]);
  if (!bytes.fits(INT64_MAX)) return cursor.corrupt(type_at, "the packed tensor has more than 2^63 bytes");
  tensor->bytes = *bytes.value();
  return {};
}

}  // namespace outrigger
