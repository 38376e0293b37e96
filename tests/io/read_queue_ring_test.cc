// ReadQueue by io_uring: the contract, and a kernel that refuses, reads short or fails.
//
// io_uring_queue_init, io_uring_submit and io_uring_register_buffers are replaced in this binary: what is submitted can be spoilt on its
// way to the kernel.
#include <dlfcn.h>
#include <liburing.h>

#include <cerrno>
#include <cstdio>
#include <functional>

#include "src/io/read_queue.h"
#include "tests/contract/read_queue_contract.h"

namespace {

int refusal = 0;       // -errno that making a ring gives; 0: what the system says
int lock_refusal = 0;  // the same for keeping buffers mapped
uint64_t locked_bytes = 0;
/// Sees the entry about to be submitted; returns 0 to let it go on, or the -errno of the submission.
std::function<int(io_uring_sqe&)> spoil;

template <typename Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" int io_uring_queue_init(unsigned entries, io_uring* ring, unsigned flags) {
  return refusal != 0 ? refusal : real<int(unsigned, io_uring*, unsigned)>("io_uring_queue_init")(entries, ring, flags);
}

extern "C" int io_uring_submit(io_uring* ring) {
  if (spoil) {
    const int error = spoil(ring->sq.sqes[(ring->sq.sqe_tail - 1) & *ring->sq.kring_mask]);
    if (error < 0) return error;
  }
  return real<int(io_uring*)>("io_uring_submit")(ring);
}

extern "C" int io_uring_register_buffers(io_uring* ring, const iovec* buffers, unsigned count) {
  if (lock_refusal != 0) return lock_refusal;
  const int error = real<int(io_uring*, const iovec*, unsigned)>("io_uring_register_buffers")(ring, buffers, count);
  if (error == 0) locked_bytes = buffers[0].iov_len;
  return error;
}

namespace outrigger {
namespace {

constexpr uint64_t kSize = 1'000'003;

/// A file, a source of it, and faults that end with it. Some places (containers, as a rule) forbid rings: then there is nothing to test.
struct Ring {
  const ScratchFolder scratch;
  const std::vector<std::byte> file = random_file(scratch / "file", kSize);
  const std::shared_ptr<const ByteSource> source = source_of(scratch / "file");
  const Status here = ReadQueue::create(source, {1, ReadMethod::kRing}).status();

  ~Ring() {
    spoil = nullptr;
    refusal = lock_refusal = 0;
    locked_bytes = 0;
  }
  bool is_here() const {
    if (!here.is_ok()) std::fprintf(stderr, "skipped: %s\n", here.to_string().c_str());
    return here.is_ok();
  }
};

TEST_CASE("ReadQueue: the ring keeps the contract") {
  if (Ring().is_here()) check_read_queue_contract(ReadMethod::kRing);
}

TEST_CASE("ReadQueue: where the system refuses a ring, it is unsupported by name and threads read for whoever did not ask for it") {
  const Ring ring;
  for (const int error : {-ENOSYS, -EPERM, -ENOMEM}) {
    refusal = error;
    const Status status = ReadQueue::create(ring.source, {4, ReadMethod::kRing}).status();
    CHECK(status.code() == StatusCode::kUnsupported);
    CHECK(status.message().find("io_uring") != std::string::npos);
    QueueOfReads it(ring.source, ReadMethod::kAuto, 4, 1000);
    CHECK(it.queue().method() == ReadMethod::kThreads);
    it.ask(0, 17, 1000);
    CHECK(it.take(ring.file).is_ok());
  }
}

TEST_CASE("ReadQueue: where the staging lies may be told; reads inside, across its end and outside are the same") {
  const Ring ring;
  if (!ring.is_here()) return;
  const AlignedBytes area(5 * 65536), elsewhere(65536);
  for (const bool refused : {false, true}) {
    lock_refusal = refused ? -ENOMEM : 0;
    locked_bytes = 0;
    int fixed = 0, plain = 0;
    spoil = [&](io_uring_sqe& entry) {
      (entry.opcode == IORING_OP_READ_FIXED ? fixed : plain) += 1;
      return 0;
    };
    const std::unique_ptr<ReadQueue> queue =
        ReadQueue::create(ring.source, {4, ReadMethod::kRing, area.bytes().first(2 * 65536 + 4096)}).value();
    const std::span<std::byte> staging[] = {area.bytes().first(65536), area.bytes().subspan(65536, 65536),
                                            area.bytes().subspan(2 * 65536, 65536), elsewhere.bytes()};
    for (uint64_t tag = 0; tag < 4; ++tag) REQUIRE(queue->submit({tag * 100'001, 50'000, staging[tag], tag}).is_ok());
    for (int i = 0; i < 4; ++i) {
      const ReadDone done = queue->wait();
      REQUIRE(done.status.is_ok());
      CHECK(std::equal(done.data, done.data + 50'000, ring.file.data() + done.tag * 100'001));
    }
    // A user who may lock nothing gets plain reads here too.
    CHECK(fixed == (locked_bytes > 0 ? 2 : 0));
    CHECK(fixed + plain == 4);
    if (refused) CHECK(fixed == 0);
  }
}

TEST_CASE("ReadQueue: what the kernel reads short is read again like any direct read") {
  const Ring ring;
  if (!ring.is_here()) return;
  int spoilt = 0;
  spoil = [&](io_uring_sqe& entry) {
    if (entry.len > 4096 && ++spoilt % 2 == 0) entry.len = 4096;
    return 0;
  };
  check_random_reads(ring.source, ring.file, ReadMethod::kRing, 4, 60);
  CHECK(spoilt > 40);
}

TEST_CASE("ReadQueue: a ring read that fails is tried as a direct read before it is an error") {
  const Ring ring;
  if (!ring.is_here()) return;
  int spoilt = 0;
  spoil = [&](io_uring_sqe& entry) {
    if (++spoilt % 3 == 0) entry.fd = -1;
    if (spoilt % 3 == 1) entry.off += 1;  // unaligned: what a file system says that takes direct reads back
    if (spoilt % 3 == 1 && !ring.source->is_direct()) entry.off -= 1;
    return 0;
  };
  check_random_reads(ring.source, ring.file, ReadMethod::kRing, 4, 60);
  CHECK(spoilt == 60);
}

TEST_CASE("ReadQueue: what the kernel does not take is read all the same") {
  const Ring ring;
  if (!ring.is_here()) return;
  for (const uint64_t every : {1, 2, 3, 5}) {
    uint64_t calls = 0;
    spoil = [&](io_uring_sqe&) { return ++calls % every == 0 ? -EAGAIN : 0; };
    check_random_reads(ring.source, ring.file, ReadMethod::kRing, 4, 60);
    CHECK(calls > 0);

    QueueOfReads it(ring.source, ReadMethod::kRing, 4, 10'000);
    for (uint32_t slot = 0; slot < 4; ++slot) it.ask(slot, slot, 10'000);
    it.queue().drain();
    CHECK(it.queue().in_flight() == 0);
  }
}

TEST_CASE("ReadQueue: an interrupted submission is made again") {
  const Ring ring;
  if (!ring.is_here()) return;
  int calls = 0;
  spoil = [&](io_uring_sqe&) { return ++calls % 2 == 1 ? -EINTR : 0; };
  check_random_reads(ring.source, ring.file, ReadMethod::kRing, 3, 20);
  CHECK(calls == 40);
}

}  // namespace
}  // namespace outrigger
