// device_code.h for nvcc: each word is an instruction or two.
//
// Compiled with --fmad=false, so that a product and a sum are two roundings, as in the host's kernels, and only fmaf is one.
#ifndef OUTRIGGER_CUDA_KERNELS_DEVICE_CODE_NVCC_H_
#define OUTRIGGER_CUDA_KERNELS_DEVICE_CODE_NVCC_H_

#define OTR_KERNEL __global__
// The threads of a block, and perhaps the blocks that a multiprocessor should have room for: what bounds the registers.
#define OTR_KERNEL_OF(...) __global__ __launch_bounds__(__VA_ARGS__)
#define OTR_DEVICE __device__ __forceinline__
#define OTR_SHARED __shared__
#define OTR_UNROLL _Pragma("unroll")

namespace outrigger::cuda {

OTR_DEVICE uint32_t thread_index() { return threadIdx.x; }
OTR_DEVICE uint32_t block_threads() { return blockDim.x; }
OTR_DEVICE uint32_t block_x() { return blockIdx.x; }
OTR_DEVICE uint32_t block_y() { return blockIdx.y; }
OTR_DEVICE uint32_t block_z() { return blockIdx.z; }
OTR_DEVICE uint32_t grid_x() { return gridDim.x; }

/// Memory that the launch gave to each block, 16-byte aligned.
OTR_DEVICE std::byte* dynamic_shared() {
  extern __shared__ U4 outrigger_dynamic_shared[];
  return reinterpret_cast<std::byte*>(outrigger_dynamic_shared);
}

OTR_DEVICE void sync_block() { __syncthreads(); }
OTR_DEVICE void sync_warp() { __syncwarp(); }
OTR_DEVICE void pass_gate(uint32_t gate, uint32_t threads) { asm volatile("bar.sync %0, %1;" : : "r"(gate), "r"(threads) : "memory"); }
OTR_DEVICE void open_gate(uint32_t gate, uint32_t threads) { asm volatile("bar.arrive %0, %1;" : : "r"(gate), "r"(threads) : "memory"); }
template <typename T>
OTR_DEVICE T shuffle_xor(T value, uint32_t mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
template <typename T>
OTR_DEVICE T shuffle_from(T value, uint32_t lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}

/// Byte i of the result is the byte of b:a that nibble i of `selector` names; a nibble above 7 repeats that byte's sign.
OTR_DEVICE uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t selector) { return __byte_perm(a, b, selector); }

/// sum + the products of two signed 16-bit numbers and the two low (or high) signed bytes of `codes`.
OTR_DEVICE int32_t dot_low_bytes(uint32_t pair, uint32_t codes, int32_t sum) {
  return __dp2a_lo(static_cast<int>(pair), static_cast<int>(codes), sum);
}
OTR_DEVICE int32_t dot_high_bytes(uint32_t pair, uint32_t codes, int32_t sum) {
  return __dp2a_hi(static_cast<int>(pair), static_cast<int>(codes), sum);
}

OTR_DEVICE float as_float(uint32_t bits) { return __uint_as_float(bits); }
OTR_DEVICE uint32_t as_bits(float value) { return __float_as_uint(value); }
OTR_DEVICE float half_to_float(uint16_t bits) {
  float value;
  asm("{ cvt.f32.f16 %0, %1; }" : "=f"(value) : "h"(bits));
  return value;
}
/// To nearest, ties to even; beyond the range to infinity.
OTR_DEVICE uint16_t float_to_half(float value) {
  uint16_t bits;
  asm("{ cvt.rn.f16.f32 %0, %1; }" : "=h"(bits) : "f"(value));
  return bits;
}

/// Loads of what is read once, and by no other block: they leave nothing in the first-level cache. Aligned to their size.
OTR_DEVICE U4 load_once(const U4* src) {
  U4 value;
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w) : "l"(src));
  return value;
}
OTR_DEVICE U2 load_once(const U2* src) {
  U2 value;
  asm("ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(value.x), "=r"(value.y) : "l"(src));
  return value;
}

/// A word of a handoff: eight aligned bytes of the host's memory, at once and past the device's caches. In no order with others.
OTR_DEVICE uint64_t load_from_host(const uint64_t* src) {
  uint64_t value;
  asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(src) : "memory");
  return value;
}
OTR_DEVICE void store_for_host(uint64_t* dst, uint64_t value) {
  asm volatile("st.relaxed.sys.global.u64 [%0], %1;" : : "l"(dst), "l"(value) : "memory");
}
OTR_DEVICE uint64_t now_ns() {
  uint64_t ns;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(ns));
  return ns;
}
/// About 100 ns in which others of the multiprocessor run.
OTR_DEVICE void nap() { __nanosleep(100); }

/// sums = from + A B, exact in integers, where A is 16 rows x 32 of k, unsigned bytes, and B 32 of k x 8 columns, signed ones. Lane l has,
/// with g = l / 4 and t = l % 4,
///   a[0], a[1]  rows g and g + 8 at k = 4t .. 4t + 3;  a[2], a[3] the same at k = 16 + 4t ..
///   b[0], b[1]  column g at k = 4t .. and 16 + 4t ..
///   sums[0..3]  rows g, g, g + 8, g + 8 of columns 2t, 2t + 1, 2t, 2t + 1
OTR_DEVICE void multiply_codes(int32_t (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const int32_t (&from)[4]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%10,%11,%12,%13};"
      : "=r"(sums[0]), "=r"(sums[1]), "=r"(sums[2]), "=r"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(from[0]), "r"(from[1]), "r"(from[2]), "r"(from[3]));
#else
  for (int rows = 0; rows < 2; ++rows) {
    int32_t(&two)[2] = reinterpret_cast<int32_t(&)[2]>(sums[2 * rows]);
    asm("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0,%1},{%2},{%3},{%4,%5};"
        : "=r"(two[0]), "=r"(two[1])
        : "r"(a[rows]), "r"(b[0]), "r"(from[2 * rows]), "r"(from[2 * rows + 1]));
    asm("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0,%1},{%2},{%3},{%0,%1};"
        : "+r"(two[0]), "+r"(two[1])
        : "r"(a[2 + rows]), "r"(b[1]));
  }
#endif
}
/// The same of one half of k: a holds a[0], a[1] (or a[2], a[3]) and b is b[0] (or b[1]).
OTR_DEVICE void multiply_codes_of_half(int32_t (&sums)[4], const uint32_t (&a)[2], uint32_t b, const int32_t (&from)[4]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.s32.u8.s8.s32 {%0,%1,%2,%3},{%4,%5},{%6},{%7,%8,%9,%10};"
      : "=r"(sums[0]), "=r"(sums[1]), "=r"(sums[2]), "=r"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(b), "r"(from[0]), "r"(from[1]), "r"(from[2]), "r"(from[3]));
#else
  for (int rows = 0; rows < 2; ++rows) {
    asm("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0,%1},{%2},{%3},{%4,%5};"
        : "=r"(sums[2 * rows]), "=r"(sums[2 * rows + 1])
        : "r"(a[rows]), "r"(b), "r"(from[2 * rows]), "r"(from[2 * rows + 1]));
  }
#endif
}

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_DEVICE_CODE_NVCC_H_
