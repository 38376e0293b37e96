// GgufWriter: small GGUF files made in memory.
#include "tests/support/gguf_writer.h"

#include <fstream>

#include "tests/support/catch.h"

namespace outrigger {

void GgufWriter::append_number(std::string* out, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) out->push_back(static_cast<char>(value >> 8 * i & 255));
}

void GgufWriter::append_text(std::string* out, std::string_view text) {
  append_number(out, text.size(), 8);
  out->append(text);
}

void GgufWriter::begin(std::string_view key, GgufType type) {
  append_text(&entries_, key);
  append_number(&entries_, static_cast<uint32_t>(type), 4);
  ++entry_count_;
}

void GgufWriter::begin_array(std::string_view key, GgufType element_type, uint64_t count) {
  begin(key, GgufType::kArray);
  append_number(&entries_, static_cast<uint32_t>(element_type), 4);
  append_number(&entries_, count, 8);
}

void GgufWriter::add_string(std::string_view key, std::string_view value) {
  begin(key, GgufType::kString);
  append_text(&entries_, value);
}

void GgufWriter::add_strings(std::string_view key, std::span<const std::string> values) {
  begin_array(key, GgufType::kString, values.size());
  for (const std::string& value : values) append_text(&entries_, value);
}

void GgufWriter::add_raw(std::string_view key, uint32_t type, std::span<const std::byte> value) {
  begin(key, static_cast<GgufType>(type));
  append(&entries_, value);
}

void GgufWriter::add_tensor(std::string_view name, DType type, std::vector<uint64_t> dims, std::vector<std::byte> bytes) {
  tensors_.push_back({std::string(name), type, std::move(dims), std::move(bytes)});
}

void GgufWriter::add_tensor_f32(std::string_view name, std::vector<uint64_t> dims, std::span<const float> values) {
  const std::span<const std::byte> bytes = std::as_bytes(values);
  add_tensor(name, DType::kF32, std::move(dims), {bytes.begin(), bytes.end()});
}

std::vector<std::byte> GgufWriter::finish(uint64_t alignment) const {
  const auto padding = [&](uint64_t size) { return (alignment - size % alignment) % alignment; };
  std::string file = "GGUF";
  append_number(&file, 3, 4);
  append_number(&file, tensors_.size(), 8);
  append_number(&file, entry_count_, 8);
  file += entries_;

  uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    append_text(&file, tensor.name);
    append_number(&file, tensor.dims.size(), 4);
    for (uint64_t dim : tensor.dims) append_number(&file, dim, 8);
    append_number(&file, static_cast<uint32_t>(tensor.type), 4);
    append_number(&file, offset, 8);
    offset += tensor.bytes.size() + padding(tensor.bytes.size());
  }
  for (const Tensor& tensor : tensors_) {
    file.resize(file.size() + padding(file.size()));
    append(&file, tensor.bytes);
  }
  file.resize(file.size() + padding(file.size()));
  const std::span<const std::byte> bytes = std::as_bytes(std::span(file));
  return {bytes.begin(), bytes.end()};
}

void write_test_file(const std::string& path, std::span<const std::byte> bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  file.flush();
  REQUIRE(file.good());
}

}  // namespace outrigger
