// GgufHeader: numbers as little-endian bytes, counts filled in when they are known.
#include "src/io/gguf_header.h"

#include <bit>

namespace outrigger {
namespace {

void append(std::string* out, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) out->push_back(static_cast<char>(value >> 8 * i & 255));
}

void append_text(std::string* out, std::string_view text) {
  append(out, text.size(), 8);
  out->append(text);
}

void put_u64(std::string* out, size_t at, uint64_t value) {
  for (size_t i = 0; i < 8; ++i) (*out)[at + i] = static_cast<char>(value >> 8 * i & 255);
}

constexpr size_t kTensorCountAt = 8, kEntryCountAt = 16, kFixedBytes = 24;

}  // namespace

GgufHeader::GgufHeader() : entries_("GGUF") {
  append(&entries_, 3, 4);
  entries_.resize(kFixedBytes);
}

void GgufHeader::begin(std::string_view key, GgufType type) {
  append_text(&entries_, key);
  append(&entries_, static_cast<uint32_t>(type), 4);
  ++entry_count_;
}

void GgufHeader::add_number(std::string_view key, GgufType type, uint64_t value, size_t bytes) {
  begin(key, type);
  append(&entries_, value, bytes);
}

void GgufHeader::add_f32(std::string_view key, float value) { add_number(key, GgufType::kF32, std::bit_cast<uint32_t>(value), 4); }

void GgufHeader::add_f64(std::string_view key, double value) { add_number(key, GgufType::kF64, std::bit_cast<uint64_t>(value), 8); }

void GgufHeader::add_string(std::string_view key, std::string_view value) {
  begin(key, GgufType::kString);
  append_text(&entries_, value);
}

void GgufHeader::add_value(const GgufValue& value) {
  begin(value.key(), value.type());
  if (value.type() == GgufType::kArray) {
    append(&entries_, static_cast<uint32_t>(value.element_type()), 4);
    append(&entries_, value.count(), 8);
  }
  entries_.append(reinterpret_cast<const char*>(value.raw().data()), value.raw().size());
}

void GgufHeader::begin_array(std::string_view key, GgufType element_type) {
  begin(key, GgufType::kArray);
  append(&entries_, static_cast<uint32_t>(element_type), 4);
  array_count_at_ = entries_.size();
  array_count_ = 0;
  append(&entries_, 0, 8);
}

void GgufHeader::add_element(std::string_view text) {
  append_text(&entries_, text);
  ++array_count_;
}

void GgufHeader::add_element(int32_t number) {
  append(&entries_, static_cast<uint32_t>(number), 4);
  ++array_count_;
}

void GgufHeader::end_array() { put_u64(&entries_, array_count_at_, array_count_); }

void GgufHeader::add_tensor(std::string_view name, DType type, std::span<const uint64_t> dims, bool is_packed) {
  append_text(&tensors_, name);
  append(&tensors_, dims.size(), 4);
  for (const uint64_t dim : dims) append(&tensors_, dim, 8);
  append(&tensors_, static_cast<uint32_t>(type) + (is_packed ? kGgufPackedTypeBase : 0), 4);
  offsets_at_.push_back(tensors_.size());
  append(&tensors_, 0, 8);
}

std::string GgufHeader::finish(std::span<const uint64_t> places, uint64_t alignment) {
  const uint64_t data_start = (bytes() + alignment - 1) / alignment * alignment;
  for (size_t i = 0; i < offsets_at_.size(); ++i) put_u64(&tensors_, offsets_at_[i], places[i] - data_start);
  put_u64(&entries_, kTensorCountAt, offsets_at_.size());
  put_u64(&entries_, kEntryCountAt, entry_count_);
  entries_ += tensors_;
  entries_.resize(data_start);
  return std::move(entries_);
}

}  // namespace outrigger
