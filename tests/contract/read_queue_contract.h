// What every ReadQueue promises, whoever reads: one suite, run against each method.
#ifndef OUTRIGGER_TESTS_CONTRACT_READ_QUEUE_CONTRACT_H_
#define OUTRIGGER_TESTS_CONTRACT_READ_QUEUE_CONTRACT_H_

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "src/io/read_queue.h"
#include "src/io/spliced_source.h"
#include "tests/support/catch.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/heap_watch.h"
#include "tests/support/scratch_folder.h"

namespace outrigger {

inline std::vector<std::byte> random_file(const std::string& path, size_t size) {
  std::mt19937 random(static_cast<unsigned>(size));
  std::vector<std::byte> bytes(size);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  write_test_file(path, bytes);
  return bytes;
}

/// Memory at the alignment that direct reads want.
class AlignedBytes {
 public:
  explicit AlignedBytes(size_t size)
      : bytes_(static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, size + kDirectAlignment - size % kDirectAlignment)), size) {
    std::fill(bytes_.begin(), bytes_.end(), std::byte{0xee});
  }
  ~AlignedBytes() { std::free(bytes_.data()); }
  AlignedBytes(const AlignedBytes&) = delete;
  AlignedBytes& operator=(const AlignedBytes&) = delete;
  std::span<std::byte> bytes() const { return bytes_; }

 private:
  std::span<std::byte> bytes_;
};

