// Every malformed container of the catalogue gives its error: at once, from file and from memory, with little memory.
#include "tests/support/bad_gguf.h"

#include <time.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "src/base/bytes.h"
#include "src/io/gguf.h"
#include "tests/support/catch.h"
#include "tests/support/heap_watch.h"

namespace outrigger {
namespace {

struct Outcome {
  Status status;
  double cpu_seconds;
  uint64_t heap_bytes;  ///< the most at any time, above what was in use before
};

// This thread's own time: the machine may be busy with other tests.
double cpu_seconds() {
  timespec now;
  REQUIRE(::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

Outcome open_measured(const std::shared_ptr<const ByteSource>& source) {
  restart_heap_peak();
  const uint64_t before = heap_bytes();
  const double start = cpu_seconds();
  Status status = GgufFile::open(source).status();
  return {std::move(status), cpu_seconds() - start, heap_peak_bytes() - before};
}

TEST_CASE("GgufFile: each malformed file gives its documented error within a second and 8 x file + 1 MiB") {
  const std::vector<BadGguf> rows = bad_ggufs(OTR_BAD_GGUF_DIR, "container");
  CHECK(rows.size() >= 100);
  for (const BadGguf& row : rows) {
    INFO(row.file);
    Result<std::shared_ptr<const ByteSource>> source = open_file(row.file);
    REQUIRE(source.is_ok());
    const Outcome outcome = open_measured(source.value());
    CHECK(difference(row, outcome.status) == "");
    CHECK(outcome.status.file() == row.file);
    CHECK(outcome.cpu_seconds < 1);
    CHECK(outcome.heap_bytes <= 8 * source.value()->size_bytes() + 1_MiB);
  }
}

TEST_CASE("GgufFile: the same bytes in memory give the same errors") {
  for (const BadGguf& row : bad_ggufs(OTR_BAD_GGUF_DIR, "container")) {
    INFO(row.file);
    std::ifstream stream(row.file, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), {}};
    CHECK(difference(row, open_measured(wrap_memory(std::as_bytes(std::span(bytes)))).status) == "");
  }
}

TEST_CASE("GgufFile: what is wrong with a model only is a good container, and so are the models it is derived from") {
  std::vector<std::string> files = {OTR_BAD_GGUF_DIR "/valid.gguf", OTR_BAD_GGUF_DIR "/valid_bpe.gguf",
                                    OTR_BAD_GGUF_DIR "/valid_packed.gguf"};
  for (const BadGguf& row : bad_ggufs(OTR_BAD_GGUF_DIR, "model")) files.push_back(row.file);
  for (const std::string& file : files) {
    Result<std::shared_ptr<const ByteSource>> source = open_file(file);
    REQUIRE(source.is_ok());
    const Outcome outcome = open_measured(source.value());
    INFO(outcome.status.to_string());
    CHECK(outcome.status.is_ok());
  }
}

// 14 bytes an entry is the least the format allows, and what a hostile file would consist of.
TEST_CASE("GgufFile: a header of 200,000 smallest entries or tensors is read in time and memory proportional to it") {
  constexpr uint32_t kCount = 200000;
  const auto name_of = [](uint32_t i) {
    std::string name;
    for (; i != 0 || name.empty(); i /= 90) name += static_cast<char>('!' + i % 90);
    return name;
  };
  for (bool tensors : {false, true}) {
    std::string file = "GGUF";
    const auto number = [&file](uint64_t value, int bytes) {
      for (int b = 0; b < bytes; ++b) file += static_cast<char>(value >> 8 * b & 255);
    };
    number(3, 4);
    number(tensors ? kCount : 0, 8);
    number(tensors ? 1 : kCount, 8);
    if (tensors) {
      number(17, 8);
      file += "general.alignment";
      number(4, 4);
      number(1, 4);
    }
    for (uint32_t i = 0; i < kCount; ++i) {
      const std::string name = name_of(i);
      number(name.size(), 8);
      file += name;
      number(tensors ? 1 : 0, 4);  // rank, or type u8
      number(tensors ? 1 : i, tensors ? 8 : 1);
      if (tensors) number(24, 4), number(i, 8);  // one byte each, of type I8
    }
    if (tensors) file.resize(file.size() + kCount);
    const Outcome outcome = open_measured(wrap_memory(std::as_bytes(std::span(file))));
    INFO(outcome.status.to_string());
    CHECK(outcome.status.is_ok());
    CHECK(outcome.heap_bytes <= 8 * file.size() + 1_MiB);
    CHECK(outcome.cpu_seconds < 10);  // 0.2 s; comparing each with each would take minutes
  }
}

}  // namespace
}  // namespace outrigger
