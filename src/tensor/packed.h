// Packed weights: the layout the kernels read. Sixteen output rows are interleaved, so one vector lane is one output row, a dot product
// needs no horizontal sum, and a matrix is one sequential stream whether 1 or 500 tokens use it.
#ifndef OUTRIGGER_SRC_TENSOR_PACKED_H_
#define OUTRIGGER_SRC_TENSOR_PACKED_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "src/tensor/dtype.h"

namespace outrigger {

/// Rows that are interleaved; a matrix is a sequence of such row blocks. The last one is padded with rows of zeros.
inline constexpr size_t kPackRows = 16;
/// Every packed row block starts at a multiple of this, given a matrix that does.
inline constexpr size_t kPackAlignment = 64;

/// A packed layout. Each holds its file type without loss.
///
///  kF32, kF16  element (row, k) at [k][row]                                              16 rows x 4 or 2 bytes per k
///  kBF16       element (row, k) at [k / 2][row][k % 2]: a lane of 32 bits holds two successive k; an odd width is completed by zeros
///  the others  units of 1 to 8 groups of 32 k: float16 scales, the groups' scales, the groups' codes; see packed_layout.h.
///              Rows that are not whole units are padded, with zeros.
enum class PackedKind : uint8_t {
  kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_NL, kIQ4_XS, kMXFP4,
  kO2, kO3, kO4, kN2, kN3, kN4, kO2_128, kO3_128, kO4_128, kN2_128, kN3_128, kN4_128,
};

/// The last of them.
inline constexpr PackedKind kLastPackedKind = PackedKind::kN4_128;

/// The layout that holds this file type, or nothing: such weights can be opened, inspected and dequantised, but not run.
std::optional<PackedKind> packed_kind(DType type);

/// Whether this kind holds plain floats: kF32, kF16, kBF16.
bool is_dense(PackedKind kind);

/// Whether the fast path multiplies this kind with int8 activations. What takes neither these nor bf16 ones is multiplied with float32.
bool takes_int8_activations(PackedKind kind);

/// Whether they multiply it with activations rounded to bf16.
bool takes_bf16_activations(PackedKind kind);

/// Bytes of one row block of `columns` elements a row: a multiple of kPackAlignment. Precondition: columns is whole blocks of the file
/// type and small enough not to overflow, which the model's loader has checked.
uint64_t packed_block_bytes(PackedKind kind, uint64_t columns);
/// Bytes of `rows` x `columns`, the padding of the last row block included.
uint64_t packed_bytes(PackedKind kind, uint64_t rows, uint64_t columns);

/// Packs `rows` rows, contiguous in the file's layout at `src` (no alignment needed), into ceil(rows / 16) row blocks at `dst`.
/// Any thread; allocates nothing. Cost: reads and writes each byte once.
void pack_rows(DType type, const std::byte* src, uint64_t rows, uint64_t columns, std::byte* dst);

/// dst[k] = element k of row `row` of the packed matrix at `src`, the same bits that dequantize() gives for the file's row.
void unpack_row(PackedKind kind, const std::byte* src, uint64_t row, uint64_t columns, float* dst);
/// The same of elements [first, first + count), to dst[0] and on. Precondition: both are multiples of 32.
void unpack_part(PackedKind kind, const std::byte* src, uint64_t row, uint64_t columns, uint64_t first, uint64_t count, float* dst);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_PACKED_H_