/// A queue, the reads that were given to it, and room for each.
class QueueOfReads {
 public:
  QueueOfReads(std::shared_ptr<const ByteSource> source, ReadMethod method, uint32_t depth, uint64_t longest) : source_(std::move(source)) {
    const uint64_t each = (source_->direct_staging_bytes(longest) + kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment;
    area_ = std::make_unique<AlignedBytes>(depth * each);
    for (uint32_t i = 0; i < depth; ++i) staging_.push_back(area_->bytes().subspan(i * each, each));
    asked_.resize(depth);
    is_asked_.resize(depth);
    // Half of the queues know where the staging lies, and some of those only of a part.
    const std::span<std::byte> known = area_->bytes().first(depth % 2 == 0 ? 0 : depth * each / (depth % 3 + 1));
    Result<std::unique_ptr<ReadQueue>> made = ReadQueue::create(source_, {depth, method, known});
    INFO(made.status().to_string());
    REQUIRE(made.is_ok());
    queue_ = std::move(made).value();
  }

  ReadQueue& queue() { return *queue_; }
  void destroy() { queue_.reset(); }
  void fill_staging(std::byte value) { std::fill(area_->bytes().begin(), area_->bytes().end(), value); }
  bool staging_is(std::byte value) const {
    return std::all_of(area_->bytes().begin(), area_->bytes().end(), [&](std::byte b) { return b == value; });
  }

  /// Asks with a slot's number as the tag. Precondition: that slot is free.
  void ask(uint32_t slot, uint64_t offset, uint64_t length) {
    asked_[slot] = {offset, length, staging_[slot], slot};
    is_asked_[slot] = true;
    REQUIRE(queue_->submit(asked_[slot]).is_ok());
  }
  uint32_t free_slot() const { return static_cast<uint32_t>(std::find(is_asked_.begin(), is_asked_.end(), false) - is_asked_.begin()); }

  /// Takes one outcome and holds it against the bytes or, without them, gives back its status.
  Status take(const std::vector<std::byte>& file) {
    ReadDone done = queue_->wait();
    REQUIRE(done.tag < asked_.size());
    REQUIRE(is_asked_[done.tag]);  // each once
    is_asked_[done.tag] = false;
    if (!done.status.is_ok()) {
      REQUIRE(done.data == nullptr);
      return done.status;
    }
    const ReadRequest& request = asked_[done.tag];
    REQUIRE(std::equal(done.data, done.data + request.length, file.data() + request.offset));
    return {};
  }

 private:
  std::shared_ptr<const ByteSource> source_;
  std::unique_ptr<AlignedBytes> area_;
  std::vector<std::span<std::byte>> staging_;
  std::vector<ReadRequest> asked_;
  std::vector<bool> is_asked_;
  std::unique_ptr<ReadQueue> queue_;  // first to go: it writes to the staging
};

inline std::shared_ptr<const ByteSource> source_of(const std::string& path, DirectIo direct = DirectIo::kAuto) {
  Result<std::shared_ptr<const ByteSource>> source = open_file(path, direct);
  REQUIRE(source.is_ok());
  return std::move(source).value();
}

/// Random ranges of a file, `reads` in all, with as many in flight as may be; some in front of the end, where blocks are not whole.
inline void check_random_reads(std::shared_ptr<const ByteSource> source, const std::vector<std::byte>& file, ReadMethod method,
                               uint32_t depth, int reads) {
  constexpr uint64_t kLongest = 300'000;
  QueueOfReads it(std::move(source), method, depth, kLongest);
  std::mt19937_64 random(depth);
  for (int i = 0; i < reads; ++i) {
    if (it.queue().in_flight() == depth) REQUIRE(it.take(file).is_ok());
    const uint64_t length = random() % 5 == 0 ? random() % 5 : random() % kLongest;
    const uint64_t offset = random() % 7 == 0 ? file.size() - length : random() % (file.size() - length);
    it.ask(it.free_slot(), offset, length);
  }
  while (it.queue().in_flight() > 0) REQUIRE(it.take(file).is_ok());
}

/// `method` must be one that can be had here.
inline void check_read_queue_contract(ReadMethod method) {
  const ScratchFolder scratch;
  constexpr uint64_t kSize = 3'000'000 + 1234;
  const std::vector<std::byte> file = random_file(scratch / "file", kSize);

  SECTION("reads of any range give the file's bytes, each once, whatever the depth") {
    for (const DirectIo direct : {DirectIo::kAuto, DirectIo::kOff}) {
      for (const uint32_t depth : {1u, 2u, 5u, 16u}) check_random_reads(source_of(scratch / "file", direct), file, method, depth, 60);
    }
  }

  SECTION("files behind a header are read like one file, each range in its own") {
    const std::vector<std::byte> other = random_file(scratch / "other", 700'001);
    auto spliced = std::make_shared<SplicedSource>("both", std::vector{source_of(scratch / "file"), source_of(scratch / "other")});
    spliced->set_header("a header");
    const std::vector<uint64_t> begins = spliced->places(8);
    std::vector<std::byte> whole(spliced->size_bytes());
    REQUIRE(spliced->read(0, whole).is_ok());
    QueueOfReads it(spliced, method, 4, 500'000);
    it.ask(0, begins[0] + 77, 400'000);
    it.ask(1, begins[1] + 4095, 500'000);
    it.ask(2, begins[1] + 700'000, 1);
    it.ask(3, begins[1] - 10, 100);  // in no file
    int refused = 0;
    while (it.queue().in_flight() > 0) refused += it.take(whole).code() == StatusCode::kInternal;
    REQUIRE(refused == 1);
  }

  SECTION("a read too many is refused, and those in flight are not touched") {
    QueueOfReads it(source_of(scratch / "file"), method, 2, 100'000);
    it.ask(0, 0, 100'000);
    it.ask(1, 1, 99'999);
    const AlignedBytes staging(8192);
    REQUIRE(it.queue().in_flight() == 2);
    REQUIRE(it.queue().submit({0, 1, staging.bytes(), 9}).code() == StatusCode::kInternal);
    REQUIRE(it.take(file).is_ok());
    REQUIRE(it.take(file).is_ok());
    REQUIRE(it.queue().wait().status.code() == StatusCode::kInternal);
  }

  SECTION("polling finds every read without waiting, and says when there is none") {
    QueueOfReads it(source_of(scratch / "file"), method, 3, 500'000);
    ReadDone done;
    REQUIRE_FALSE(it.queue().poll(&done));
    for (uint32_t slot = 0; slot < 3; ++slot) it.ask(slot, slot * 1000, 500'000);
    unsigned tags = 0;
    while (it.queue().in_flight() > 0) {
      if (!it.queue().poll(&done)) continue;
      REQUIRE(done.status.is_ok());
      REQUIRE(std::equal(done.data, done.data + 500'000, file.data() + done.tag * 1000));
      tags += 1u << done.tag;
    }
    REQUIRE(tags == 0b111);
    REQUIRE_FALSE(it.queue().poll(&done));
  }

  SECTION("a file cut under way gives the errors of a direct read, and what is still there is read") {
    for (const DirectIo direct : {DirectIo::kAuto, DirectIo::kOff}) {
      random_file(scratch / "file", kSize);
      const auto source = source_of(scratch / "file", direct);
      QueueOfReads it(source, method, 3, 200'000);
      std::filesystem::resize_file(scratch / "file", 1'000'001);
      it.ask(0, 900'001, 100'000);
      it.ask(1, 950'000, 100'000);
      it.ask(2, 2'000'000, 1);
      std::vector<uint64_t> ends;
      while (it.queue().in_flight() > 0) {
        const Status status = it.take(file);
        if (status.is_ok()) continue;
        REQUIRE(status.code() == StatusCode::kIo);
        REQUIRE(status.file() == scratch / "file");
        ends.push_back(status.byte_offset());
      }
      const AlignedBytes staging(source->direct_staging_bytes(100'000));
      std::vector<uint64_t> expected = {source->read_direct(950'000, 100'000, staging.bytes()).status().byte_offset(),
                                        source->read_direct(2'000'000, 1, staging.bytes()).status().byte_offset()};
      std::sort(ends.begin(), ends.end());
      std::sort(expected.begin(), expected.end());
      REQUIRE(ends == expected);
    }
  }

  SECTION("after a drain nothing is in flight, errors included, and the queue reads on") {
    QueueOfReads it(source_of(scratch / "file"), method, 4, 500'000);
    std::filesystem::resize_file(scratch / "file", 1'000'000);
    for (int round = 0; round < 5; ++round) {
      for (uint32_t slot = 0; slot < 4; ++slot) it.ask(slot, slot * 300'000, 500'000);  // the last two end behind what is left
      if (round % 2 == 1) REQUIRE((it.take(file).is_ok() || it.queue().in_flight() == 3));
      it.queue().drain();
      REQUIRE(it.queue().in_flight() == 0);
      it.queue().drain();
      const AlignedBytes staging(512'000);
      REQUIRE(it.queue().submit({1000, 500'000, staging.bytes(), 7}).is_ok());
      const ReadDone done = it.queue().wait();
      REQUIRE(done.tag == 7);
      REQUIRE(std::equal(done.data, done.data + 500'000, file.data() + 1000));
    }
  }

  SECTION("a queue destroyed with reads in flight writes to no staging afterwards") {
    for (int round = 0; round < 20; ++round) {
      QueueOfReads it(source_of(scratch / "file"), method, 8, 300'000);
      for (uint32_t slot = 0; slot < 8; ++slot) it.ask(slot, slot * 300'000, 300'000);
      it.destroy();
      it.fill_staging(std::byte{0x55});
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // a read takes less than that
      REQUIRE(it.staging_is(std::byte{0x55}));
    }
  }

  SECTION("nothing is allocated once it is made") {
    QueueOfReads it(source_of(scratch / "file"), method, 4, 200'000);
    const AlignedBytes staging(4 * 208'896);
    const uint64_t before = heap_allocations();
    uint64_t wrong = 0;
    for (uint64_t round = 0; round < 10; ++round) {
      for (uint64_t slot = 0; slot < 4; ++slot) {
        wrong += !it.queue().submit({slot * 200'001 + round, 200'000, staging.bytes().subspan(slot * 208'896, 208'896), slot}).is_ok();
      }
      if (round % 3 == 2) it.queue().drain();
      while (it.queue().in_flight() > 0) {
        const ReadDone done = it.queue().wait();
        wrong += !done.status.is_ok() || done.data[0] != file[done.tag * 200'001 + round];
      }
    }
    const uint64_t after = heap_allocations();
    REQUIRE(wrong == 0);
    REQUIRE(after == before);
  }

  SECTION("threads may use it in turn: one asks and ends, another takes") {
    QueueOfReads it(source_of(scratch / "file"), method, 6, 400'000);
    for (uint64_t round = 0; round < 6; ++round) {
      std::thread([&] {
        for (uint32_t slot = 0; slot < 6; ++slot) it.ask(slot, slot * 400'000 + round, 400'000);
      }).join();
      std::thread([&] {
        for (int i = 0; i < 3; ++i) REQUIRE(it.take(file).is_ok());
      }).join();
      for (int i = 0; i < 3; ++i) REQUIRE(it.take(file).is_ok());
    }
  }
}

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_CONTRACT_READ_QUEUE_CONTRACT_H_
