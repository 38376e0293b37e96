// The workload a plan is made for, as it is written on the command line.
#ifndef OUTRIGGER_SRC_TOOL_WORKLOAD_H_
#define OUTRIGGER_SRC_TOOL_WORKLOAD_H_

#include <outrigger/plan.h>
#include <outrigger/status.h>

#include <string_view>

namespace outrigger::tool {

/// "prompt=512,new=128,batch=1,ctx=0" in any order; what is left out keeps its default. Errors: kInvalidArgument naming the part.
Result<Workload> parse_workload(std::string_view text);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_WORKLOAD_H_
