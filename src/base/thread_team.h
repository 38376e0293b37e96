// ThreadTeam: a fixed set of threads that run one function together, with barriers inside it.
#ifndef OUTRIGGER_SRC_BASE_THREAD_TEAM_H_
#define OUTRIGGER_SRC_BASE_THREAD_TEAM_H_

#include <outrigger/status.h>

#include <cstddef>
#include <memory>
#include <type_traits>

namespace outrigger {

class ThreadTeam;

/// One thread's place in a running region.
class TeamMember {
 public:
  size_t index() const { return index_; }  ///< 0 is the thread that called ThreadTeam::run
  size_t count() const { return count_; }
  /// Returns when every member of the region has arrived; what they wrote before it is visible after it.
  /// Cost: about 0.3 us when all are running; spins a bounded time, then sleeps, so an oversubscribed machine stays usable.
  void barrier() const;
  /// This member's contiguous share [begin, end) of `items`, aligned to `granule` items: the same for every call with these numbers.
  void share(size_t items, size_t granule, size_t* begin, size_t* end) const;

 private:
  friend class ThreadTeam;
  TeamMember(ThreadTeam* team, size_t index, size_t count) : team_(team), index_(index), count_(count) {}
  ThreadTeam* team_;
  size_t index_;
  size_t count_;
};

/// A parallel_for per operator costs 11-60 % of a small model's token; a team that stays in one region for a whole segment of the step,
/// with a spin barrier between operators, costs about 3 %.
/// Threads: one region at a time; run() may be called from any thread but not concurrently, nor from inside a region.
class ThreadTeam {
 public:
  /// Starts `threads` - 1 workers (the caller of run is the remaining member). `threads` >= 1.
  /// Workers flush denormals to zero, and so does the caller while it is inside a region.
  /// Errors: kInvalidArgument, kOutOfMemory when the system refuses a thread.
  static Result<std::unique_ptr<ThreadTeam>> create(size_t threads);
  ~ThreadTeam();

  size_t threads() const;

  /// run(), or, while other programs keep the processors busy, on fewer members, in the end on the calling thread alone: threads that wait
  /// for each other at barriers lose a time slice at each of them, which made a decode beside a compiler three times slower than one thread
  /// that waits for nobody. For bodies whose results do not depend on count(). Tries more members again after 0.1 to 6.4 seconds, or six
  /// times what that disturbed region took if that is longer (team_width.h).
  template <typename Body>
  void run_elastic(Body&& body) {
    run_elastic_erased([](void* object, const TeamMember& member) { (*static_cast<std::remove_reference_t<Body>*>(object))(member); },
                       &body);
  }

  /// Runs body(const TeamMember&) on every member and returns when all have finished. The body must not throw. Allocates nothing.
  template <typename Body>
  void run(Body&& body) {
    run_erased([](void* object, const TeamMember& member) { (*static_cast<std::remove_reference_t<Body>*>(object))(member); }, &body);
  }

 private:
  friend class TeamMember;
  using Trampoline = void (*)(void* object, const TeamMember& member);
  struct State;
  explicit ThreadTeam(std::unique_ptr<State> state);
  void run_erased(Trampoline body, void* object);
  void run_with(size_t count, Trampoline body, void* object);
  void run_elastic_erased(Trampoline body, void* object);
  std::unique_ptr<State> state_;
};

/// Physical cores this process may use: affinity mask and cgroup CPU quota considered, hyperthreads counted once; at least 1.
size_t usable_cores();

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_BASE_THREAD_TEAM_H_
