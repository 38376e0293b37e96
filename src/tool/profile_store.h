// The machine's profile: measured once, kept in the cache folder, used until the machine changes.
#ifndef OUTRIGGER_SRC_TOOL_PROFILE_STORE_H_
#define OUTRIGGER_SRC_TOOL_PROFILE_STORE_H_

#include <outrigger/machine_profile.h>
#include <outrigger/status.h>

#include <cstdint>
#include <optional>
#include <string>

#include "src/tool/options.h"

namespace outrigger::tool {

/// A file of ${OUTRIGGER_CACHE:-~/.cache/outrigger}; empty when neither is known.
std::string cache_path(const char* name);
/// That of the profile.
std::string profile_path();

/// What is stored there, if it holds for this machine, for `threads` (0: the default), for the disk that `disk_path` lies on and for
/// `device`, as EngineOptions has it. For the cpu what was measured of another device is left out.
std::optional<MachineProfile> stored_profile(uint32_t threads, const std::string& disk_path, const std::string& device);

/// Keeps it; `disk_path` is the file its disk was measured with. A cache that cannot be written is worth a remark, not a failure.
void store_profile(const MachineProfile& profile, const std::string& disk_path, const std::string& device);

/// The stored profile, or a quick measurement that is then stored. Errors: those of measure_machine.
Result<MachineProfile> known_profile(const CommonOptions& common, const std::string& disk_path);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_PROFILE_STORE_H_
