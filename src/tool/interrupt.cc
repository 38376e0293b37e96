// Ctrl-C.
#include "src/tool/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

namespace outrigger::tool {
namespace {

std::atomic<int> listeners{0};

// Never destroyed: the handler may run while static objects are taken down.
const CancelToken* token() {
  static const CancelToken* const instance = new CancelToken();
  return instance;
}

void on_interrupt(int) {
  if (listeners.load(std::memory_order_relaxed) == 0 || token()->is_cancelled()) _exit(kExitInterrupted);
  token()->cancel();
}

}  // namespace

void install_signal_handlers() {
  token();  // not made inside the handler, which must not allocate
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
  sigaction(SIGXFSZ, &action, nullptr);
}

const CancelToken& interrupt_token() { return *token(); }
bool was_interrupted() { return token()->is_cancelled(); }
void forget_interrupt() { token()->reset(); }

Interruptible::Interruptible() { listeners.fetch_add(1, std::memory_order_relaxed); }
Interruptible::~Interruptible() { listeners.fetch_sub(1, std::memory_order_relaxed); }

}  // namespace outrigger::tool
