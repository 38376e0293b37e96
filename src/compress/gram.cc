// Gram: a product of the inputs with themselves, and triangular factors.
#include "src/compress/gram.h"

#include <Eigen/Cholesky>
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <new>

#include "src/kernels/matmul.h"
#include "src/tensor/packed.h"

namespace outrigger {
namespace {

constexpr size_t kMostDampings = 4;
constexpr Eigen::Index kInvertedColumns = 64;  // by one thread at a time

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using MatrixView = Eigen::Map<Matrix>;

// [width, tokens], the tokens completed by zeros to whole row blocks, which add nothing.
LeasedVector<float> transposed(std::span<const float> x, size_t width, size_t tokens, size_t padded) {
  LeasedVector<float> turned(width * padded);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t i = 0; i < width; ++i) turned[i * padded + t] = x[t * width + i];
  }
  return turned;
}

// The inverse of `lower`, turned by half: upper[i, j] = inverse[n - 1 - i, n - 1 - j]. A column of it has nothing above its diagonal, which
// leaves a third of the work of solving for the whole identity.
LeasedVector<float> inverted_upper(const MatrixView& lower, ThreadTeam& team) {
  const Eigen::Index width = lower.rows();
  LeasedVector<float> upper(static_cast<size_t>(width * width));
  const auto strip = static_cast<size_t>(width * kInvertedColumns);
  LeasedVector<double> strips(team.threads() * strip);
  std::atomic<Eigen::Index> next{0};
  std::atomic<bool> is_short_of_memory{false};
  team.run([&](const TeamMember& member) {
    for (Eigen::Index first; (first = next.fetch_add(kInvertedColumns)) < width;) try {
        const Eigen::Index columns = std::min(kInvertedColumns, width - first), rows = width - first;
        MatrixView inverse(strips.data() + member.index() * strip, rows, columns);
        inverse.setIdentity();
        lower.block(first, first, rows, rows).triangularView<Eigen::Lower>().solveInPlace(inverse);
        for (Eigen::Index r = 0; r < rows; ++r) {
          for (Eigen::Index c = 0; c < std::min(columns, r + 1); ++c) {
            upper[static_cast<size_t>((width - 1 - first - r) * width + width - 1 - first - c)] = static_cast<float>(inverse(r, c));
          }
        }
      } catch (const std::bad_alloc&) {
        is_short_of_memory = true;
      }
  });
  if (is_short_of_memory) throw std::bad_alloc();
  return upper;
}

}  // namespace

void Gram::add(std::span<const float> x, ThreadTeam& team) {
  const LeaseScope scope(MemoryUse::kGrams);
  const size_t tokens = x.size() / width_, padded = (tokens + kPackRows - 1) / kPackRows * kPackRows;
  const LeasedVector<float> turned = transposed(x, width_, tokens, padded);
  LeasedVector<float> sums(width_ * width_);
  LeasedVector<std::byte> storage(packed_bytes(PackedKind::kF32, width_, padded) + kPackAlignment);
  void* aligned = storage.data();
  size_t room = storage.size();
  auto* const packed = static_cast<std::byte*>(std::align(kPackAlignment, storage.size() - kPackAlignment, aligned, room));
  team.run([&](const TeamMember& member) {
    size_t begin, end;
    member.share((width_ + kPackRows - 1) / kPackRows, 1, &begin, &end);
    const size_t first = begin * kPackRows, rows = std::min(width_, end * kPackRows) - std::min(width_, first);
    if (rows > 0) {
      pack_rows(DType::kF32, reinterpret_cast<const std::byte*>(turned.data() + first * padded), rows, padded,
                packed + begin * packed_block_bytes(PackedKind::kF32, padded));
    }
    member.barrier();
    matmul({PackedKind::kF32, packed, width_, padded, turned.data(), padded, nullptr, sums.data(), width_, width_, false}, begin, end);
  });
  for (size_t i = 0; i < sums.size(); ++i) sum_[i] += static_cast<double>(sums[i]);
  tokens_ += tokens;
}

void Gram::add_mean(const Gram& other, uint64_t tokens) {
  const double share = static_cast<double>(tokens) / static_cast<double>(other.tokens_);
  for (size_t i = 0; i < sum_.size(); ++i) sum_[i] += share * other.sum_[i];
  tokens_ += tokens;
}

double Gram::mean_diagonal() const {
  double sum = 0;
  for (size_t i = 0; i < width_; ++i) sum += mean(i, i);
  return sum / static_cast<double>(width_);
}

Result<LeasedVector<float>> feedback_factor(const Gram& gram, double damping, ThreadTeam& team) try {
  const LeaseScope scope(MemoryUse::kGrams);
  const auto width = static_cast<Eigen::Index>(gram.width());
  if (gram.tokens() == 0) return Status(StatusCode::kInvalidArgument, "nothing is known of the inputs: no token has passed");
  const double mean = gram.mean_diagonal();
  if (!std::isfinite(mean)) return Status(StatusCode::kInvalidArgument, "the inputs are not all finite");
  for (size_t attempt = 0; attempt < kMostDampings; ++attempt, damping *= 10) {
    // Inputs that are all zero: any error is as good as another.
    const double added = mean > 0 ? damping * mean : 1;
    LeasedVector<double> storage(gram.width() * gram.width());
    MatrixView reversed(storage.data(), width, width);
    for (Eigen::Index i = 0; i < width; ++i) {
      for (Eigen::Index j = 0; j <= i; ++j) {
        reversed(i, j) = gram.mean(static_cast<size_t>(width - 1 - i), static_cast<size_t>(width - 1 - j)) + (i == j ? added : 0);
      }
    }
    // Panels of 128 columns of both sides of a product, which Eigen copies while it decomposes, and each thread while it solves.
    const MemoryClaim panels = claim_of_heap(team.threads() * 2 * 128 * sizeof(double) * gram.width());
    const Eigen::LLT<Eigen::Ref<Matrix>, Eigen::Lower> factor(reversed);
    if (factor.info() != Eigen::Success) continue;
    return inverted_upper(reversed, team);  // the factor stands where the matrix was
  }
  return Status(StatusCode::kInvalidArgument, "the inputs' Gram matrix cannot be inverted");
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
