// device_code.h for the host's compiler: what the emulator of a block's threads gives. tests/cuda/emulator defines the functions.
#ifndef OUTRIGGER_CUDA_KERNELS_DEVICE_CODE_HOST_H_
#define OUTRIGGER_CUDA_KERNELS_DEVICE_CODE_HOST_H_

#include <bit>
#include <cstring>

#include "src/device/handoff_word.h"
#include "src/tensor/half.h"

#define OTR_KERNEL inline
#define OTR_KERNEL_OF(...) inline
#define OTR_DEVICE inline
// One block runs at a time: its threads take turns on one of the host's.
#define OTR_SHARED static
#define OTR_UNROLL

namespace outrigger::cuda {

uint32_t thread_index();
uint32_t block_threads();
uint32_t block_x();
uint32_t block_y();
uint32_t block_z();
uint32_t grid_x();
std::byte* dynamic_shared();
void sync_block();
void sync_warp();
/// A gate opens, and is closed again, when so many threads (whole warps) have come to it: those who pass it wait for that and see what the
/// others wrote before they came, those who open it go on at once. 1 to 15; a warp's threads come together, warps from where they like.
/// @source PTX ISA, bar.sync and bar.arrive
void pass_gate(uint32_t gate, uint32_t threads);
void open_gate(uint32_t gate, uint32_t threads);

/// What lane `lane` of the caller's warp brings to the same call: all 32 must make it.
uint64_t exchange(uint64_t value, uint32_t lane);
template <typename T>
T shuffle_from(T value, uint32_t lane) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = exchange(bits, lane);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
template <typename T>
T shuffle_xor(T value, uint32_t mask) {
  return shuffle_from(value, thread_index() % kWarp ^ mask);
}

uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t selector);
inline int32_t dot_low_bytes(uint32_t pair, uint32_t codes, int32_t sum) {
  return sum + static_cast<int16_t>(pair) * static_cast<int8_t>(codes) + static_cast<int16_t>(pair >> 16) * static_cast<int8_t>(codes >> 8);
}
inline int32_t dot_high_bytes(uint32_t pair, uint32_t codes, int32_t sum) { return dot_low_bytes(pair, codes >> 16, sum); }
inline float as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t as_bits(float value) { return std::bit_cast<uint32_t>(value); }
inline float half_to_float(uint16_t bits) { return f16_to_float(bits); }
inline uint16_t float_to_half(float value) { return float_to_f16(value); }

/// Ends the program when the address is not aligned to `bytes`: a device would.
void check_alignment(const void* address, size_t bytes);
template <typename T>
T load_once(const T* src) {
  check_alignment(src, sizeof(T));
  return *src;
}

inline uint64_t load_from_host(const uint64_t* src) { return load_word(src); }
inline void store_for_host(uint64_t* dst, uint64_t value) { store_word(dst, value); }
uint64_t now_ns();
/// Gives way to another thread of the machine, not of the block: those wait for the host as well.
void nap();

void multiply_codes(int32_t (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const int32_t (&from)[4]);
void multiply_codes_of_half(int32_t (&sums)[4], const uint32_t (&a)[2], uint32_t b, const int32_t (&from)[4]);

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_DEVICE_CODE_HOST_H_
