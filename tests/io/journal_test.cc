// Journal: what was written is found again, whatever happened to the file after that moment, and nothing else is.
#include "src/io/journal.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <optional>

#include "tests/support/catch.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/write_faults.h"

namespace outrigger::testing {
namespace {

constexpr uint64_t kIdentity = 77;
constexpr uint64_t kSlots[] = {40, 24};

std::vector<std::byte> regular(size_t bytes, int seed) {
  std::vector<std::byte> all(bytes);
  for (size_t i = 0; i < bytes; ++i) all[i] = static_cast<std::byte>(i * 7 + static_cast<size_t>(seed) * 31 + 1);
  return all;
}

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void put(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

Journal open(const std::string& path, uint64_t identity = kIdentity) {
  auto journal = Journal::open(path, identity, kSlots);
  REQUIRE(journal.is_ok());
  return std::move(journal).value();
}

// Three records, both slots, a note.
std::string write_sample(const std::string& path) {
  Journal journal = open(path);
  for (int i = 0; i < 3; ++i) REQUIRE(journal.append(regular(static_cast<size_t>(20 + 15 * i), i)).is_ok());
  REQUIRE(journal.write_slot(0, regular(40, 8)).is_ok());
  REQUIRE(journal.write_slot(1, regular(24, 9)).is_ok());
  REQUIRE(journal.write_note("a note").is_ok());
  REQUIRE(journal.flush().is_ok());
  return content(path);
}

// Whatever reads as there is what was written.
void check_is_prefix(const Journal& journal) {
  for (size_t i = 0; i < journal.records(); ++i) {
    const auto record = journal.read(i);
    if (!record.is_ok()) break;
    REQUIRE(i < 3);
    REQUIRE(record.value() == regular(20 + 15 * i, static_cast<int>(i)));
  }
  for (const size_t slot : {size_t{0}, size_t{1}}) {
    const std::vector<std::byte> found = journal.read_slot(slot);
    REQUIRE((found.empty() || found == regular(kSlots[slot], static_cast<int>(8 + slot))));
  }
  REQUIRE((journal.note().empty() || journal.note() == "a note"));
}

TEST_CASE("Journal: what was written is found again, more is added, records are dropped, slots written over") {
  const ScratchFolder scratch;
  const std::string path = scratch / "j";
  write_sample(path);
  {
    Journal journal = open(path);
    CHECK(journal.dropped().empty());
    REQUIRE(journal.records() == 3);
    check_is_prefix(journal);
    CHECK(journal.read_slot(1) == regular(24, 9));
    CHECK(journal.note() == "a note");
    REQUIRE(journal.truncate(1).is_ok());
    REQUIRE(journal.append(regular(500, 5)).is_ok());
    REQUIRE(journal.write_slot(0, regular(40, 6)).is_ok());
  }
  Journal journal = open(path);
  REQUIRE(journal.records() == 2);
  CHECK(journal.read(0).value() == regular(20, 0));
  CHECK(journal.read(1).value() == regular(500, 5));
  CHECK(journal.read_slot(0) == regular(40, 6));
  journal.remove();
  CHECK(scratch.names().empty());
}

TEST_CASE("Journal: cut off at any length, it has what was whole before the cut, and goes on from there") {
  const ScratchFolder scratch;
  const std::string path = scratch / "j", whole = write_sample(path);
  size_t last = 0;
  // Between the note and the slots there is nothing.
  for (size_t length = 0; length <= whole.size(); length += length > 600 && length < 8150 ? 50 : 1) {
    CAPTURE(length);
    put(path, whole.substr(0, length));
    Journal journal = open(path);
    check_is_prefix(journal);
    REQUIRE(journal.records() >= last);
    last = journal.records();
    REQUIRE(journal.append(regular(33, 3)).is_ok());
    REQUIRE(journal.read(last).value() == regular(33, 3));
  }
  CHECK(last == 3);
}

TEST_CASE("Journal: with any byte changed, what still reads is what was written") {
  const ScratchFolder scratch;
  const std::string path = scratch / "j", whole = write_sample(path);
  for (size_t i = 0; i < whole.size(); ++i) {
    CAPTURE(i);
    std::string broken = whole;
    broken[i] = static_cast<char>(broken[i] ^ 1 << i % 8);
    put(path, broken);
    const auto journal = Journal::open(path, kIdentity, kSlots);
    CHECK(journal.is_ok() == (i >= 8));  // the first say what kind of file it is
    if (journal.is_ok()) check_is_prefix(journal.value());
  }
}

TEST_CASE("Journal: a file of another kind is refused and left as it is") {
  const ScratchFolder scratch;
  const std::string path = scratch / "j";
  for (const std::string& other : {std::string("x"), std::string("a letter"), std::string(20000, 'x')}) {
    put(path, other);
    const Status refused = Journal::open(path, kIdentity, kSlots).status();
    CHECK(refused.code() == StatusCode::kInvalidArgument);
    CHECK(refused.file() == path);
    CHECK(content(path) == other);
  }
}

TEST_CASE("Journal: what another identity or other slots wrote, or nothing was written to, is dropped with a reason; the note stays") {
  const ScratchFolder scratch;
  const std::string path = scratch / "j", whole = write_sample(path);
  {
    const Journal journal = open(path, kIdentity + 1);
    CHECK(journal.dropped() == "it is of other work");
    CHECK(journal.records() == 0);
    CHECK(journal.read_slot(0).empty());
    CHECK(journal.note() == "a note");
  }
  put(path, whole);
  constexpr uint64_t kOther[] = {40, 32};
  CHECK(Journal::open(path, kIdentity, kOther)->dropped() == "it is of other work");
  put(path, whole);
  CHECK(Journal::open(path, kIdentity, std::span(kSlots).first(1))->dropped() == "it is of other work");
  for (const size_t bytes : {1, 8, 9000}) {
    put(path, std::string(bytes, '\0'));
    CHECK(open(path).dropped() == "it is no such file");
    CHECK(open(path).dropped().empty());  // it is one now
  }
  std::string newer = whole;
  newer[8] = 2;
  put(path, newer);
  CHECK(open(path).dropped() == "it is of version 2, this one writes 1");
}

TEST_CASE("Journal: one at a time has the file, and only a regular file will do") {
  const ScratchFolder scratch;
  {
    const Journal first = open(scratch / "j");
    CHECK(Journal::open(scratch / "j", kIdentity, kSlots).status().code() == StatusCode::kIo);
  }
  CHECK(Journal::open(scratch / "j", kIdentity, kSlots).is_ok());
  CHECK(Journal::open(scratch / "none/j", kIdentity, kSlots).status().code() == StatusCode::kIo);
  REQUIRE(::mkfifo((scratch / "fifo").c_str(), 0600) == 0);
  CHECK(Journal::open(scratch / "fifo", kIdentity, kSlots).status().code() == StatusCode::kIo);
  CHECK(Journal::open(scratch.path.string(), kIdentity, kSlots).status().code() == StatusCode::kIo);
}

TEST_CASE("Journal: a write that fails or is cut short is an error, and leaves what was there") {
  const ScratchFolder scratch;
  const std::string path = scratch / "j", whole = write_sample(path);
  for (const char* const call : {"pwrite", "ftruncate", "fdatasync"}) {
    for (int nth = 1; nth < 6; ++nth) {
      CAPTURE(call, nth);
      put(path, whole);
      bool has_failed = false;
      {
        Journal journal = open(path);
        int calls = 0;
        const WriteFaults faults([&](const std::string& name) { return name == call && ++calls == nth ? ENOSPC : 0; });
        for (const Status& status :
             {journal.append(regular(33, 3)), journal.write_slot(1, regular(24, 9)), journal.flush(), journal.truncate(3)}) {
          has_failed = has_failed || !status.is_ok();
          if (!status.is_ok()) CHECK((status.code() == StatusCode::kIo && status.file() == path));
        }
        CHECK(has_failed == (calls >= nth));
      }
      const Journal journal = open(path);
      REQUIRE(journal.records() >= 3);
      for (size_t i = 0; i < 3; ++i) CHECK(journal.read(i).value() == regular(20 + 15 * i, static_cast<int>(i)));
      CHECK(journal.read_slot(0) == regular(40, 8));
    }
  }
  const WriteFaults faults([](const std::string& name) { return name == "pwrite" ? -3 : 0; });
  Journal journal = open(path);
  REQUIRE(journal.truncate(0).is_ok());
  REQUIRE(journal.append(regular(100, 1)).is_ok());
  CHECK(journal.read(0).value() == regular(100, 1));
}

}  // namespace
}  // namespace outrigger::testing
