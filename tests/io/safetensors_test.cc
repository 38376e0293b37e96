// SafetensorsFile: what a header says, and that no header, whatever is wrong with it, costs more than an error.
#include "src/io/safetensors.h"

#include <string>
#include <vector>

#include "src/base/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/heap_watch.h"
#include "tests/support/safetensors_writer.h"

namespace outrigger {
namespace {

constexpr std::string_view kHeader =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
    R"("empty":{"dtype":"F16","shape":[0],"data_offsets":[24,24]},"one":{"dtype":"I64","shape":[],"data_offsets":[32,40]}}   )";
constexpr size_t kDataBytes = 40;

Result<SafetensorsFile> open(const std::vector<std::byte>& bytes) { return SafetensorsFile::open(wrap_memory(bytes)); }

TEST_CASE("SafetensorsFile: tensors come in the order of their bytes, with type, shape and place") {
  const std::vector<std::byte> bytes = safetensors_file(kHeader, kDataBytes);
  const SafetensorsFile file = open(bytes).value();
  CHECK(file.header_bytes() == bytes.size() - kDataBytes);
  REQUIRE(file.tensors().size() == 4);
  const SafetensorsTensor &a = file.tensors()[0], &empty = file.tensors()[1], &b = file.tensors()[2], &one = file.tensors()[3];
  CHECK(a.name == "a");
  CHECK(a.type == DType::kF32);
  CHECK(a.rank == 2);
  CHECK(a.dims == std::array<uint64_t, 4>{2, 3, 1, 1});
  CHECK(a.offset == file.header_bytes());
  CHECK(a.bytes == 24);
  CHECK(empty.name == "empty");
  CHECK(empty.bytes == 0);
  CHECK(b.type == DType::kBF16);
  CHECK(b.offset == file.header_bytes() + 24);
  CHECK(one.rank == 0);
  CHECK(one.bytes == 8);
}

// Opens or gives an error that says where, within the memory promised.
bool survives(const std::vector<std::byte>& bytes) {
  restart_heap_peak();
  const uint64_t before = heap_bytes();
  const Result<SafetensorsFile> file = open(bytes);
  const uint64_t used = heap_peak_bytes() - before;
  if (used > 8 * bytes.size() + 1_MiB) FAIL(used << " bytes for a file of " << bytes.size());
  if (file.is_ok()) return true;
  const Status status = file.status();
  if (status.code() != StatusCode::kCorruptFile && status.code() != StatusCode::kUnsupported) FAIL(status.to_string());
  if (status.message().empty() || status.to_string().find('\n') != std::string::npos) FAIL("message: " << status.to_string());
  if (status.byte_offset() > bytes.size()) FAIL("offset beyond the file: " << status.to_string());
  return false;
}

TEST_CASE("SafetensorsFile: cut anywhere, it is refused") {
  const std::vector<std::byte> bytes = safetensors_file(kHeader, kDataBytes);
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    CAPTURE(cut);
    // An allocation of exactly this size, so that a read past the cut is one past the memory, which the sanitizer sees.
    CHECK_FALSE(survives({bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(cut)}));
  }
}

TEST_CASE("SafetensorsFile: any single bit of the header may be wrong") {
  std::vector<std::byte> bytes = safetensors_file(kHeader, kDataBytes);
  int taken = 0;
  for (size_t bit = 0; bit < (bytes.size() - kDataBytes) * 8; ++bit) {
    CAPTURE(bit);
    const auto mask = static_cast<std::byte>(1 << bit % 8);
    bytes[bit / 8] ^= mask;
    taken += survives(bytes);
    bytes[bit / 8] ^= mask;
  }
  CHECK(survives(bytes));
  CHECK(taken < 200);  // names and metadata may say anything; numbers, types and structure may not
}

TEST_CASE("SafetensorsFile: any number of the header may be any of the dangerous ones") {
  const std::string header(kHeader);
  const char* const numbers[] = {"0",
                                 "1",
                                 "-1",
                                 "2147483648",
                                 "4294967295",
                                 "9223372036854775807",
                                 "9223372036854775808",
                                 "18446744073709551615",
                                 "18446744073709551616",
                                 "1e3",
                                 "1.0",
                                 "1e999",
                                 "null",
                                 "\"8\"",
                                 "[]",
                                 "{}",
                                 "true",
                                 "01",
                                 "39",
                                 "40",
                                 "41"};
  int changed = 0;
  for (size_t i = 0; i < header.size(); ++i) {
    const auto is_digit = [&](size_t at) { return header[at] >= '0' && header[at] <= '9'; };
    const char before = header[i == 0 ? 0 : i - 1];
    if (!is_digit(i) || (before != '[' && before != ',')) continue;
    size_t end = i;
    while (is_digit(end)) ++end;
    for (const char* number : numbers) {
      const std::string text = header.substr(0, i) + number + header.substr(end);
      CAPTURE(text);
      if (header.substr(i, end - i) != number) CHECK_FALSE(survives(safetensors_file(text, kDataBytes)));
      ++changed;
    }
  }
  CHECK(changed > 200);
  for (const uint64_t length :
       {uint64_t{0}, uint64_t{1}, uint64_t{header.size() + kDataBytes + 1}, uint64_t{1} << 31, uint64_t{1} << 63, ~uint64_t{0}}) {
    std::vector<std::byte> bytes = safetensors_file(header, kDataBytes);
    std::memcpy(bytes.data(), &length, sizeof length);
    CAPTURE(length);
    CHECK_FALSE(survives(bytes));
  }
}

TEST_CASE("SafetensorsFile: 100,000 of the smallest tensors are read in time and memory proportional to them") {
  std::string header = "{";
  for (int i = 0; i < 100000; ++i)
    header += (i ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[],"data_offsets":[)" + std::to_string(i) + "," +
              std::to_string(i + 1) + "]}";
  CHECK(survives(safetensors_file(header + "}", 100000)));
}

}  // namespace
}  // namespace outrigger
