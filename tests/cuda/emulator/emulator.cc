// A block's threads as fibers.
#include "tests/cuda/emulator/emulator.h"

#include <ucontext.h>
#include <xmmintrin.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "cuda/kernels/device_code.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(OTR_TSAN_FIBERS)
#include <sanitizer/tsan_interface.h>
#endif

namespace outrigger::cuda {
namespace {

constexpr size_t kStackBytes = 256 << 10;  // sanitizers' frames are large
constexpr uint32_t kMostThreads = 1024;
constexpr uint32_t kMostSharedBytes = 64 << 10;  // of a block, on the least card that is built for, sm_75
constexpr size_t kExchangeWords = 4;
constexpr uint32_t kGates = 16;  // the first is that of the whole block

[[noreturn]] void stop(const char* what) {
  std::fprintf(stderr, "emulator: %s\n", what);
  std::abort();
}

/// Where so many threads wait for each other.
struct Meeting {
  uint32_t arrived = 0, generation = 0;
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  bool is_done = false;
  uint32_t exchanges = 0;  // how many this thread made: two buffers serve by turns
  void* sanitizer_state = nullptr;
  void* sanitizer_fiber = nullptr;
};

struct Warp {
  Meeting meeting;
  uint64_t words[2][kWarp][kExchangeWords];
};

class Block {
 public:
  void run(const KernelCall& call);

  uint32_t current = 0, threads = 0;
  GridSize place, grid;
  std::vector<U4> shared;

  void wait(Meeting& meeting, uint32_t count);
  void wait_for_block() { wait(gates_[0], threads); }
  void pass(uint32_t gate, uint32_t count) { wait(checked_gate(gate, count), count); }
  void open(uint32_t gate, uint32_t count) { arrive(checked_gate(gate, count), count); }
  void wait_for_warp() { wait(warps_[current / kWarp].meeting, warp_threads()); }
  /// Publishes the caller's words and returns all lanes' of its warp.
  const uint64_t (*publish(const uint64_t* words, size_t count))[kExchangeWords];

 private:
  void arrive(Meeting& meeting, uint32_t count);
  Meeting& checked_gate(uint32_t gate, uint32_t count);
  uint32_t warp_threads() const { return std::min(kWarp, threads - current / kWarp * kWarp); }
  void run_block();
  void start(Fiber& fiber);
  void resume(Fiber& fiber);
  void yield();
  static void enter();

  const KernelCall* call_ = nullptr;
  std::deque<Fiber> fibers_;  // a saved context points into itself, so it must stay where it is
  std::vector<Warp> warps_;
  std::array<Meeting, kGates> gates_;
  ucontext_t scheduler_;
  bool has_progress_ = false;
  std::mt19937 order_{1};
  std::vector<uint32_t> turns_;
  void* scheduler_fiber_ = nullptr;
  const void* scheduler_stack_ = nullptr;
  size_t scheduler_stack_bytes_ = 0;
};

Block block;

void happens_before(void* where) {
#if defined(OTR_TSAN_FIBERS)
  __tsan_release(where);
#else
  (void)where;
#endif
}
void happens_after(void* where) {
#if defined(OTR_TSAN_FIBERS)
  __tsan_acquire(where);
#else
  (void)where;
#endif
}

// Control goes back to the scheduler, and from there on to some other thread.
void Block::yield() {
  Fiber& fiber = fibers_[current];
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fiber.sanitizer_state, scheduler_stack_, scheduler_stack_bytes_);
#endif
#if defined(OTR_TSAN_FIBERS)
  __tsan_switch_to_fiber(scheduler_fiber_, __tsan_switch_to_fiber_no_sync);
#endif
  ::swapcontext(&fiber.context, &scheduler_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fiber.sanitizer_state, &scheduler_stack_, &scheduler_stack_bytes_);
#endif
}

void Block::resume(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  void* state = nullptr;
  __sanitizer_start_switch_fiber(&state, fiber.stack.get(), kStackBytes);
#endif
#if defined(OTR_TSAN_FIBERS)
  __tsan_switch_to_fiber(fiber.sanitizer_fiber, __tsan_switch_to_fiber_no_sync);
#endif
  ::swapcontext(&scheduler_, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(state, nullptr, nullptr);
#endif
}

void Block::arrive(Meeting& meeting, uint32_t count) {
  happens_before(&meeting);
  if (++meeting.arrived < count) return;
  meeting.arrived = 0;
  ++meeting.generation;
  has_progress_ = true;
}

void Block::wait(Meeting& meeting, uint32_t count) {
  const uint32_t generation = meeting.generation;
  arrive(meeting, count);
  while (meeting.generation == generation) yield();
  happens_after(&meeting);
}

Meeting& Block::checked_gate(uint32_t gate, uint32_t count) {
  if (gate == 0 || gate >= kGates) stop("a gate that a block has not got, or that of the whole block");
  if (count == 0 || count % kWarp != 0 || count > threads) stop("a gate for parts of warps, or for more threads than the block has");
  return gates_[gate];
}

const uint64_t (*Block::publish(const uint64_t* words, size_t count))[kExchangeWords] {
  Warp& warp = warps_[current / kWarp];
  auto& buffer = warp.words[fibers_[current].exchanges++ % 2];
  std::copy_n(words, count, buffer[current % kWarp]);
  wait_for_warp();
  return buffer;
}

void Block::enter() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack_, &block.scheduler_stack_bytes_);
#endif
  for (;;) {
    happens_after(&block);
    block.call_->invoke(block.call_->function, block.call_->arguments);
    happens_before(&block);
    block.fibers_[block.current].is_done = true;
    block.yield();
  }
}

