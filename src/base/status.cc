// Names of the status codes, and a status as one line.
#include <outrigger/status.h>

#include "src/base/formatted.h"

namespace outrigger {

const char* status_code_name(StatusCode code) noexcept {
  switch (code) {
    case StatusCode::kOk: return "OK";
    case StatusCode::kInvalidArgument: return "INVALID_ARGUMENT";
    case StatusCode::kNotFound: return "NOT_FOUND";
    case StatusCode::kCorruptFile: return "CORRUPT_FILE";
    case StatusCode::kUnsupported: return "UNSUPPORTED";
    case StatusCode::kUnavailable: return "UNAVAILABLE";
    case StatusCode::kBudget: return "BUDGET";
    case StatusCode::kOutOfMemory: return "OUT_OF_MEMORY";
    case StatusCode::kIo: return "IO";
    case StatusCode::kDevice: return "DEVICE";
    case StatusCode::kCancelled: return "CANCELLED";
    case StatusCode::kInternal: return "INTERNAL";
  }
  return "UNKNOWN";
}

std::string Status::to_string() const {
  std::string where = file_;
  if (!subject_.empty()) where += (where.empty() ? "" : ", ") + subject_;
  if (byte_offset_ != 0) where += formatted("{}byte {}", where.empty() ? "" : ", ", byte_offset_);
  return where.empty() ? message_ : formatted("{} ({})", message_, where);
}

}  // namespace outrigger
