// What must hold of an operation before it runs: its dimensions on submission, its addresses when its turn has come.
#ifndef OUTRIGGER_SRC_DEVICE_OP_CHECK_H_
#define OUTRIGGER_SRC_DEVICE_OP_CHECK_H_

#include <outrigger/status.h>

#include "src/device/allocation_table.h"
#include "src/device/device_op.h"

namespace outrigger {

/// kInvalidArgument, naming the operation and the field, if dimensions or strides do not fit together: after it no kernel divides by zero
/// or takes a wrong branch, and its extents can be computed. Does not look at addresses.
Status check_op(const DeviceOp& op);

/// Replaces the addresses by those at which they can be reached. kDevice for the first that is misaligned or whose bytes are not inside one
/// allocation. `scratch_bytes` is what the backend says of the operation. Precondition: check_op is ok.
/// `pinned` is where the words of handoffs lie.
Status translate_op(const AllocationTable& memory, const AllocationTable& pinned, uint64_t scratch_bytes, DeviceOp* op);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_OP_CHECK_H_
