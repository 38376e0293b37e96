// Transpose: rows that become lines, as vectors that every compiler of ours turns into the processor's own.
#ifndef OUTRIGGER_SRC_TENSOR_TRANSPOSE_H_
#define OUTRIGGER_SRC_TENSOR_TRANSPOSE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace outrigger {

/// Sixteen bytes of a row, as four words or eight half words.
using Quad = uint32_t __attribute__((vector_size(16)));
using Octet = uint16_t __attribute__((vector_size(16)));

template <typename Vector>
Vector load_vector(const void* src) {
  Vector vector;
  std::memcpy(&vector, src, sizeof vector);
  return vector;
}

/// Word i of row r goes to dst + i * line_bytes + r * 4. Element by element this is most of what streaming a file costs.
inline void store_transposed(const Quad (&rows)[4], std::byte* dst, size_t line_bytes) {
  const Quad low01 = __builtin_shufflevector(rows[0], rows[1], 0, 4, 1, 5), high01 = __builtin_shufflevector(rows[0], rows[1], 2, 6, 3, 7);
  const Quad low23 = __builtin_shufflevector(rows[2], rows[3], 0, 4, 1, 5), high23 = __builtin_shufflevector(rows[2], rows[3], 2, 6, 3, 7);
  const Quad lines[4] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5), __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
                         __builtin_shufflevector(high01, high23, 0, 1, 4, 5), __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
  for (size_t i = 0; i < 4; ++i) std::memcpy(dst + i * line_bytes, &lines[i], sizeof(Quad));
}

/// Half word i of row r goes to dst + i * line_bytes + r * 2.
inline void store_transposed(const Octet (&rows)[8], std::byte* dst, size_t line_bytes) {
  // Neighbouring rows become pairs of half words; the pairs of four columns are then words to transpose.
  for (size_t half = 0; half < 2; ++half) {
    Quad pairs[4];
    for (size_t p = 0; p < 4; ++p) {
      const Octet low = __builtin_shufflevector(rows[2 * p], rows[2 * p + 1], 0, 8, 1, 9, 2, 10, 3, 11);
      const Octet high = __builtin_shufflevector(rows[2 * p], rows[2 * p + 1], 4, 12, 5, 13, 6, 14, 7, 15);
      pairs[p] = load_vector<Quad>(half == 0 ? &low : &high);
    }
    store_transposed(pairs, dst + half * 4 * line_bytes, line_bytes);
  }
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_TRANSPOSE_H_