// Made once: from then on it takes a thread of each block.
void Block::start(Fiber& fiber) {
  fiber.is_done = false;
  if (fiber.stack) return;
  fiber.stack = std::make_unique<char[]>(kStackBytes);
  ::getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = kStackBytes;
  fiber.context.uc_link = nullptr;
  ::makecontext(&fiber.context, &Block::enter, 0);
  // From here on nobody but the address sanitizer reads it: with each switch to a context whose stack it knows it forgets what of that
  // stack must not be touched, which took two fifths of the time, and hid from it what a kernel does to its own frame after a barrier.
  fiber.context.uc_stack.ss_size = 0;
#if defined(OTR_TSAN_FIBERS)
  fiber.sanitizer_fiber = __tsan_create_fiber(0);
#endif
}

void Block::run_block() {
  std::fill(shared.begin(), shared.end(), U4{0xdeadbeef, 0xdeadbeef, 0xdeadbeef, 0xdeadbeef});  // no kernel may count on zeros
  gates_ = {};
  warps_.assign((threads + kWarp - 1) / kWarp, {});
  for (uint32_t i = 0; i < threads; ++i) start(fibers_[i]);
  turns_.resize(threads);
  std::iota(turns_.begin(), turns_.end(), 0u);
  happens_before(this);  // all of the above: fibers that worked on another block know nothing of it yet
  for (uint32_t left = threads; left > 0;) {
    has_progress_ = false;
    std::shuffle(turns_.begin(), turns_.end(), order_);
    for (const uint32_t thread : turns_) {
      if (fibers_[thread].is_done) continue;
      current = thread;
      resume(fibers_[thread]);
      if (fibers_[thread].is_done) {
        --left;
        has_progress_ = true;
      }
    }
    if (!has_progress_) stop("threads wait for one that never comes");
  }
  happens_after(this);
}

void Block::run(const KernelCall& call) {
  if (call.block_threads == 0 || call.block_threads > kMostThreads) stop("a block of no threads, or of more than 1024");
  if (call.shared_bytes > kMostSharedBytes) stop("more shared memory than a block may have");
  if (call.grid.x == 0 || call.grid.y == 0 || call.grid.z == 0 || call.grid.y > 65535 || call.grid.z > 65535)
    stop("a grid of no size, or too large a one");
  call_ = &call;
  threads = call.block_threads;
  grid = call.grid;
  shared.resize((call.shared_bytes + sizeof(U4) - 1) / sizeof(U4));
  if (fibers_.size() < threads) fibers_.resize(threads);
#if defined(OTR_TSAN_FIBERS)
  scheduler_fiber_ = __tsan_get_current_fiber();
#endif
  for (place.z = 0; place.z < grid.z; ++place.z) {
    for (place.y = 0; place.y < grid.y; ++place.y) {
      for (place.x = 0; place.x < grid.x; ++place.x) run_block();
    }
  }
}

