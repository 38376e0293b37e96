// The log sink: where the library's few remarks go. Silent unless the application sets one.
#ifndef OUTRIGGER_SRC_BASE_LOGGING_H_
#define OUTRIGGER_SRC_BASE_LOGGING_H_

#include <string>

#include <outrigger/log.h>

namespace outrigger {

/// Hands one line to the application's sink, if there is one and it wants this level. Never throws.
void log_message(LogLevel level, const std::string& text) noexcept;

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_BASE_LOGGING_H_
