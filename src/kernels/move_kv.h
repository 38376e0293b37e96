// Moving what the key-value cache of a layer holds from one place to another.
#ifndef OUTRIGGER_SRC_KERNELS_MOVE_KV_H_
#define OUTRIGGER_SRC_KERNELS_MOVE_KV_H_

#include "src/kernels/kv_layout.h"

namespace outrigger {

/// A layer's cache. Nothing is owned.
struct KvPlaceArgs {
  std::byte* k_cache;  ///< laid out as in kv_layout.h
  std::byte* v_cache;
  size_t kv_heads, head_dim;
  size_t capacity;  ///< positions a head has room for: a multiple of kKvInterleave
  KvType type = KvType::kF16;
};

/// Copies the key and value of every head at place `from` to place `to`, as they are stored. Precondition: both are below the capacity. Any
/// thread. Allocates nothing. Cost: two lines of memory for each element of a key, as keys are interleaved.
void move_kv_place(const KvPlaceArgs& args, size_t from, size_t to);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_MOVE_KV_H_
