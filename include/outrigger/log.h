// Logging: the library prints nothing; an application that wants its remarks installs a sink.
#ifndef OUTRIGGER_LOG_H_
#define OUTRIGGER_LOG_H_

#include <outrigger/export.h>

#include <cstdint>
#include <functional>
#include <string_view>

namespace outrigger {

enum class LogLevel : int32_t { kError = 0, kWarning = 1, kInfo = 2, kDebug = 3 };

using LogSink = std::function<void(LogLevel level, std::string_view line)>;

/// Installs the process's sink, for levels up to and including `most_verbose`; an empty sink makes the library silent again (the default).
/// Threads: may be called at any time; the sink itself is called by one thread at a time, on whichever thread has something to say.
OTR_API void set_log_sink(LogSink sink, LogLevel most_verbose = LogLevel::kWarning);

}  // namespace outrigger

#endif  // OUTRIGGER_LOG_H_