int32_t code_product(uint32_t unsigned_codes, uint32_t signed_codes) {
  int32_t sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<uint8_t>(unsigned_codes >> 8 * i) * static_cast<int8_t>(signed_codes >> 8 * i);
  return sum;
}

}  // namespace

uint32_t thread_index() { return block.current; }
uint32_t block_threads() { return block.threads; }
uint32_t block_x() { return block.place.x; }
uint32_t block_y() { return block.place.y; }
uint32_t block_z() { return block.place.z; }
uint32_t grid_x() { return block.grid.x; }
std::byte* dynamic_shared() { return reinterpret_cast<std::byte*>(block.shared.data()); }
void sync_block() { block.wait_for_block(); }
void sync_warp() { block.wait_for_warp(); }
void pass_gate(uint32_t gate, uint32_t threads) { block.pass(gate, threads); }
void open_gate(uint32_t gate, uint32_t threads) { block.open(gate, threads); }
uint64_t exchange(uint64_t value, uint32_t lane) { return block.publish(&value, 1)[lane][0]; }

uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t both = static_cast<uint64_t>(b) << 32 | a;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t nibble = selector >> 4 * i & 15;
    uint32_t byte = static_cast<uint32_t>(both >> 8 * (nibble & 7)) & 255;
    if (nibble & 8) byte = (byte & 128) != 0 ? 255 : 0;
    result |= byte << 8 * i;
  }
  return result;
}

uint64_t now_ns() { return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()); }
void nap() { std::this_thread::yield(); }

void check_alignment(const void* address, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0) stop("a misaligned load");
}

// Row r of A and column c of B at k = 4 quad ..: the fragments as multiply_codes() says lanes have them.
void multiply_codes(int32_t (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const int32_t (&from)[4]) {
  const uint64_t words[3] = {a[0] | static_cast<uint64_t>(a[1]) << 32, a[2] | static_cast<uint64_t>(a[3]) << 32,
                             b[0] | static_cast<uint64_t>(b[1]) << 32};
  const auto lanes = block.publish(words, 3);
  const uint32_t lane = block.current % kWarp, g = lane / 4, t = lane % 4;
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t row = g, upper = i / 2, column = 2 * t + i % 2;
    sums[i] = from[i];
    for (uint32_t quad = 0; quad < 8; ++quad) {
      const uint64_t row_words = lanes[row * 4 + quad % 4][quad / 4], column_words = lanes[column * 4 + quad % 4][2];
      sums[i] += code_product(static_cast<uint32_t>(row_words >> 32 * upper), static_cast<uint32_t>(column_words >> 32 * (quad / 4)));
    }
  }
}

void multiply_codes_of_half(int32_t (&sums)[4], const uint32_t (&a)[2], uint32_t b, const int32_t (&from)[4]) {
  const uint64_t words[2] = {a[0] | static_cast<uint64_t>(a[1]) << 32, b};
  const auto lanes = block.publish(words, 2);
  const uint32_t lane = block.current % kWarp, g = lane / 4, t = lane % 4;
  for (uint32_t i = 0; i < 4; ++i) {
    sums[i] = from[i];
    for (uint32_t quad = 0; quad < 4; ++quad) {
      const uint64_t row_words = lanes[g * 4 + quad][0];
      sums[i] +=
          code_product(static_cast<uint32_t>(row_words >> 32 * (i / 2)), static_cast<uint32_t>(lanes[(2 * t + i % 2) * 4 + quad][1]));
    }
  }
}

namespace emulator {
// Subnormals are zeros on the device, as nvcc is told.
void run(const KernelCall& call) {
  constexpr unsigned kFlushToZero = 0x8040;
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | kFlushToZero);
  block.run(call);
  _mm_setcsr(before);
}

const CudaApi& launch_only() {
  static constexpr CudaApi kApi = [] {
    CudaApi api{};
    api.launch = [](StreamHandle, const KernelCall& call) {
      run(call);
      return kCudaOk;
    };
    api.allow_shared = [](const void*, uint32_t) { return kCudaOk; };
    return api;
  }();
  return kApi;
}
}  // namespace emulator

}  // namespace outrigger::cuda
