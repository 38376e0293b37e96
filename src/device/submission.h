// What backends say alike of submissions that the host can see to be wrong.
#ifndef OUTRIGGER_SRC_DEVICE_SUBMISSION_H_
#define OUTRIGGER_SRC_DEVICE_SUBMISSION_H_

#include <outrigger/status.h>

#include "src/device/allocation_table.h"
#include "src/device/device_op.h"
#include "src/device/stream.h"

namespace outrigger {

/// kInvalidArgument unless there is such a stream.
Status check_stream(Stream stream);
/// kInvalidArgument unless all of the host's side of a copy is in one piece of pinned memory.
Status check_pinned(const AllocationTable& pinned, const std::byte* host, uint64_t bytes);
/// kInvalidArgument for a handoff to a device that cannot look at the host's memory while it works.
Status check_handoff(bool can_hand_over, const DeviceOp& op);
/// kDevice: an address of the device's side of a copy.
Status illegal_address(const std::byte* device, uint64_t bytes);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_SUBMISSION_H_
