// Ctrl-C: the first one asks what is running to stop, the second one ends the process.
#ifndef OUTRIGGER_SRC_TOOL_INTERRUPT_H_
#define OUTRIGGER_SRC_TOOL_INTERRUPT_H_

#include <outrigger/cancel.h>

namespace outrigger::tool {

/// What a shell reports for a process that Ctrl-C ended.
constexpr int kExitInterrupted = 130;

/// Installs the handler; call once, before any thread is started. Also makes writing to a closed pipe, or beyond a limit
/// on files, an error instead of a signal.
void install_signal_handlers();

/// Cancelled by the first Ctrl-C that comes inside an Interruptible scope.
const CancelToken& interrupt_token();
bool was_interrupted();
/// A conversation goes on after an interrupted answer.
void forget_interrupt();

/// While one is alive, something looks at interrupt_token() and Ctrl-C is a request. Outside, Ctrl-C exits at once.
class Interruptible {
 public:
  Interruptible();
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;
};

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_INTERRUPT_H_
