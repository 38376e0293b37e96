// What the kernel tests share: the levels to try, random inputs, and packed matrices with their exact values.
#ifndef OUTRIGGER_TESTS_KERNELS_KERNEL_CASE_H_
#define OUTRIGGER_TESTS_KERNELS_KERNEL_CASE_H_

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "src/kernels/simd.h"
#include "src/tensor/half.h"
#include "src/tensor/own_form.h"
#include "src/tensor/packed.h"

namespace outrigger {

/// Every level this machine can run, the plain one first.
inline std::vector<SimdLevel> levels() {
  std::vector<SimdLevel> all;
  for (SimdLevel level : {SimdLevel::kNone, SimdLevel::kAvx2, SimdLevel::kAvx512}) {
    if (level <= best_simd_level()) all.push_back(level);
  }
  return all;
}

/// Runs at most at a level as long as it lives.
class AtLevel {
 public:
  explicit AtLevel(SimdLevel level) : before_(simd_level()) { limit_simd_level(level); }
  ~AtLevel() { limit_simd_level(before_); }

 private:
  SimdLevel before_;
};

inline std::vector<float> normal_floats(size_t count, unsigned seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

/// Equal to the last bit, zeros' signs included; which NaN it is does not count.
inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  const auto same = [](float x, float y) { return std::memcmp(&x, &y, sizeof x) == 0 || (std::isnan(x) && std::isnan(y)); };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
}

/// Bytes aligned to a cache line.
class AlignedBytes {
 public:
  explicit AlignedBytes(size_t size)
      : size_(size), data_(static_cast<std::byte*>(std::aligned_alloc(64, (size + 127) / 64 * 64)), &std::free) {
    std::memset(data_.get(), 0x7b, size);  // not zero: what a kernel forgets to write shows
  }
  std::byte* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  size_t size_;
  std::unique_ptr<std::byte, decltype(&std::free)> data_;
};

inline constexpr PackedKind kAllKinds[] = {PackedKind::kF32,  PackedKind::kF16,    PackedKind::kBF16,   PackedKind::kQ8_0,
                                           PackedKind::kQ4_0, PackedKind::kQ4_1,   PackedKind::kQ5_0,   PackedKind::kQ5_1,
                                           PackedKind::kQ2_K, PackedKind::kQ3_K,   PackedKind::kQ4_K,   PackedKind::kQ5_K,
                                           PackedKind::kQ6_K, PackedKind::kIQ4_NL, PackedKind::kIQ4_XS, PackedKind::kMXFP4,
                                           PackedKind::kO2,   PackedKind::kO3,     PackedKind::kO4,
                                           PackedKind::kN2,   PackedKind::kN3,     PackedKind::kN4,
                                           PackedKind::kO2_128, PackedKind::kO3_128, PackedKind::kO4_128,
                                           PackedKind::kN2_128, PackedKind::kN3_128, PackedKind::kN4_128};

inline DType file_type(PackedKind kind) {
  for (const DTypeTraits& type : all_dtypes()) {
    if (packed_kind(type.type) == kind) return type.type;
  }
  std::abort();
}

/// At least `columns`, in whole blocks of the kind's file type.
inline size_t whole_columns(PackedKind kind, size_t columns) {
  const size_t block = traits(file_type(kind)).block_elements;
  return (columns + block - 1) / block * block;
}

/// Where a block of the file has its float16 scale, and behind it the minimum; nothing for MXFP4, whose scale is an exponent.
inline std::vector<size_t> float16_places(PackedKind kind) {
  if (is_own_type(file_type(kind))) return {0, 2};
  switch (kind) {
    case PackedKind::kMXFP4:
      return {};
    case PackedKind::kQ2_K:
      return {80, 82};
    case PackedKind::kQ3_K:
      return {108};
    case PackedKind::kQ6_K:
      return {208};
    case PackedKind::kQ4_1:
    case PackedKind::kQ5_1:
    case PackedKind::kQ4_K:
    case PackedKind::kQ5_K:
      return {0, 2};
    default:
      return {0};
  }
}

/// Random rows in the file's layout: every code occurs, float16 scales are around 0.01.
inline std::vector<std::byte> random_file_rows(PackedKind kind, size_t rows, size_t columns, unsigned seed) {
  std::mt19937 random(seed);
  const DType type = file_type(kind);
  std::vector<std::byte> bytes(rows * *row_bytes(type, columns));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  std::normal_distribution<float> normal(0, 0.01f);
  const size_t block = traits(type).block_bytes;
  for (size_t at = 0; at < bytes.size(); at += block) {
    const float value = normal(random);
    if (kind == PackedKind::kF32) {
      std::memcpy(&bytes[at], &value, 4);
    } else if (kind == PackedKind::kBF16) {
      std::memcpy(&bytes[at], reinterpret_cast<const std::byte*>(&value) + 2, 2);
    } else if (kind == PackedKind::kMXFP4) {
      bytes[at] = static_cast<std::byte>(118 + random() % 6);
    }
    if (kind == PackedKind::kF32 || kind == PackedKind::kBF16) continue;
    for (size_t place : float16_places(kind)) {
      const uint16_t half = float_to_f16(normal(random));
      std::memcpy(&bytes[at + place], &half, 2);
    }
  }
  return bytes;
}

/// A packed matrix of random values.
struct PackedMatrix {
  PackedKind kind;
  size_t rows, columns;
  AlignedBytes bytes;

  PackedMatrix(PackedKind kind, size_t rows, size_t columns, unsigned seed = 1)
      : PackedMatrix(kind, rows, columns, random_file_rows(kind, rows, columns, seed)) {}
  PackedMatrix(PackedKind kind, size_t rows, size_t columns, const std::vector<std::byte>& file)
      : kind(kind), rows(rows), columns(columns), bytes(packed_bytes(kind, rows, columns)) {
    pack_rows(file_type(kind), file.data(), rows, columns, bytes.data());
  }

  std::vector<float> row(size_t r) const {
    std::vector<float> values(columns);
    unpack_row(kind, bytes.data(), r, columns, values.data());
    return values;
  }
};

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_KERNELS_KERNEL_CASE_H_
