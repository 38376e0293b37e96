// SplicedSource and GgufHeader: several files behind a made header are one GGUF file.
#include "src/io/spliced_source.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "src/io/gguf.h"
#include "src/io/gguf_header.h"
#include "tests/support/catch.h"
#include "tests/support/gguf_writer.h"

namespace outrigger {
namespace {

std::vector<std::byte> counting(size_t bytes, int first) {
  std::vector<std::byte> content(bytes);
  for (size_t i = 0; i < bytes; ++i) content[i] = static_cast<std::byte>(first + static_cast<int>(i % 251));
  return content;
}

struct AlignedMemory {
  explicit AlignedMemory(size_t bytes) : data(static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, bytes))), size(bytes) {}
  ~AlignedMemory() { std::free(data); }
  std::byte* data;
  size_t size;
};

TEST_CASE("SplicedSource: any range reads as header, zeros and files stand, across every seam") {
  const std::vector<std::byte> a = counting(5000, 1), b = counting(4096, 7), c = counting(1, 9);
  SplicedSource source("all", {wrap_memory(a), wrap_memory(b), wrap_memory(c)});
  const std::string header(100, 'h');
  CHECK(source.places(100) == std::vector<uint64_t>{4096, 12288, 16384});
  source.set_header(header);
  REQUIRE(source.size_bytes() == 16385);
  CHECK(source.stored_bytes() == 5000 + 4096 + 1);

  std::vector<std::byte> whole(source.size_bytes());
  std::memcpy(whole.data(), header.data(), header.size());
  std::copy(a.begin(), a.end(), whole.begin() + 4096);
  std::copy(b.begin(), b.end(), whole.begin() + 12288);
  std::copy(c.begin(), c.end(), whole.begin() + 16384);
  for (const uint64_t begin : {0, 1, 99, 100, 4095, 4096, 9095, 9096, 12287, 12288, 16383, 16384, 16385}) {
    for (const uint64_t length : {0, 1, 2, 100, 4096, 9000, 16385}) {
      if (begin + length > whole.size()) continue;
      CAPTURE(begin, length);
      std::vector<std::byte> got(length, std::byte{0xee});
      REQUIRE(source.read(begin, got).is_ok());
      CHECK(std::equal(got.begin(), got.end(), whole.begin() + static_cast<ptrdiff_t>(begin)));
    }
  }
  std::vector<std::byte> two(2);
  CHECK(source.read(16384, two).code() == StatusCode::kIo);
  CHECK(source.read(UINT64_MAX, two).code() == StatusCode::kIo);
}

TEST_CASE("SplicedSource: a direct read lies in one file, and says so when it does not") {
  const std::vector<std::byte> a = counting(5000, 1), b = counting(4096, 7);
  SplicedSource source("all", {wrap_memory(a), wrap_memory(b)});
  source.set_header(std::string(8, 'h'));
  CHECK(source.read_direct(4096 + 4999, 1, {}).value() == a.data() + 4999);
  CHECK(source.read_direct(12288, 4096, {}).value() == b.data());
  for (const auto& [offset, length] :
       std::vector<std::pair<uint64_t, uint64_t>>{{0, 8}, {4096 + 4999, 2}, {9096, 1}, {12288, 4097}, {12287, 2}}) {
    CAPTURE(offset, length);
    CHECK(source.read_direct(offset, length, {}).status().code() == StatusCode::kInternal);
  }
  CHECK(source.locate(12290).offset == 2);
  CHECK(source.locate(3).file == "all");
}

TEST_CASE("SplicedSource: files on a disk are read past the page cache at the places they have, and a change of any is noticed") {
  char folder[] = "/tmp/spliced_XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  const std::string first = std::string(folder) + "/1", second = std::string(folder) + "/2";
  const std::vector<std::byte> a = counting(10000, 1), b = counting(9999, 5);
  write_test_file(first, a);
  write_test_file(second, b);
  SplicedSource source("all", {open_file(first).value(), open_file(second).value()});
  source.set_header("h");
  const uint64_t begin = source.places(1)[1];
  CHECK(source.locate(begin + 5).file == second);
  const AlignedMemory staging(source.direct_staging_bytes(9000));
  for (const uint64_t at : {0, 1, 777, 999}) {
    const std::byte* got = source.read_direct(begin + at, 9000, {staging.data, staging.size}).value();
    CHECK(std::memcmp(got, b.data() + at, 9000) == 0);
  }
  CHECK(source.check_unchanged().is_ok());
  REQUIRE(::truncate(second.c_str(), 5000) == 0);
  const Status status = source.check_unchanged();
  CHECK(status.code() == StatusCode::kIo);
  CHECK(status.file() == second);
  ::unlink(first.c_str());
  ::unlink(second.c_str());
  ::rmdir(folder);
}

TEST_CASE("GgufHeader: what was put in comes out of the reader, with tensors where the files are") {
  const std::vector<std::byte> a = counting(24, 1), b = counting(6, 7);
  SplicedSource* spliced = new SplicedSource("made", {wrap_memory(a), wrap_memory(b)});
  const std::shared_ptr<const ByteSource> source(spliced);
  GgufHeader header;
  header.add_u32("general.alignment", 1);
  header.add_f64("pi", 3.25);
  header.add_bool("yes", true);
  header.add_string("text", "gr\xc3\xbc\xc3\x9f");
  header.begin_array("words", GgufType::kString);
  header.add_element("one");
  header.add_element("");
  header.end_array();
  header.begin_array("numbers", GgufType::kI32);
  for (const int32_t number : {-1, 0, INT32_MAX}) header.add_element(number);
  header.end_array();
  header.add_tensor("a", DType::kF32, std::vector<uint64_t>{3, 2});
  header.add_tensor(std::string(100, 'b'), DType::kF16, std::vector<uint64_t>{3});
  const std::vector<uint64_t> places = spliced->places(header.bytes());
  spliced->set_header(header.finish(places));

  CHECK(GgufFile::open(source).status().code() == StatusCode::kCorruptFile);  // the second name is too long for the format
  const GgufFile file = GgufFile::open(source, 100).value();
  spliced->forget_header();
  CHECK(file.find("pi")->as_f64().value() == 3.25);
  CHECK(file.find("yes")->as_bool().value());
  CHECK(file.find("text")->as_string().value() == "gr\xc3\xbc\xc3\x9f");
  CHECK(file.find("words")->as_strings().value() == std::vector<std::string_view>{"one", ""});
  CHECK(file.find("numbers")->as_i32s().value() == std::vector<int32_t>{-1, 0, INT32_MAX});
  REQUIRE(file.tensors().size() == 2);
  CHECK(file.find_tensor("a")->offset == places[0]);
  CHECK(file.find_tensor("a")->rows() == 2);
  std::vector<std::byte> read(6);
  REQUIRE(file.source().read(file.tensors()[1].offset, read).is_ok());
  CHECK(read == b);
  CHECK(file.source().read(0, read).code() == StatusCode::kInternal);
}

}  // namespace
}  // namespace outrigger
