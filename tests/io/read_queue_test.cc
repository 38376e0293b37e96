// ReadQueue by threads: the contract, sources that fail on purpose, and who reads when nobody is asked for by name.
#include "src/io/read_queue.h"

#include <condition_variable>
#include <mutex>

#include "tests/contract/read_queue_contract.h"
#include "tests/support/fake_source.h"

namespace outrigger {
namespace {

std::vector<std::byte> pattern(size_t size) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 251);
  return bytes;
}

TEST_CASE("ReadQueue: threads keep the contract") { check_read_queue_contract(ReadMethod::kThreads); }

TEST_CASE("ReadQueue: a depth of none or of too many is refused") {
  const auto source = std::make_shared<FakeSource>(pattern(100));
  for (const uint32_t depth : {0u, ReadQueueOptions::kMostReads + 1, UINT32_MAX}) {
    const Status status = ReadQueue::create(source, {depth, ReadMethod::kAuto}).status();
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(status.message().find(std::to_string(depth)) != std::string::npos);
  }
  for (const uint32_t depth : {1u, ReadQueueOptions::kMostReads}) CHECK(ReadQueue::create(source, {depth, ReadMethod::kAuto}).is_ok());
}

TEST_CASE("ReadQueue: bytes that lie in no file are read by threads, and the ring says that it cannot") {
  const std::vector<std::byte> bytes = pattern(50'000);
  for (const std::shared_ptr<const ByteSource>& source :
       std::vector<std::shared_ptr<const ByteSource>>{std::make_shared<FakeSource>(bytes), wrap_memory(bytes)}) {
    CHECK(ReadQueue::create(source, {2, ReadMethod::kRing}).status().code() == StatusCode::kUnsupported);
    QueueOfReads it(source, ReadMethod::kAuto, 3, 20'000);
    CHECK(it.queue().method() == ReadMethod::kThreads);
    for (uint32_t slot = 0; slot < 3; ++slot) it.ask(slot, slot * 10'001, 20'000);
    for (int i = 0; i < 3; ++i) CHECK(it.take(bytes).is_ok());
  }
}

TEST_CASE("ReadQueue: one read that fails is one outcome, with its place, and the others are not touched") {
  const std::vector<std::byte> bytes = pattern(200'000);
  for (uint64_t nth = 1; nth <= 12; ++nth) {
    const auto source = std::make_shared<FakeSource>(bytes);
    source->failing_read = nth;
    QueueOfReads it(source, ReadMethod::kThreads, 4, 10'000);
    int failures = 0;
    for (uint64_t i = 0; i < 12; ++i) {
      if (it.queue().in_flight() == 4) failures += !it.take(bytes).is_ok();
      it.ask(it.free_slot(), i * 10'000, 10'000);
    }
    while (it.queue().in_flight() > 0) {
      const Status status = it.take(bytes);
      if (status.is_ok()) continue;
      ++failures;
      CHECK(status.code() == StatusCode::kIo);
      CHECK(status.file() == "fake.gguf");
    }
    CHECK(failures == 1);
  }
}

TEST_CASE("ReadQueue: as many reads as it is deep are under way at once, and the last to begin may be the first to end") {
  const std::vector<std::byte> bytes = pattern(100'000);
  const auto source = std::make_shared<FakeSource>(bytes);
  std::mutex mutex;
  std::condition_variable changed;
  int begun = 0, allowed = 0;
  source->on_read = [&] {
    std::unique_lock lock(mutex);
    const int mine = ++begun;
    changed.notify_all();
    changed.wait(lock, [&] { return mine > 4 - allowed; });  // from the last to the first
  };
  QueueOfReads it(source, ReadMethod::kThreads, 4, 1000);
  for (uint32_t slot = 0; slot < 4; ++slot) it.ask(slot, slot * 1000, 1000);
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return begun == 4; });  // would never be, if fewer were read at once
  }
  ReadDone done;
  CHECK_FALSE(it.queue().poll(&done));
  for (int i = 0; i < 4; ++i) {
    {
      const std::lock_guard lock(mutex);
      ++allowed;
    }
    changed.notify_all();
    CHECK(it.take(bytes).is_ok());
  }
}

TEST_CASE("ReadQueue: nobody reads on once it is drained") {
  const std::vector<std::byte> bytes = pattern(100'000);
  const auto source = std::make_shared<FakeSource>(bytes);
  QueueOfReads it(source, ReadMethod::kThreads, 64, 1000);
  for (int round = 0; round < 10; ++round) {
    for (uint32_t slot = 0; slot < 64; ++slot) it.ask(slot, slot * 1000, 1000);
    it.queue().drain();
    const uint64_t reads = source->reads;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(source->reads == reads);
  }
}

TEST_CASE("ReadQueue: a failing allocation while it is made is an error, never an exception, and leaves no thread") {
  const auto source = std::make_shared<FakeSource>(pattern(100));
  int failures = 0;
  for (uint64_t nth = 1; nth < 100; ++nth) {
    const FailingAllocation failing(nth);
    const Result<std::unique_ptr<ReadQueue>> queue = ReadQueue::create(source, {3, ReadMethod::kThreads});
    if (queue.is_ok()) {
      if (!failing.has_happened()) break;
      continue;
    }
    CHECK(queue.status().code() == StatusCode::kOutOfMemory);
    ++failures;
  }
  CHECK(failures > 3);
}

}  // namespace
}  // namespace outrigger
