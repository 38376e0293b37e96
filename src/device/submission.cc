// Submissions that are wrong.
#include "src/device/submission.h"

#include "src/base/bytes.h"
#include "src/base/formatted.h"

namespace outrigger {

Status check_stream(Stream stream) {
  if (static_cast<size_t>(stream) < kStreams) return {};
  return Status(StatusCode::kInvalidArgument, formatted("stream: got {}, need one of {}", static_cast<int>(stream), kStreams));
}

Status check_pinned(const AllocationTable& pinned, const std::byte* host, uint64_t bytes) {
  if (pinned.find(host, bytes) != nullptr) return {};
  return Status(StatusCode::kInvalidArgument, formatted("copy: got {} of host memory at {}, need memory of allocate_pinned()",
                                                        format_bytes(bytes), static_cast<const void*>(host)));
}

Status check_handoff(bool can_hand_over, const DeviceOp& op) {
  if (can_hand_over || !is_handoff(kind_of(op))) return {};
  return Status(
      StatusCode::kInvalidArgument,
      formatted("{}: got a device that cannot look at the host's memory while it works, need copies", device_op_name(kind_of(op))));
}

Status illegal_address(const std::byte* device, uint64_t bytes) {
  return Status(StatusCode::kDevice, formatted("copy: illegal address: {} at {} of the device are not inside one allocation",
                                               format_bytes(bytes), static_cast<const void*>(device)));
}

}  // namespace outrigger
