// Progress on stderr: a bar on a terminal, otherwise a plain line now and then.
#ifndef OUTRIGGER_SRC_TOOL_PROGRESS_H_
#define OUTRIGGER_SRC_TOOL_PROGRESS_H_

#include <chrono>
#include <functional>
#include <string>

namespace outrigger::tool {

enum class ProgressMode { kAuto, kPlain, kNone };

/// One piece of work's progress. Says nothing about work that is done in an instant, and leaves no bar behind.
class ProgressLine {
 public:
  ProgressLine(ProgressMode mode, std::string what);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void update(double share);
  /// Takes the bar off the terminal; further updates are ignored.
  void finish();
  /// For the library's calls, which stop for Ctrl-C by their cancel token and not by this.
  std::function<bool(double)> callback();

 private:
  using Clock = std::chrono::steady_clock;
  void draw(double share);

  std::string what_;
  bool bar_ = false, drawn_ = false, finished_ = false;
  Clock::time_point next_;
};

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_PROGRESS_H_
