// Systematic damage to valid headers: whatever the bytes, opening succeeds or gives a listed error, and what it opens can be read.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "src/base/bytes.h"
#include "src/io/gguf.h"
#include "tests/support/catch.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/heap_watch.h"

namespace outrigger {
namespace {

/// Reads every value in every way and every tensor's place. Returns a number that depends on all of it, so that nothing is left out.
uint64_t read_all(const GgufFile& file) {
  uint64_t sum = 0;
  for (const GgufValue& value : file.values()) {
    sum += value.to_string().size() + value.as_u64().is_ok() + value.as_i64().is_ok() + value.as_f64().is_ok() + value.as_bool().is_ok();
    Result<std::string_view> text = value.as_string();
    if (text.is_ok()) sum += std::string(text.value()).size();
    Result<std::vector<std::string_view>> strings = value.as_strings();
    for (size_t i = 0; strings.is_ok() && i < strings->size(); ++i) sum += std::string(strings.value()[i]).size();
    sum += value.as_floats().is_ok() + value.as_i32s().is_ok();
    if (file.find(value.key()) != &value) return 0;
  }
  const uint64_t size = file.source().size_bytes();
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.offset < file.header_bytes() || tensor.offset > size || tensor.bytes > size - tensor.offset) return 0;
    if (file.find_tensor(tensor.name) != &tensor || tensor.elements() == 0) return 0;
    sum += tensor.bytes;
  }
  return sum + 1;
}

/// Opens damaged bytes; fails the test unless the outcome is one a caller may meet. Returns whether they opened.
bool survives(std::span<const std::byte> bytes) {
  restart_heap_peak();
  const uint64_t before = heap_bytes();
  Result<GgufFile> file = GgufFile::open(wrap_memory(bytes));
  if (heap_peak_bytes() - before > 8 * bytes.size() + 1_MiB) FAIL("too much memory: " << heap_peak_bytes() - before);
  if (file.is_ok()) {
    if (read_all(file.value()) == 0) FAIL("opened, but contradicts itself");
    return true;
  }
  const Status status = file.status();
  if (status.code() != StatusCode::kCorruptFile && status.code() != StatusCode::kUnsupported) FAIL(status.to_string());
  if (status.message().empty() || status.message().find('\n') != std::string::npos) FAIL("message: " << status.message());
  if (status.byte_offset() > bytes.size()) FAIL("offset beyond the file: " << status.to_string());
  return false;
}

std::vector<std::byte> file_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  INFO(path);
  REQUIRE_FALSE(bytes.empty());
  const std::span<const std::byte> view = std::as_bytes(std::span(bytes));
  return {view.begin(), view.end()};
}

/// One of every value and array type, and of every tensor type.
std::vector<std::byte> zoo() {
  GgufWriter writer;
  writer.add_u8("u8", 1);
  writer.add_i8("i8", -1);
  writer.add_u16("u16", 1);
  writer.add_i16("i16", -1);
  writer.add_u32("u32", 1);
  writer.add_i32("i32", -1);
  writer.add_u64("u64", 1);
  writer.add_i64("i64", -1);
  writer.add_f32("f32", 1);
  writer.add_f64("f64", 1);
  writer.add_bool("bool", true);
  writer.add_string("string", "text");
  writer.add_u32("general.alignment", 32);
  for (uint32_t type = 0; type <= 12; ++type) {
    if (type == static_cast<uint32_t>(GgufType::kArray)) continue;
    // Three elements of each, of zeros: as strings, three empty ones.
    const uint64_t fixed = gguf_fixed_bytes(static_cast<GgufType>(type));
    std::vector<std::byte> array(12 + 3 * (fixed == 0 ? 8 : fixed));
    array[0] = static_cast<std::byte>(type);
    array[4] = std::byte{3};
    writer.add_raw("array." + std::to_string(type), static_cast<uint32_t>(GgufType::kArray), array);
  }
  for (const DTypeTraits& layout : all_dtypes()) {
    writer.add_tensor(layout.name, layout.type, {layout.block_elements, 3}, std::vector<std::byte>(3 * layout.block_bytes));
  }
  return writer.finish();
}

std::vector<std::pair<std::string, std::vector<std::byte>>> seeds() {
  return {{"valid", file_bytes(OTR_BAD_GGUF_DIR "/valid.gguf")},
          {"valid_bpe", file_bytes(OTR_BAD_GGUF_DIR "/valid_bpe.gguf")},
          {"valid_packed", file_bytes(OTR_BAD_GGUF_DIR "/valid_packed.gguf")},
          {"zoo", zoo()}};
}

uint64_t header_bytes(std::span<const std::byte> bytes) {
  Result<GgufFile> file = GgufFile::open(wrap_memory(bytes));
  INFO(file.status().to_string());
  REQUIRE(file.is_ok());
  REQUIRE(read_all(file.value()) != 0);
  return file->header_bytes();
}

TEST_CASE("GgufFile: a header cut at any byte is refused") {
  for (const auto& [name, bytes] : seeds()) {
    const uint64_t end = header_bytes(bytes);
    for (uint64_t cut = 0; cut <= end; ++cut) {
      CAPTURE(name, cut);
      // An allocation of exactly this size, so that a read past the cut is one past the memory, which the sanitizer sees.
      const std::vector<std::byte> part(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(cut));
      if (survives(part)) FAIL("opened");
    }
  }
}

TEST_CASE("GgufFile: any integer of the header may be any of the dangerous numbers") {
  std::ifstream list(OTR_BAD_GGUF_DIR "/fields.tsv");
  std::vector<std::byte> bytes = file_bytes(OTR_BAD_GGUF_DIR "/valid.gguf");
  const uint64_t size = bytes.size();
  const uint64_t numbers[] = {0,        1,    0x7fffffff, 0x80000000, 0xffffffff, ~uint64_t{0} >> 1, uint64_t{1} << 63, ~uint64_t{0},
                              size - 1, size, size + 1};
  int fields = 0;
  for (std::string line; std::getline(list, line); ++fields) {
    size_t offset = 0, length = 0;
    REQUIRE(std::sscanf(line.c_str(), "%zu\t%zu", &offset, &length) == 2);
    REQUIRE(offset + length <= size);
    const std::vector<std::byte> original(bytes.begin() + static_cast<ptrdiff_t>(offset),
                                          bytes.begin() + static_cast<ptrdiff_t>(offset + length));
    for (uint64_t number : numbers) {
      CAPTURE(line, number);
      for (size_t i = 0; i < length; ++i) bytes[offset + i] = static_cast<std::byte>(number >> 8 * i & 255);
      (void)survives(bytes);
    }
    std::copy(original.begin(), original.end(), bytes.begin() + static_cast<ptrdiff_t>(offset));
  }
  CHECK(fields > 500);
  CHECK(survives(bytes));
}

TEST_CASE("GgufFile: any single bit of the header may be wrong") {
  for (auto& [name, bytes] : seeds()) {
    const uint64_t end = header_bytes(bytes);
    for (uint64_t bit = 0; bit < end * 8; ++bit) {
      // The middle is 300 tokens and their scores: all alike, and a minute under the sanitizers.
      if (bit / 8 > 1536 && bit / 8 + 1536 < end) continue;
      CAPTURE(name, bit);
      const auto mask = static_cast<std::byte>(1 << bit % 8);
      bytes[bit / 8] ^= mask;
      (void)survives(bytes);
      bytes[bit / 8] ^= mask;
    }
    CHECK(survives(bytes));
  }
}

}  // namespace
}  // namespace outrigger
