// What a build without liburing has instead of the ring: the reason.
#include "src/io/read_queue_methods.h"

namespace outrigger {

Result<std::unique_ptr<ReadQueue>> make_ring_queue(std::shared_ptr<const ByteSource>, uint32_t, std::span<std::byte>) {
  return Status(StatusCode::kUnsupported, "this build has no io_uring; it needs liburing when it is configured");
}

}  // namespace outrigger
