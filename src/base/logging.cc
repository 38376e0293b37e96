// The process's log sink.
#include "src/base/logging.h"

#include <mutex>

namespace outrigger {
namespace {

struct Sink {
  std::mutex mutex;
  LogSink write;
  LogLevel most_verbose = LogLevel::kWarning;
};

// Never destroyed: a worker may still have a word to say while the process exits.
Sink& sink() {
  static Sink* const the_sink = new Sink;
  return *the_sink;
}

}  // namespace

void set_log_sink(LogSink write, LogLevel most_verbose) {
  Sink& s = sink();
  const std::lock_guard lock(s.mutex);
  s.write = std::move(write);
  s.most_verbose = most_verbose;
}

void log_message(LogLevel level, const std::string& text) noexcept {
  try {
    Sink& s = sink();
    const std::lock_guard lock(s.mutex);
    if (s.write && level <= s.most_verbose) s.write(level, text);
  } catch (...) {
    // A sink that throws loses its line; the work it was told about goes on.
  }
}

}  // namespace outrigger
