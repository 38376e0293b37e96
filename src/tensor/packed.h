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

/// A packed layout. Each holds its file type without loss. Within a row block, in order of k:
///
///  kF32, kF16         element (row, k) at [k][row]                                              16 rows x 4 or 2 bytes per k
///  kBF16              element (row, k) at [k / 2][row][k % 2]: a lane of 32 bits holds two successive k; an odd width is completed by
///                     zeros                                                                                     64 bytes per 2 k
///  kQ8_0              per 64 k: 2 x 16 float16 scales, then per 32 k: byte (q*64 + row*4 + k%4) = code + 128, q = k%32/4    1088 bytes
///  kQ4_0              per 64 k: 2 x 16 float16 scales, then per 32 k: byte (q*64 + row*4 + k%4), low nibble q = k%32/4,
///                     high nibble q + 4 (q = 0..3); a code stands for code - 8                                             576 bytes
///  kQ4_1              per 32 k: 16 float16 scales, 16 float16 minima, then codes as in kQ4_0, unsigned                     320 bytes
///
/// Rows of an odd number of 32-groups are padded to a multiple of 64 k in kQ8_0 and kQ4_0, with scales of zero.
enum class PackedKind : uint8_t { kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1 };

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

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_PACKED_H_
