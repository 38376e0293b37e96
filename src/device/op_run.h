// Running an operation with the kernels of src/kernels, on addresses of this process.
#ifndef OUTRIGGER_SRC_DEVICE_OP_RUN_H_
#define OUTRIGGER_SRC_DEVICE_OP_RUN_H_

#include "src/base/thread_team.h"
#include "src/device/device_op.h"

namespace outrigger {

/// All members of a region call it with the same operation, and a barrier must come before its results are read. The bits do not depend on
/// how many there are. Allocates nothing. Precondition: check_op, and addresses that can be reached.
void run_op(const DeviceOp& op, const TeamMember& member);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_OP_RUN_H_
