// AtomicFile: complete under its name, or not at all, whichever call of the system fails.
#include "src/io/atomic_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "src/base/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/write_faults.h"

namespace outrigger {
namespace {

namespace fs = std::filesystem;

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto view = std::as_bytes(std::span(text));
  return {view.begin(), view.end()};
}

std::vector<std::byte> content(const std::string& path) {
  Result<std::vector<std::byte>> read = read_whole_file(path);
  REQUIRE(read.is_ok());
  return std::move(read).value();
}

/// In pieces, all the way or up to the first failure.
Status write_in_pieces(const std::string& path, std::string_view text) {
  Result<AtomicFile> file = AtomicFile::create(path, 0666);
  if (!file.is_ok()) return file.status();
  if (Status status = file->reserve(text.size()); !status.is_ok()) return status;
  for (size_t at = 0; at < text.size(); at += 1000) {
    if (Status status = file->write(bytes_of(text.substr(at, 1000))); !status.is_ok()) return status;
  }
  return file->commit();
}

const std::string kText(4500, 'x');

/// Both ways of hiding a file: without a name, and where that is not to be had, under another one.
template <typename Case>
void both_ways(const Case& check) {
  for (const bool nameless : {true, false}) {
    CAPTURE(nameless);
    check([nameless](const std::string& call) { return call == "access" && !nameless ? ENOENT : 0; });
  }
}

TEST_CASE("AtomicFile: appears complete, new or in the place of another, and leaves nothing beside it") {
  both_ways([](auto let) {
    const ScratchFolder scratch;
    const WriteFaults way(let);
    for (const char* text : {"first", "the second, which is longer", ""}) {
      REQUIRE(write_in_pieces(scratch / "file", text).is_ok());
      CHECK((content(scratch / "file") == bytes_of(text)));
      CHECK(scratch.names() == std::vector<std::string>{"file"});
    }
    REQUIRE(write_file_atomically(scratch / "secret", bytes_of("secret")).is_ok());
    struct stat info;
    REQUIRE(::stat((scratch / "secret").c_str(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0600);
  });
}

TEST_CASE("AtomicFile: nothing is to be seen of it before it is committed, and nothing is left if it never is") {
  const ScratchFolder scratch;
  for (const bool replaces : {false, true}) {
    if (replaces) REQUIRE(write_in_pieces(scratch / "file", "old").is_ok());
    const std::vector<std::string> before = scratch.names();
    {
      Result<AtomicFile> file = AtomicFile::create(scratch / "file", 0666);
      REQUIRE(file.is_ok());
      REQUIRE(file->write(bytes_of(kText)).is_ok());
      AtomicFile moved = std::move(file).value();
      REQUIRE(moved.write(bytes_of(kText)).is_ok());
      CHECK(scratch.names() == before);  // the file system of a test has files without names
    }
    CHECK(scratch.names() == before);
    if (replaces) CHECK((content(scratch / "file") == bytes_of("old")));
  }
}

TEST_CASE("AtomicFile: what was written can be read back before it is committed, and what was not cannot") {
  const ScratchFolder scratch;
  Result<AtomicFile> file = AtomicFile::create(scratch / "file", 0666);
  REQUIRE(file.is_ok());
  REQUIRE(file->write(bytes_of("one, ")).is_ok());
  REQUIRE(file->write(bytes_of("two")).is_ok());
  std::vector<std::byte> part(4);
  REQUIRE(file->read(3, part).is_ok());
  CHECK(part == bytes_of(", tw"));
  CHECK(file->read(5, part).code() == StatusCode::kIo);
  REQUIRE(file->write(bytes_of("!")).is_ok());  // where the last write ended
  REQUIRE(file->commit().is_ok());
  CHECK(content(scratch / "file") == bytes_of("one, two!"));
}

TEST_CASE("AtomicFile: what was written can be replaced, by short and interrupted writes too, and the next write goes on at the end") {
  const ScratchFolder scratch;
  Result<AtomicFile> file = AtomicFile::create(scratch / "file", 0666);
  REQUIRE(file.is_ok());
  REQUIRE(file->write(bytes_of("one, two")).is_ok());
  {
    int calls = 0;
    const WriteFaults faults([&](const std::string& call) { return call != "pwrite" ? 0 : ++calls == 1 ? EINTR : -1; });
    REQUIRE(file->rewrite(1, bytes_of("wo")).is_ok());
    CHECK(calls == 3);
  }
  {
    const WriteFaults faults([](const std::string& call) { return call == "pwrite" ? EIO : 0; });
    const Status status = file->rewrite(0, bytes_of("x"));
    CHECK(status.code() == StatusCode::kIo);
    CHECK(status.file() == scratch / "file");
  }
  REQUIRE(file->write(bytes_of("!")).is_ok());
  REQUIRE(file->commit().is_ok());
  CHECK(content(scratch / "file") == bytes_of("owo, two!"));
}

TEST_CASE("AtomicFile: whichever call of the system fails, the file is as it was and the error names it with the reason") {
  both_ways([](auto let) {
    const ScratchFolder scratch;
    REQUIRE(write_in_pieces(scratch / "old", "old").is_ok());
    for (const char* name : {"old", "new"}) {
      int failures = 0;
      for (int nth = 1;; ++nth) {
        CAPTURE(name, nth);
        int calls = 0;
        std::string failed;
        Status status;
        {
          const WriteFaults faults([&](const std::string& call) {
            if (const int way = let(call); way != 0 || call == "access") return way;
            if (++calls != nth) return 0;
            failed = call;
            return call == "fallocate" ? ENOSPC : EIO;
          });
          status = write_in_pieces(scratch / name, kText);
        }
        if (failed.empty()) {
          CHECK(status.is_ok());
          break;
        }
        // Flushing the folder comes last and may fail: not all file systems can.
        if (status.is_ok()) {
          CHECK(failed == "fsync");
          CHECK((content(scratch / name) == bytes_of(kText)));
          fs::remove(scratch / "new");
          REQUIRE(write_in_pieces(scratch / "old", "old").is_ok());
          continue;
        }
        ++failures;
        CHECK(status.code() == StatusCode::kIo);
        CHECK(status.file() == scratch / name);
        CHECK(status.message().find(failed == "fallocate" ? "No space left" : "Input/output error") != std::string::npos);
        CHECK(scratch.names() == std::vector<std::string>{"old"});
        CHECK((content(scratch / "old") == bytes_of("old")));
      }
      CHECK(failures >= 8);  // fallocate, five writes, fsync, and a name
      fs::remove(scratch / "new");
      REQUIRE(write_in_pieces(scratch / "old", "old").is_ok());
    }
  });
}

TEST_CASE("AtomicFile: short and interrupted writes are continued") {
  const ScratchFolder scratch;
  int calls = 0;
  const WriteFaults faults([&](const std::string& call) { return call != "write" ? 0 : ++calls % 2 == 0 ? EINTR : -300; });
  REQUIRE(write_in_pieces(scratch / "file", kText).is_ok());
  CHECK((content(scratch / "file") == bytes_of(kText)));
  CHECK(calls > 20);
}

TEST_CASE("AtomicFile: a file system that cannot reserve room is written to all the same") {
  const ScratchFolder scratch;
  const WriteFaults faults([](const std::string& call) { return call == "fallocate" ? EOPNOTSUPP : 0; });
  CHECK(write_in_pieces(scratch / "file", kText).is_ok());
}

TEST_CASE("AtomicFile: a large file reaches the disk while it is written") {
  const ScratchFolder scratch;
  int flushes = 0;
  const WriteFaults faults([&](const std::string& call) {
    flushes += call == "fdatasync";
    return 0;
  });
  Result<AtomicFile> file = AtomicFile::create(scratch / "file", 0666);
  REQUIRE(file.is_ok());
  const std::vector<std::byte> piece(8_MiB);
  for (int i = 0; i < 17; ++i) REQUIRE(file->write(piece).is_ok());
  CHECK(flushes == 2);
}

TEST_CASE("AtomicFile: a name that cannot be had is refused before anything is written") {
  const ScratchFolder scratch;
  const std::string too_long(300, 'n');
  fs::create_directory(scratch.path / "folder");
  REQUIRE(write_in_pieces(scratch / "file", "x").is_ok());
  for (const std::string& path : {std::string(), scratch.path.string(), scratch / "folder", scratch / "no/such/file",
                                  scratch / "file/below", scratch / too_long, std::string("/proc/file")}) {
    CAPTURE(path);
    const Result<AtomicFile> file = AtomicFile::create(path, 0666);
    CHECK(file.status().code() == StatusCode::kIo);
    CHECK(file.status().file() == path);
  }
  fs::permissions(scratch.path / "folder", fs::perms::owner_read | fs::perms::owner_exec);
  if (::geteuid() != 0) CHECK(AtomicFile::create(scratch / "folder/file", 0666).status().code() == StatusCode::kIo);
  fs::permissions(scratch.path / "folder", fs::perms::owner_all);
  CHECK(scratch.names() == std::vector<std::string>{"file", "folder"});
}

}  // namespace
}  // namespace outrigger
