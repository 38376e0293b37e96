// C API: version, status names, the log sink, cancel flags.
#include <outrigger/build_info.h>
#include <outrigger/log.h>
#include <outrigger/version.h>

#include "capi/capi_common.h"

using outrigger::Status;
using namespace outrigger::capi;  // NOLINT: this file is the C side of that namespace

namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + word;
  return line;
}

}  // namespace

static_assert(OTR_VERSION_MAJOR == OUTRIGGER_VERSION_MAJOR && OTR_VERSION_MINOR == OUTRIGGER_VERSION_MINOR &&
                  OTR_VERSION_PATCH == OUTRIGGER_VERSION_PATCH,
              "outrigger.h and the project state different versions");

const char* otr_status_name(otr_status status) { return outrigger::status_code_name(static_cast<outrigger::StatusCode>(status)); }

const char* otr_version(void) { return OUTRIGGER_VERSION_STRING; }

int32_t otr_version_number(void) { return OTR_VERSION_MAJOR * 10000 + OTR_VERSION_MINOR * 100 + OTR_VERSION_PATCH; }

int32_t otr_abi_version(void) { return OTR_ABI_VERSION; }

otr_status otr_get_build_info(otr_build_info* info, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(check_info(info, "info"));
    // Never destroyed: the texts are valid for ever.
    static const outrigger::BuildInfo& known = *new outrigger::BuildInfo(outrigger::build_info());
    static const std::string& simd_built = *new std::string(joined(known.simd_built));
    otr_build_info full = {};
    full.abi_version = otr_abi_version();
    full.version = otr_version();
    full.compiler = known.compiler.c_str();
    full.simd_built = simd_built.c_str();
    full.simd_in_use = known.simd_in_use.c_str();
    full.cuda = known.cuda;
    full.usable_cores = known.usable_cores;
    give_info(full, info);
    return {};
  });
}

otr_status otr_log_set_sink(otr_log_sink sink, void* user, int32_t most_verbose, otr_error* error) {
  return guard(error, [&]() -> Status {
    if (most_verbose < OTR_LOG_ERROR || most_verbose > OTR_LOG_DEBUG) {
      return invalid("most_verbose: got " + std::to_string(most_verbose) + ", need 0 (error) to 3 (debug)");
    }
    outrigger::LogSink forward;
    if (sink != nullptr) {
      forward = [sink, user](outrigger::LogLevel level, std::string_view line) {
        sink(user, static_cast<int32_t>(level), line.data(), line.size());
      };
    }
    outrigger::set_log_sink(std::move(forward), static_cast<outrigger::LogLevel>(most_verbose));
    return {};
  });
}

otr_status otr_cancel_create(otr_cancel** cancel, otr_error* error) {
  if (cancel != nullptr) *cancel = nullptr;
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(cancel, "cancel"));
    *cancel = new otr_cancel();
    return {};
  });
}

void otr_cancel_trigger(const otr_cancel* cancel) {
  if (cancel != nullptr) cancel->token.cancel();
}

void otr_cancel_reset(const otr_cancel* cancel) {
  if (cancel != nullptr) cancel->token.reset();
}

int32_t otr_cancel_is_triggered(const otr_cancel* cancel) { return cancel != nullptr && cancel->token.is_cancelled() ? 1 : 0; }

void otr_cancel_close(otr_cancel** cancel) { close(cancel); }
