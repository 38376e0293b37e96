// The workload a plan is made for.
#include "src/tool/workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace outrigger::tool {

Result<Workload> parse_workload(std::string_view text) {
  Workload workload;
  while (!text.empty()) {
    const std::string_view part = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), part.size() + 1));
    const std::string_view key = part.substr(0, part.find('='));
    const std::string_view value = part.substr(std::min(part.size(), key.size() + 1));
    uint32_t* const field = key == "prompt"  ? &workload.prompt_tokens
                            : key == "new"   ? &workload.new_tokens
                            : key == "batch" ? &workload.batch
                            : key == "ctx"   ? &workload.context_tokens
                                             : nullptr;
    uint32_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (field == nullptr || value.empty() || error != std::errc() || end != value.data() + value.size()) {
      return Status(StatusCode::kInvalidArgument, fmt::format("got '{}', need a list of prompt=N, new=N, batch=N, ctx=N", part));
    }
    *field = number;
  }
  return workload;
}

}  // namespace outrigger::tool
