// ThreadTeam: workers that each wait for a word of their own to change, and a central barrier.
#include "src/base/thread_team.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

#include "src/base/blocked_signals.h"
#include "src/base/formatted.h"
#include "src/base/region_times.h"
#include "src/base/team_width.h"

namespace outrigger {
namespace {

using Clock = std::chrono::steady_clock;

// A decode step of a small model has a barrier every 10 us, and between two steps the sampler works alone for some 50 us: until then
// spinning is cheaper than the 35-60 us of a sleep and its waking. Yielding then gives way to whoever needs the processor.
constexpr auto kSpin = std::chrono::microseconds(50);
constexpr auto kYield = std::chrono::microseconds(300);
constexpr int kPausesPerLook = 32;  // reading the clock costs as much as two pauses

void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Subnormal operands cost a microcode assist each: a tile of them runs at half speed. No result of ours is worth that.
class FlushSubnormals {
 public:
#if defined(__x86_64__) || defined(__i386__)
  FlushSubnormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }  // flush to zero | denormals are zero
  ~FlushSubnormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#endif
};

}  // namespace

struct ThreadTeam::State {
  // A worker's: it sleeps through regions that have no place for it. Each on a line of its own, as all words that someone spins on.
  struct alignas(64) Seat {
    std::atomic<uint32_t> regions{0};  // begun with this worker
  };

  explicit State(size_t count) : threads(count), seats(new Seat[count]), width(count) {}

  const size_t threads;
  const std::unique_ptr<Seat[]> seats;  // the caller's is not used
  bool may_spin = true;
  size_t count = 1;           // members of the region: written before its seats, read behind them
  bool stop = false;          // likewise
  Trampoline body = nullptr;  // likewise
  void* object = nullptr;     // likewise
  std::vector<std::thread> workers;

  alignas(64) std::atomic<uint32_t> finished{0};  // workers that have left the current region
  alignas(64) std::atomic<uint32_t> arrived{0};   // members at the current barrier
  alignas(64) std::atomic<uint32_t> phase{0};     // barriers passed

  // Of the current region: what members lost to waits longer than a spin, and by how much the last of those who slept before it came late.
  alignas(64) std::atomic<int64_t> lost_ns{0};
  std::atomic<int64_t> late_ns{0};
  Clock::time_point begun{};  // written before the seats, read behind them
  TeamWidth width;            // the caller's, for run_elastic

  void wait_in_region(const std::atomic<uint32_t>& word, uint32_t old) {
    const Clock::duration waited = wait_while(word, old);
    if (waited > kSpin) lost_ns.fetch_add(std::chrono::nanoseconds(waited).count(), std::memory_order_relaxed);
  }

  // A worker that slept is in the region.
  void note_waking() {
    const int64_t late = std::chrono::nanoseconds(Clock::now() - begun).count();
    int64_t latest = late_ns.load(std::memory_order_relaxed);
    while (latest < late && !late_ns.compare_exchange_weak(latest, late, std::memory_order_relaxed)) continue;
  }

  // Returns when word != old: how long that took, 0 for a moment.
  Clock::duration wait_while(const std::atomic<uint32_t>& word, uint32_t old) const {
    if (may_spin) {
      for (int i = 0; i < kPausesPerLook; ++i) {
        if (word.load(std::memory_order_acquire) != old) return {};
        pause_briefly();
      }
    }
    const Clock::time_point begin = Clock::now();
    for (Clock::duration waited{}; waited < kYield; waited = Clock::now() - begin) {
      for (int i = 0; i < kPausesPerLook; ++i) {
        if (word.load(std::memory_order_acquire) != old) return Clock::now() - begin;
        if (!may_spin || waited >= kSpin) {
          std::this_thread::yield();
        } else {
          pause_briefly();
        }
      }
    }
    while (word.load(std::memory_order_acquire) == old) word.wait(old, std::memory_order_acquire);
    return Clock::now() - begin;
  }

