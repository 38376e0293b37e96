// ByteSource over files and memory: what is read, and what happens when the system or somebody else gets in the way.
//
// pread is replaced in this binary, so that interruptions, short counts and errors can be dealt out call by call.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "src/base/bytes.h"
#include "src/io/byte_source.h"
#include "tests/support/catch.h"
#include "tests/support/gguf_writer.h"

namespace {

/// What the next pread does: a count to read instead of the one asked for, or -errno. Null: what the system does.
std::function<ssize_t(int call, size_t count, off_t offset)> fault;
std::atomic<int> pread_calls = 0;

}  // namespace

extern "C" ssize_t pread(int fd, void* buffer, size_t count, off_t offset) {
  const int call = pread_calls++;
  if (fault) {
    const ssize_t outcome = fault(call, count, offset);
    if (outcome < 0) return errno = static_cast<int>(-outcome), -1;
    count = std::min(count, static_cast<size_t>(outcome));
  }
  return static_cast<ssize_t>(syscall(SYS_pread64, fd, buffer, count, offset));
}

namespace outrigger {
namespace {

/// A directory of its own for each test case, and faults that end with it.
struct Scratch {
  std::filesystem::path path;

  Scratch() {
    std::string pattern = (std::filesystem::temp_directory_path() / "outrigger-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path = pattern;
    pread_calls = 0;
  }
  ~Scratch() {
    fault = nullptr;
    std::filesystem::remove_all(path);
  }
  std::string operator/(const char* name) const { return (path / name).string(); }
};

std::vector<std::byte> random_bytes(size_t size) {
  std::mt19937 random(static_cast<unsigned>(size));
  std::vector<std::byte> bytes(size);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

std::shared_ptr<const ByteSource> open_ok(const std::string& path, DirectIo direct = DirectIo::kAuto) {
  Result<std::shared_ptr<const ByteSource>> source = open_file(path, direct);
  INFO(source.status().to_string());
  REQUIRE(source.is_ok());
  return std::move(source).value();
}

/// Memory at the alignment that read_direct wants.
struct Staging {
  explicit Staging(size_t size)
      : bytes(static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, size + kDirectAlignment - size % kDirectAlignment)), size) {}
  ~Staging() { std::free(bytes.data()); }
  std::span<std::byte> bytes;
};

std::vector<std::byte> direct(const ByteSource& source, uint64_t offset, uint64_t length) {
  const Staging staging(source.direct_staging_bytes(length));
  Result<const std::byte*> at = source.read_direct(offset, length, staging.bytes);
  INFO(at.status().to_string());
  REQUIRE(at.is_ok());
  return {at.value(), at.value() + length};
}

std::vector<std::byte> part(const std::vector<std::byte>& bytes, uint64_t offset, uint64_t length) {
  return {bytes.begin() + static_cast<ptrdiff_t>(offset), bytes.begin() + static_cast<ptrdiff_t>(offset + length)};
}

constexpr uint64_t kSize = 3 * 4096 + 1234;
const std::pair<uint64_t, uint64_t> kRanges[] = {{0, kSize},       {0, 1},
                                                 {1, 1},           {4095, 2},
                                                 {4096, 4096},     {4097, 8191},
                                                 {0, 0},           {777, 10000},
                                                 {kSize - 1, 1},   {kSize - 5000, 5000},
                                                 {3 * 4096, 1234}, {3 * 4096 + 1, 1233},
                                                 {kSize, 0}};

TEST_CASE("FileSource: plain and direct reads of any range give the file's bytes") {
  const Scratch scratch;
  const std::vector<std::byte> bytes = random_bytes(kSize);
  write_test_file(scratch / "file", bytes);
  for (DirectIo mode : {DirectIo::kAuto, DirectIo::kOff}) {
    const auto source = open_ok(scratch / "file", mode);
    CHECK(source->size_bytes() == kSize);
    CHECK(source->name() == scratch / "file");
    if (mode == DirectIo::kOff) CHECK_FALSE(source->is_direct());
    for (const auto& [offset, length] : kRanges) {
      CAPTURE(offset, length, source->is_direct());
      std::vector<std::byte> got(length);
      REQUIRE(source->read(offset, got).is_ok());
      CHECK(got == part(bytes, offset, length));
      CHECK(direct(*source, offset, length) == part(bytes, offset, length));
    }
    CHECK(source->check_unchanged().is_ok());
  }
}

TEST_CASE("FileSource: interrupted and short reads are continued, plain and direct") {
  const Scratch scratch;
  const std::vector<std::byte> bytes = random_bytes(kSize);
  write_test_file(scratch / "file", bytes);
  for (DirectIo mode : {DirectIo::kAuto, DirectIo::kOff}) {
    for (ssize_t most : {700, 4096, 5000, 8192}) {
      const auto source = open_ok(scratch / "file", mode);
      pread_calls = 0;
      fault = [most](int call, size_t, off_t) -> ssize_t { return call % 2 == 0 ? -EINTR : most; };
      std::vector<std::byte> got(kSize - 10);
      REQUIRE(source->read(10, got).is_ok());
      CHECK(got == part(bytes, 10, kSize - 10));
      CHECK(direct(*source, 10, kSize - 10) == part(bytes, 10, kSize - 10));
      CHECK(pread_calls > 4);
      fault = nullptr;
    }
  }
}

TEST_CASE("FileSource: what the page cache holds is read from there, unless somebody asked for the disk or the cache was emptied") {
  const Scratch scratch;
  constexpr size_t kBytes = 1 << 20;
  const std::vector<std::byte> bytes = random_bytes(kBytes);
  write_test_file(scratch / "file", bytes);
  const auto source = open_ok(scratch / "file");
  std::vector<std::byte> got(kBytes - 4321);
  REQUIRE(source->read(0, got).is_ok());  // now it is there
  if (source->is_direct()) {
    REQUIRE(source->read_if_cached(4321, got));
    CHECK(got == part(bytes, 4321, kBytes - 4321));
    CHECK_FALSE(source->read_if_cached(4322, got));  // one byte more than the file has

    const int fd = ::open((scratch / "file").c_str(), O_RDONLY);
    REQUIRE(::fsync(fd) == 0);
    REQUIRE(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    ::close(fd);
    CHECK_FALSE(source->read_if_cached(0, got));
  }
  for (const DirectIo other : {DirectIo::kOn, DirectIo::kOff}) {
    if (other == DirectIo::kOn && !source->is_direct()) continue;
    const auto same = open_ok(scratch / "file", other);
    REQUIRE(same->read(0, got).is_ok());
    CHECK_FALSE(same->read_if_cached(0, got));
  }
}

TEST_CASE("FileSource: an error of the system is reported with its place and reason") {
  const Scratch scratch;
  write_test_file(scratch / "file", random_bytes(kSize));
  const auto source = open_ok(scratch / "file");
  fault = [](int, size_t, off_t offset) -> ssize_t { return offset >= 4096 ? -EIO : 4096; };
  std::vector<std::byte> got(8192);
  const Status status = source->read(0, got);
  CHECK(status.code() == StatusCode::kIo);
  CHECK(status.byte_offset() == 4096);
  CHECK(status.file() == scratch / "file");
  CHECK(status.message().find("Input/output error") != std::string::npos);

  const Staging staging(source->direct_staging_bytes(8192));
  CHECK(source->read_direct(0, 8192, staging.bytes).status().code() == StatusCode::kIo);
}

TEST_CASE("FileSource: a system that takes direct reads back later is read through the page cache") {
  const Scratch scratch;
  const std::vector<std::byte> bytes = random_bytes(kSize);
  write_test_file(scratch / "file", bytes);
  const auto source = open_ok(scratch / "file");
  pread_calls = 0;
  fault = [](int call, size_t count, off_t) -> ssize_t { return call == 0 ? -EINVAL : static_cast<ssize_t>(count); };
  if (!source->is_direct()) fault = nullptr;
  CHECK(direct(*source, 100, 9000) == part(bytes, 100, 9000));
}

TEST_CASE("FileSource: where direct reads are refused, kAuto goes without and kOn says so") {
  const Scratch scratch;
  const std::vector<std::byte> bytes = random_bytes(kSize);
  write_test_file(scratch / "file", bytes);
  fault = [](int, size_t, off_t) -> ssize_t { return -EINVAL; };  // as file systems do that notice only at the first read
  CHECK(open_file(scratch / "file", DirectIo::kOn).status().code() == StatusCode::kUnsupported);
  const auto source = open_ok(scratch / "file");
  fault = nullptr;
  CHECK_FALSE(source->is_direct());
  CHECK(direct(*source, 5, 9000) == part(bytes, 5, 9000));
}

TEST_CASE("FileSource: a file cut while in use is an error, never a signal") {
  const Scratch scratch;
  const std::vector<std::byte> bytes = random_bytes(kSize);
  write_test_file(scratch / "file", bytes);
  for (DirectIo mode : {DirectIo::kAuto, DirectIo::kOff}) {
    write_test_file(scratch / "file", bytes);
    const auto source = open_ok(scratch / "file", mode);
    std::filesystem::resize_file(scratch / "file", 5000);
    std::vector<std::byte> got(kSize);
    const Status status = source->read(0, got);
    CHECK(status.code() == StatusCode::kIo);
    CHECK(status.byte_offset() == 5000);
    const Staging staging(source->direct_staging_bytes(kSize));
    CHECK(source->read_direct(0, kSize, staging.bytes).status().code() == StatusCode::kIo);
    CHECK(direct(*source, 0, 5000) == part(bytes, 0, 5000));

    const Status changed = source->check_unchanged();
    CHECK(changed.code() == StatusCode::kIo);
    CHECK(changed.message().find("5000") != std::string::npos);
  }
}

TEST_CASE("FileSource: a file written to is noticed, one renamed or replaced under its path is not touched by it") {
  const Scratch scratch;
  const std::vector<std::byte> bytes = random_bytes(kSize);
  write_test_file(scratch / "file", bytes);
  const auto source = open_ok(scratch / "file");
  write_test_file(scratch / "other", std::vector<std::byte>(kSize));
  std::filesystem::rename(scratch / "other", scratch / "file");
  CHECK(source->check_unchanged().is_ok());
  CHECK(direct(*source, 0, kSize) == bytes);

  const auto replaced = open_ok(scratch / "file");
  std::filesystem::last_write_time(scratch / "file", std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
  const Status changed = replaced->check_unchanged();
  CHECK(changed.code() == StatusCode::kIo);
  CHECK(changed.file() == scratch / "file");
}

TEST_CASE("FileSource: only regular files are opened") {
  const Scratch scratch;
  REQUIRE(::mkfifo((scratch / "fifo").c_str(), 0600) == 0);
  const std::pair<std::string, const char*> kinds[] = {
      {scratch.path.string(), "directory"}, {scratch / "fifo", "FIFO"}, {"/dev/zero", "device"}};
  for (const auto& [path, kind] : kinds) {
    const Status status = open_file(path).status();
    CAPTURE(path, status.message());
    CHECK(status.code() == StatusCode::kIo);
    CHECK(status.message().find(kind) != std::string::npos);
    CHECK(status.file() == path);
  }
  CHECK(open_file(scratch / "missing").status().code() == StatusCode::kNotFound);
  CHECK(open_file(scratch / "fifo/below").status().code() == StatusCode::kNotFound);
  CHECK(open_file("").status().code() == StatusCode::kNotFound);
}

TEST_CASE("FileSource: a file that may not be read is an I/O error, not a missing one") {
  const Scratch scratch;
  write_test_file(scratch / "secret", random_bytes(10));
  std::filesystem::permissions(scratch.path, std::filesystem::perms::all);
  std::filesystem::permissions(scratch / "secret", std::filesystem::perms::none);
  const uid_t user = ::geteuid();
  if (user == 0) REQUIRE(::seteuid(65534) == 0);  // nobody: root may read everything
  const Status status = open_file(scratch / "secret").status();
  if (user == 0) REQUIRE(::seteuid(0) == 0);
  CHECK(status.code() == StatusCode::kIo);
  CHECK(status.message().find("Permission denied") != std::string::npos);
}

TEST_CASE("FileSource: an empty file opens and has nothing to read") {
  const Scratch scratch;
  write_test_file(scratch / "empty", {});
  const auto source = open_ok(scratch / "empty");
  CHECK(source->size_bytes() == 0);
  std::byte one;
  CHECK(source->read(0, {&one, 1}).code() == StatusCode::kIo);
  CHECK(source->read(0, {}).is_ok());
}

TEST_CASE("FileSource: threads read at once and each gets its own bytes") {
  const Scratch scratch;
  const std::vector<std::byte> bytes = random_bytes(1_MiB);
  write_test_file(scratch / "file", bytes);
  const auto source = open_ok(scratch / "file");
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const Staging staging(source->direct_staging_bytes(10000));
      for (uint64_t i = 0; i < 50; ++i) {
        const uint64_t offset = (t * 131071 + i * 20011) % (1_MiB - 10000);
        std::vector<std::byte> got(10000);
        if (!source->read(offset, got).is_ok() || got != part(bytes, offset, 10000)) ++wrong;
        Result<const std::byte*> at = source->read_direct(offset, 10000, staging.bytes);
        if (!at.is_ok() || !std::equal(got.begin(), got.end(), at.value())) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("MemorySource: reads are copies, direct reads are the caller's own bytes, and the end is kept") {
  const std::vector<std::byte> bytes = random_bytes(1000);
  const auto source = wrap_memory(bytes);
  CHECK(source->name() == "memory");
  CHECK(source->size_bytes() == 1000);
  std::vector<std::byte> got(10);
  REQUIRE(source->read(990, got).is_ok());
  CHECK(got == part(bytes, 990, 10));
  CHECK(source->read_direct(17, 100, {}).value() == bytes.data() + 17);
  CHECK(source->direct_staging_bytes(1_GiB) == 0);
  CHECK_FALSE(source->is_direct());
  CHECK(source->check_unchanged().is_ok());
  CHECK(source->read(991, got).code() == StatusCode::kIo);
  CHECK(source->read(~uint64_t{0}, got).code() == StatusCode::kIo);
}

}  // namespace
}  // namespace outrigger
