// SpillFile: what comes back, what is left behind, and what happens when the system does less than it was asked for.
#include "src/io/spill_file.h"

#include <sys/statfs.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <new>

#include "tests/support/catch.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/spill_faults.h"

namespace outrigger {
namespace {

constexpr uint64_t kPage = 4096;

struct Pages {
  explicit Pages(uint64_t bytes) : span(static_cast<std::byte*>(::operator new(bytes, std::align_val_t(kPage))), bytes) {}
  ~Pages() { ::operator delete(span.data(), std::align_val_t(kPage)); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  void fill(uint32_t seed) {
    for (std::byte& byte : span) byte = static_cast<std::byte>((seed = seed * 1664525 + 1013904223) >> 24);
  }
  std::span<std::byte> span;
};

// /tmp may be memory, where nothing spills to.
struct DiskFolder : ScratchFolder {
  DiskFolder() {
    std::string pattern = "/var/tmp/outrigger-XXXXXX";
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    std::filesystem::remove_all(path);
    path = pattern;
  }
};

std::unique_ptr<SpillFile> made(const std::string& directory, uint64_t bytes, DirectIo direct = DirectIo::kAuto) {
  Result<std::unique_ptr<SpillFile>> file = SpillFile::create(directory, bytes, direct);
  INFO(file.status().to_string());
  REQUIRE(file.is_ok());
  return std::move(file).value();
}

void check_round_trip(SpillFile& file) {
  Pages written(5 * kPage), read(5 * kPage);
  for (const uint64_t offset : {uint64_t{0}, 3 * kPage, file.bytes() - 5 * kPage}) {
    written.fill(static_cast<uint32_t>(offset) + 1);
    REQUIRE(file.write(offset, written.span).to_string() == Status().to_string());
    REQUIRE(file.settle().is_ok());
    REQUIRE(file.read(offset, read.span).to_string() == Status().to_string());
    REQUIRE(std::equal(read.span.begin(), read.span.end(), written.span.begin()));
  }
}

TEST_CASE("SpillFile: gives back what was written, past the page cache and through it, and has no name") {
  const DiskFolder folder;
  for (const DirectIo direct : {DirectIo::kAuto, DirectIo::kOff}) {
    const auto file = made(folder.path, 64 * kPage, direct);
    CHECK((direct == DirectIo::kAuto || !file->is_direct()));
    CHECK(folder.names().empty());
    check_round_trip(*file);
  }
}

TEST_CASE("SpillFile: a disk without room is known when the file is made, and the error says how much was needed") {
  const DiskFolder folder;
  const Status real = SpillFile::create(folder.path, uint64_t{1} << 50).status();
  CHECK(real.code() == StatusCode::kIo);
  CHECK(real.message().find("1125899906842624 bytes") != std::string::npos);
  CHECK(real.file() == folder.path);
  const SpillFaults full([](const std::string& call) { return call == "fallocate" ? ENOSPC : 0; });
  const Status status = SpillFile::create(folder.path, 16 * kPage).status();
  CHECK(status.code() == StatusCode::kIo);
  CHECK(status.message().find("65536 bytes") != std::string::npos);
  CHECK(status.message().find("No space left") != std::string::npos);
}

TEST_CASE("SpillFile: a directory that is not there, or is memory, is refused by name") {
  const Status missing = SpillFile::create("/nowhere/at/all", kPage).status();
  CHECK(missing.code() == StatusCode::kIo);
  CHECK(missing.file() == "/nowhere/at/all");
  struct statfs system;
  if (::statfs("/dev/shm", &system) != 0 || system.f_type != 0x01021994) return;
  CHECK(SpillFile::create("/dev/shm", kPage).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("SpillFile: a file system that reserves nothing is asked to write it all") {
  const DiskFolder folder;
  const SpillFaults none([](const std::string& call) { return call == "fallocate" ? EOPNOTSUPP : 0; });
  const auto file = made(folder.path, 64 * kPage);
  CHECK(file->bytes() == 64 * kPage);
  check_round_trip(*file);
}

TEST_CASE("SpillFile: where direct transfers are refused, bytes go through the page cache and are flushed") {
  const DiskFolder folder;
  int flushes = 0;
  bool opening = true;
  const SpillFaults refusing([&](const std::string& call) {
    flushes += call == "fdatasync";
    return opening && call == "pwrite" ? EINVAL : 0;
  });
  CHECK(SpillFile::create(folder.path, 64 * kPage, DirectIo::kOn).status().code() == StatusCode::kUnsupported);
  const auto file = made(folder.path, 64 * kPage);
  opening = false;
  CHECK(!file->is_direct());
  check_round_trip(*file);
  CHECK(flushes == 3);
}

TEST_CASE("SpillFile: interrupted and short transfers are continued, wherever they stop") {
  const DiskFolder folder;
  for (const DirectIo direct : {DirectIo::kAuto, DirectIo::kOff}) {
    const auto file = made(folder.path, 64 * kPage, direct);
    int calls = 0;
    const SpillFaults some([&](const std::string& call) {
      if (call != "pread" && call != "pwrite") return 0;
      constexpr int kTurns[] = {EINTR, -4096, -8192, EINTR, -12288, -100};  // 100 bytes are no block: done again
      const int turn = kTurns[calls++ % 6];
      return file->is_direct() && turn == -100 ? EINTR : turn;
    });
    check_round_trip(*file);
    CHECK(calls > 20);
  }
}

TEST_CASE("SpillFile: errors, and transfers that never get on, name the directory and the place") {
  const DiskFolder folder;
  const auto file = made(folder.path, 64 * kPage);
  Pages pages(2 * kPage);
  for (const int error : {EIO, ENOSPC, EINTR}) {
    const SpillFaults failing([&](const std::string&) { return error; });
    for (const Status& status : {file->write(3 * kPage, pages.span), file->read(3 * kPage, pages.span)}) {
      CHECK(status.code() == StatusCode::kIo);
      CHECK(status.file() == folder.path);
      CHECK(status.byte_offset() == 3 * kPage);
    }
  }
  const auto buffered = made(folder.path, 64 * kPage, DirectIo::kOff);
  const SpillFaults failing([&](const std::string& call) { return call == "fdatasync" ? EIO : 0; });
  CHECK(buffered->write(0, pages.span).is_ok());
  CHECK(buffered->settle().code() == StatusCode::kIo);
}

TEST_CASE("SpillFile: by default it is in TMPDIR, or in /var/tmp where that is not set or is memory") {
  const char* const before = std::getenv("TMPDIR");
  const std::string kept = before == nullptr ? "" : before;
  ::setenv("TMPDIR", "/some/where", 1);
  CHECK(default_spill_directory() == "/some/where");
  struct statfs system;
  if (::statfs("/dev/shm", &system) == 0 && system.f_type == 0x01021994) {
    ::setenv("TMPDIR", "/dev/shm", 1);
    CHECK(default_spill_directory() == "/var/tmp");
  }
  ::setenv("TMPDIR", "", 1);
  CHECK(default_spill_directory() == "/var/tmp");
  ::unsetenv("TMPDIR");
  CHECK(default_spill_directory() == "/var/tmp");
  if (before != nullptr) ::setenv("TMPDIR", kept.c_str(), 1);
}

}  // namespace
}  // namespace outrigger
