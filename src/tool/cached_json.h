// Small documents in the cache folder: what earlier runs found out, by name.
#ifndef OUTRIGGER_SRC_TOOL_CACHED_JSON_H_
#define OUTRIGGER_SRC_TOOL_CACHED_JSON_H_

#include <string>

#include "src/tool/report.h"

namespace outrigger::tool {

/// The entries under `field` of ${OUTRIGGER_CACHE:-~/.cache/outrigger}/`file`; none where that cannot be read or is something else.
Json cached_entries(const char* file, const char* field);
/// Puts them there, as a whole file or not at all. A cache that cannot be written is worth a remark, which begins with `what`, and is not a
/// failure.
void cache_entries(const char* file, const char* field, const Json& entries, const std::string& what);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_CACHED_JSON_H_
