// Appending to the key-value cache: runs the version for the level in use.
#include "src/kernels/append_kv.h"

#include "src/kernels/dispatch.h"

namespace outrigger {

void append_kv(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end) {
  OTR_VERSION(append_kv)(args, kv_head_begin, kv_head_end);
}

}  // namespace outrigger