  // The read-modify-write is a full fence, without which the look for sleepers in notify_all could overtake it and miss one.
  static void advance(std::atomic<uint32_t>& word) {
    word.fetch_add(1, std::memory_order_seq_cst);
    word.notify_all();
  }

  void barrier() {
    const uint32_t now = phase.load(std::memory_order_relaxed);
    if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
      arrived.store(0, std::memory_order_relaxed);
      advance(phase);
    } else {
      wait_in_region(phase, now);
    }
  }
};

void TeamMember::barrier() const {
  if (count_ > 1) team_->state_->barrier();
}

void TeamMember::share(size_t items, size_t granule, size_t* begin, size_t* end) const {
  const size_t granules = (items + granule - 1) / granule;
  // The first `rest` members take one granule more; no product that could overflow.
  const size_t each = granules / count_, rest = granules % count_;
  const size_t first = index_ * each + std::min(index_, rest);
  *begin = std::min(items, first * granule);
  *end = std::min(items, (first + each + (index_ < rest ? 1 : 0)) * granule);
}

ThreadTeam::ThreadTeam(std::unique_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<ThreadTeam>> ThreadTeam::create(size_t threads) {
  if (threads < 1) return Status(StatusCode::kInvalidArgument, "a thread team of 0 threads was asked for; give at least 1");
  try {
    std::unique_ptr<ThreadTeam> team(new ThreadTeam(std::make_unique<State>(threads)));
    State& state = *team->state_;
    state.may_spin = threads <= usable_cores();  // with fewer cores than threads a spinning one keeps out the one it waits for
    state.workers.reserve(threads - 1);
    const BlockedSignals blocked;
    for (size_t index = 1; index < threads; ++index) {
      state.workers.emplace_back([team = team.get(), index] {
        State& shared = *team->state_;
        const FlushSubnormals flush;
        for (uint32_t seen = 0;; ++seen) {
          const bool slept = shared.wait_while(shared.seats[index].regions, seen) >= kYield;
          if (shared.stop) return;
          if (slept) shared.note_waking();
          shared.body(shared.object, TeamMember(team, index, shared.count));
          State::advance(shared.finished);
        }
      });
    }
    return team;
  } catch (const std::exception& refused) {
    return Status(StatusCode::kOutOfMemory,
                  formatted("the system refused one of {} threads ({}); ask for fewer with --threads", threads, refused.what()));
  }
}

ThreadTeam::~ThreadTeam() {
  state_->stop = true;
  for (size_t index = 1; index <= state_->workers.size(); ++index) State::advance(state_->seats[index].regions);
  for (std::thread& worker : state_->workers) worker.join();
}

size_t ThreadTeam::threads() const { return state_->threads; }

void ThreadTeam::run_erased(Trampoline body, void* object) { run_with(state_->threads, body, object); }

void ThreadTeam::run_with(size_t count, Trampoline body, void* object) {
  const FlushSubnormals flush;
  State& state = *state_;
  if (count == 1) return body(object, TeamMember(this, 0, 1));

  state.body = body;
  state.object = object;
  state.count = count;
  state.finished.store(0, std::memory_order_relaxed);
  state.late_ns.store(0, std::memory_order_relaxed);
  state.begun = Clock::now();
  for (size_t index = 1; index < count; ++index) State::advance(state.seats[index].regions);
  body(object, TeamMember(this, 0, count));
  for (uint32_t finished; (finished = state.finished.load(std::memory_order_acquire)) != count - 1;)
    state.wait_in_region(state.finished, finished);
}

void ThreadTeam::run_elastic_erased(Trampoline body, void* object) {
  State& state = *state_;
  const Clock::time_point begin = Clock::now();
  const size_t count = state.width.next(begin);
  state.lost_ns.store(0, std::memory_order_relaxed);
  run_with(count, body, object);
  const Clock::time_point end = Clock::now();
  state.width.record({end - begin, std::chrono::nanoseconds(state.lost_ns.load(std::memory_order_relaxed)),
                      std::chrono::nanoseconds(state.late_ns.load(std::memory_order_relaxed)), count},
                     end);
}

}  // namespace outrigger
