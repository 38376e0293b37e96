// BlockedSignals: threads started while one lives receive no signal, since signals belong to the application's threads.
#ifndef OUTRIGGER_SRC_BASE_BLOCKED_SIGNALS_H_
#define OUTRIGGER_SRC_BASE_BLOCKED_SIGNALS_H_

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#endif

namespace outrigger {

class BlockedSignals {
 public:
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;
#if defined(__unix__) || defined(__APPLE__)
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &saved_, nullptr); }

 private:
  sigset_t saved_;
#else
  BlockedSignals() = default;
#endif
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_BASE_BLOCKED_SIGNALS_H_
