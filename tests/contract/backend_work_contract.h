// What every backend promises of copies, streams, events and failures.
#ifndef OUTRIGGER_TESTS_CONTRACT_BACKEND_WORK_CONTRACT_H_
#define OUTRIGGER_TESTS_CONTRACT_BACKEND_WORK_CONTRACT_H_

#include <algorithm>
#include <numeric>
#include <random>
#include <thread>

#include "tests/contract/backend_case.h"
#include "tests/support/heap_watch.h"

namespace outrigger::contract {

inline void check_copy_contract(const OpenBackend& open) {
  const std::unique_ptr<Backend> owner = open();
  Backend& backend = *owner;

  SECTION("copies of odd sizes between odd places carry every byte and touch no other") {
    constexpr uint64_t kBytes = 70000;
    const DeviceMemory memory = must(backend.allocate(kBytes));
    const PinnedMemory sent = must(backend.allocate_pinned(kBytes)), received = must(backend.allocate_pinned(kBytes));
    std::vector<std::byte> expected(kBytes);
    std::mt19937 random(1);
    for (uint64_t i = 0; i < kBytes; ++i) sent.data()[i] = static_cast<std::byte>(random());
    for (uint64_t bytes : {1, 2, 3, 63, 64, 65, 4095, 4097, 65537}) {
      const uint64_t from = random() % (kBytes - bytes), to = random() % (kBytes - bytes);
      CAPTURE(bytes, from, to);
      require_ok(backend.copy_to_device(Stream::kToDevice, memory.data() + to, sent.data() + from, bytes));
      require_ok(backend.wait(Stream::kToHost, must(backend.record(Stream::kToDevice))));
      require_ok(backend.copy_to_host(Stream::kToHost, received.data(), memory.data(), kBytes));
      require_ok(backend.synchronize(must(backend.record(Stream::kToHost)), kPatience));
      std::copy_n(sent.data() + from, bytes, expected.begin() + static_cast<ptrdiff_t>(to));
      REQUIRE(std::equal(expected.begin(), expected.end(), received.data()));
    }
  }

  SECTION("nothing is copied when there is nothing to copy") {
    require_ok(backend.copy_to_device(Stream::kToDevice, nullptr, nullptr, 0));
    require_ok(backend.copy_to_host(Stream::kToHost, nullptr, nullptr, 0));
    finish(backend);
  }

  SECTION("a stream keeps its order: the last of many copies to one place is what stays") {
    const DeviceMemory memory = must(backend.allocate(4096));
    const PinnedMemory pinned = must(backend.allocate_pinned(600 * 4096));  // more copies than a queue may hold
    for (uint64_t i = 0; i < 600; ++i) {
      std::memset(pinned.data() + i * 4096, static_cast<int>(i % 251), 4096);
      require_ok(backend.copy_to_device(Stream::kCompute, memory.data(), pinned.data() + i * 4096, 4096));
    }
    require_ok(backend.copy_to_host(Stream::kCompute, pinned.data(), memory.data(), 4096));
    finish(backend);
    REQUIRE(std::count(pinned.data(), pinned.data() + 4096, std::byte(599 % 251)) == 4096);
  }

  SECTION("host memory that is not pinned is refused, and nothing is submitted") {
    const DeviceMemory memory = must(backend.allocate(4096));
    const PinnedMemory pinned = must(backend.allocate_pinned(4096));
    std::vector<std::byte> ordinary(4096);
    REQUIRE(backend.copy_to_device(Stream::kToDevice, memory.data(), ordinary.data(), 4096).code() == StatusCode::kInvalidArgument);
    REQUIRE(backend.copy_to_host(Stream::kToHost, ordinary.data(), memory.data(), 1).code() == StatusCode::kInvalidArgument);
    REQUIRE(backend.copy_to_host(Stream::kToHost, pinned.data() + 1, memory.data(), 4096).code() == StatusCode::kInvalidArgument);
    finish(backend);  // and the device is well
  }
}

inline void check_stream_contract(const OpenBackend& open) {
  const std::unique_ptr<Backend> owner = open();
  Backend& backend = *owner;

  SECTION("a stream waits for what another has done: chains over all streams give the sums of their links") {
    const std::vector<float> ones(5000, 1);
    const DeviceMemory step = on_device<float>(backend, ones), sum = must(backend.allocate(step.bytes()));
    const LongWork work(backend, 3);
    std::mt19937 random(2);
    constexpr int kLinks = 200;
    for (int i = 0; i < kLinks; ++i) {
      const auto stream = static_cast<Stream>(random() % kStreams);
      if (random() % 16 == 0) work.submit(backend, stream);
      require_ok(backend.launch(stream, addition(step, sum)));
      const Event done = must(backend.record(stream));
      for (size_t other = 0; other < kStreams; ++other) require_ok(backend.wait(static_cast<Stream>(other), done));
    }
    finish(backend);
    std::vector<float> result(ones.size());
    get(backend, result.data(), sum.data(), sum.bytes());
    REQUIRE(result == std::vector<float>(ones.size(), kLinks));
  }

  SECTION("a ring of slots: copies in, a computation on each, copies out, all overlapping") {
    constexpr size_t kSlots = 3, kRounds = 40, kFloats = 3001;
    constexpr uint64_t kBytes = kFloats * sizeof(float);
    const DeviceMemory ring = must(backend.allocate(kSlots * 16384)), sum = must(backend.allocate(kBytes));
    const PinnedMemory sent = must(backend.allocate_pinned(kRounds * kBytes)), received = must(backend.allocate_pinned(kRounds * kBytes));
    auto* const values = reinterpret_cast<float*>(sent.data());
    for (size_t i = 0; i < kRounds * kFloats; ++i) values[i] = static_cast<float>(i % 1013);
    Event is_free[kSlots], is_out;
    for (size_t round = 0; round < kRounds; ++round) {
      std::byte* const slot = ring.data() + round % kSlots * 16384;
      require_ok(backend.wait(Stream::kToDevice, is_free[round % kSlots]));
      require_ok(backend.copy_to_device(Stream::kToDevice, slot, sent.data() + round * kBytes, kBytes));
      require_ok(backend.wait(Stream::kCompute, must(backend.record(Stream::kToDevice))));
      require_ok(backend.wait(Stream::kCompute, is_out));
      require_ok(backend.launch(Stream::kCompute, AddArgs{reinterpret_cast<float*>(slot), kFloats, as<float>(sum), kFloats, 1, kFloats}));
      is_free[round % kSlots] = must(backend.record(Stream::kCompute));
      require_ok(backend.wait(Stream::kToHost, is_free[round % kSlots]));
      require_ok(backend.copy_to_host(Stream::kToHost, received.data() + round * kBytes, sum.data(), kBytes));
      is_out = must(backend.record(Stream::kToHost));
    }
    require_ok(backend.synchronize(is_out, kPatience));
    const auto* const sums = reinterpret_cast<const float*>(received.data());
    std::vector<float> expected(kFloats);
    size_t wrong = 0;
    for (size_t round = 0; round < kRounds; ++round) {
      for (size_t i = 0; i < kFloats; ++i) {
        expected[i] += values[round * kFloats + i];
        wrong += sums[round * kFloats + i] != expected[i];
      }
    }
    REQUIRE(wrong == 0);
  }

  SECTION("an event is ready once its work is done, and stays ready") {
    REQUIRE(must(backend.query(Event())));
    require_ok(backend.synchronize(Event(), std::chrono::nanoseconds(0)));
    const LongWork work(backend, 20);
    work.submit(backend, Stream::kCompute);
    const Event done = must(backend.record(Stream::kCompute));
    require_ok(backend.synchronize(done, kPatience));
    REQUIRE(must(backend.query(done)));
    work.submit(backend, Stream::kCompute);
    REQUIRE(must(backend.query(done)));
  }

  SECTION("an event that is not ready in time is an error that does not stay") {
    const LongWork work(backend, 400);
    work.submit(backend, Stream::kCompute);
    const Event done = must(backend.record(Stream::kCompute));
    const Status early = backend.synchronize(done, std::chrono::nanoseconds(1));
    if (!early.is_ok()) {  // the CPU's work is done at once
      REQUIRE(early.code() == StatusCode::kDevice);
      REQUIRE(early.message().find("not done after") != std::string::npos);
    }
    require_ok(backend.synchronize(done, kPatience));
  }

  SECTION("streams and events that there are not are refused") {
    const auto none = static_cast<Stream>(kStreams);
    REQUIRE(backend.record(none).status().code() == StatusCode::kInvalidArgument);
    REQUIRE(backend.wait(none, Event()).code() == StatusCode::kInvalidArgument);
    REQUIRE(backend.wait(Stream::kCompute, Event{none, 0}).code() == StatusCode::kInvalidArgument);
    REQUIRE(backend.query(Event{none, 0}).status().code() == StatusCode::kInvalidArgument);
    REQUIRE(backend.launch(none, LongWork(backend, 1).op()).code() == StatusCode::kInvalidArgument);
    finish(backend);
  }

  SECTION("threads may submit to streams of their own and wait for each other's work") {
    const std::vector<float> ones(1000, 1);
    const DeviceMemory step = on_device<float>(backend, ones), sums = must(backend.allocate(kStreams * 4096));
    std::vector<std::thread> threads;
    std::vector<int> bad(kStreams, 0);
    for (size_t t = 0; t < kStreams; ++t) {
      threads.emplace_back([&, t] {
        const auto stream = static_cast<Stream>(t);
        const AddArgs args{as<float>(step), 1000, as<float>(sums) + t * 1024, 1000, 1, 1000};
        for (int i = 0; i < 300; ++i) {
          bad[t] += !backend.launch(stream, args).is_ok();
          const Result<Event> other = backend.record(static_cast<Stream>((t + 1) % kStreams));
          bad[t] += !other.is_ok() || !backend.wait(stream, other.value()).is_ok();
          if (i % 50 == 0) bad[t] += !backend.synchronize(backend.record(stream).value(), kPatience).is_ok();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    finish(backend);
    REQUIRE(std::accumulate(bad.begin(), bad.end(), 0) == 0);
    for (size_t t = 0; t < kStreams; ++t) {
      std::vector<float> result(1000);
      get(backend, result.data(), sums.data() + t * 4096, 4000);
      REQUIRE(result == std::vector<float>(1000, 300));
    }
  }

  SECTION("steady work allocates nothing") {
    const std::vector<float> ones(1000, 1);
    const DeviceMemory step = on_device<float>(backend, ones), sum = must(backend.allocate(step.bytes()));
    const PinnedMemory pinned = must(backend.allocate_pinned(step.bytes()));
    size_t bad = 0;
    const auto round = [&] {
      bad += !backend.copy_to_device(Stream::kToDevice, step.data(), pinned.data(), step.bytes()).is_ok();
      bad += !backend.wait(Stream::kCompute, backend.record(Stream::kToDevice).value()).is_ok();
      bad += !backend.launch(Stream::kCompute, addition(step, sum)).is_ok();
      const Event done = backend.record(Stream::kCompute).value();
      bad += !backend.wait(Stream::kToHost, done).is_ok() || !backend.wait(Stream::kToDevice, done).is_ok();
      bad += !backend.copy_to_host(Stream::kToHost, pinned.data(), sum.data(), sum.bytes()).is_ok();
      const Event out = backend.record(Stream::kToHost).value();
      bad += !backend.query(out).is_ok() || !backend.synchronize(out, kPatience).is_ok();
    };
    round();
    const uint64_t before = heap_allocations();
    for (int i = 0; i < 1200; ++i) round();
    REQUIRE(heap_allocations() == before);
    REQUIRE(bad == 0);
  }
}

inline void check_failure_contract(const OpenBackend& open) {
  SECTION("an address outside an allocation is a failure of the device, which stays until it is opened anew") {
    constexpr uint64_t kBytes = 10000;
    for (int what = 0; what < 5; ++what) {
      CAPTURE(what);
      const std::unique_ptr<Backend> backend = open();
      const DeviceMemory memory = must(backend->allocate(kBytes));
      const PinnedMemory pinned = must(backend->allocate_pinned(2 * kBytes));
      std::memset(pinned.data(), 5, 2 * kBytes);
      float* const floats = as<float>(memory);
      switch (what) {
        case 0: (void)backend->copy_to_device(Stream::kToDevice, memory.data() + 1, pinned.data(), kBytes); break;
        case 1: (void)backend->copy_to_host(Stream::kToHost, pinned.data(), memory.data() - 1, kBytes); break;
        case 2: (void)backend->copy_to_host(Stream::kToHost, pinned.data(), nullptr, 1); break;
        case 3: (void)backend->launch(Stream::kCompute, AddArgs{floats, 2500, floats + 1, 2500, 1, 2500}); break;
        default: (void)backend->launch(Stream::kCompute, AddArgs{floats, SIZE_MAX / 2, floats, 1000, 3, 1000}); break;
      }
      // Work that comes after may be accepted until the failure is found.
      Status failure;
      for (size_t i = 0; i < kStreams && failure.is_ok(); ++i) failure = outcome(*backend, static_cast<Stream>(i));
      INFO(failure.to_string());
      REQUIRE(failure.code() == StatusCode::kDevice);
      REQUIRE(failure.message().find("illegal address") != std::string::npos);

      const auto is_same = [&failure](const Status& status) {
        return status.code() == failure.code() && status.message() == failure.message();
      };
      REQUIRE(is_same(backend->allocate(1).status()));
      REQUIRE(is_same(backend->allocate_pinned(1).status()));
      REQUIRE(is_same(backend->copy_to_device(Stream::kToDevice, memory.data(), pinned.data(), 1)));
      REQUIRE(is_same(backend->copy_to_host(Stream::kToHost, pinned.data(), memory.data(), 1)));
      REQUIRE(is_same(backend->launch(Stream::kCompute, AddArgs{floats, 1, floats, 1, 1, 1})));
      REQUIRE(is_same(backend->record(Stream::kCompute).status()));
      REQUIRE(is_same(backend->wait(Stream::kCompute, Event())));
      REQUIRE(is_same(backend->query(Event()).status()));
      REQUIRE(is_same(backend->synchronize(Event(), kPatience)));
      REQUIRE(backend->inventory().memory_bytes > 0);
      REQUIRE(std::count(pinned.data(), pinned.data() + 2 * kBytes, std::byte{5}) == 2 * kBytes);
    }
    finish(*open());
  }

  SECTION("memory that was given back is outside") {
    const std::unique_ptr<Backend> backend = open();
    const PinnedMemory pinned = must(backend->allocate_pinned(4096));
    std::byte* gone = nullptr;
    { gone = must(backend->allocate(4096)).data(); }
    Status status = backend->copy_to_device(Stream::kToDevice, gone, pinned.data(), 1);
    if (status.is_ok()) status = outcome(*backend, Stream::kToDevice);
    REQUIRE(status.code() == StatusCode::kDevice);
  }

  SECTION("a misaligned address is one too") {
    const std::unique_ptr<Backend> backend = open();
    const DeviceMemory memory = must(backend->allocate(4096));
    auto* const odd = reinterpret_cast<float*>(memory.data() + 2);
    Status status = backend->launch(Stream::kCompute, AddArgs{odd, 8, odd, 8, 1, 8});
    if (status.is_ok()) status = outcome(*backend, Stream::kCompute);
    REQUIRE(status.code() == StatusCode::kDevice);
    REQUIRE(status.message().find("misaligned") != std::string::npos);
  }

  SECTION("memory and device may go while work is in flight") {
    for (int i = 0; i < 5; ++i) {
      const std::unique_ptr<Backend> backend = open();
      const LongWork work(*backend, 50);
      work.submit(*backend, Stream::kCompute);
      work.submit(*backend, Stream::kDraft);
      constexpr uint64_t kHalf = 2 << 20;
      const DeviceMemory memory = must(backend->allocate(2 * kHalf));
      const PinnedMemory pinned = must(backend->allocate_pinned(2 * kHalf));
      require_ok(backend->copy_to_device(Stream::kToDevice, memory.data(), pinned.data(), kHalf));
      require_ok(backend->wait(Stream::kToHost, must(backend->record(Stream::kCompute))));
      require_ok(backend->copy_to_host(Stream::kToHost, pinned.data() + kHalf, memory.data() + kHalf, kHalf));
    }
  }
}

}  // namespace outrigger::contract

#endif  // OUTRIGGER_TESTS_CONTRACT_BACKEND_WORK_CONTRACT_H_
