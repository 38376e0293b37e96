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

// `upper` is set to the inverse of `lower`, turned by half: upper[i, j] = inverse[n - 1 - i, n - 1 - j]. A column of it has nothing above
// its diagonal, which leaves a third of the work of solving for the whole identity.
void invert_upper(const MatrixView& lower, float* upper, ThreadTeam& team) {
  const Eigen::Index width = lower.rows();
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
            upper[(width - 1 - first - r) * width + width - 1 - first - c] = static_cast<float>(inverse(r, c));
          }
        }
      } catch (const std::bad_alloc&) {
        is_short_of_memory = true;
      }
  });
  if (is_short_of_memory) throw std::bad_alloc();
}

// False where a block with `added` on its diagonal, and `kept` of everything else, is not positive definite.
bool factorise(const Gram& gram, double added, double kept, ThreadTeam& team, LeasedVector<float>* upper) {
  const ColumnGroups& groups = gram.groups();
  LeasedVector<double> storage(groups.largest() * groups.largest());
  // Panels of 128 columns of both sides of a product, which Eigen copies while it decomposes, and each thread while it solves.
  const MemoryClaim panels = claim_of_heap(team.threads() * 2 * 128 * sizeof(double) * groups.largest());
  for (size_t group = 0; group < groups.count(); ++group) {
    const size_t end = groups.first(group) + groups.size(group);
    const auto width = static_cast<Eigen::Index>(groups.size(group));
    MatrixView reversed(storage.data(), width, width);
    for (Eigen::Index i = 0; i < width; ++i) {
      for (Eigen::Index j = 0; j <= i; ++j) {
        const double mean = gram.mean(end - 1 - static_cast<size_t>(i), end - 1 - static_cast<size_t>(j));
        reversed(i, j) = i == j ? mean + added : mean * kept;
      }
    }
    const Eigen::LLT<Eigen::Ref<Matrix>, Eigen::Lower> factor(reversed);
    if (factor.info() != Eigen::Success) return false;
    if (group == 0) *upper = LeasedVector<float>(groups.elements());
    invert_upper(reversed, upper->data() + groups.place(group), team);  // the factor stands where the matrix was
  }
  return true;
}

}  // namespace

void Gram::add(std::span<const float> x, ThreadTeam& team) {
  const LeaseScope scope(MemoryUse::kGrams);
  const size_t tokens = x.size() / width_, padded = (tokens + kPackRows - 1) / kPackRows * kPackRows;
  const LeasedVector<float> turned = transposed(x, width_, tokens, padded);
  LeasedVector<float> sums(groups_.largest() * groups_.largest());
  LeasedVector<std::byte> storage(packed_bytes(PackedKind::kF32, groups_.largest(), padded) + kPackAlignment);
  void* aligned = storage.data();
  size_t room = storage.size();
  auto* const packed = static_cast<std::byte*>(std::align(kPackAlignment, storage.size() - kPackAlignment, aligned, room));
  for (size_t group = 0; group < groups_.count(); ++group) {
    const size_t size = groups_.size(group);
    const float* const columns = turned.data() + groups_.first(group) * padded;
    team.run([&](const TeamMember& member) {
      size_t begin, end;
      member.share((size + kPackRows - 1) / kPackRows, 1, &begin, &end);
      const size_t first = begin * kPackRows, rows = std::min(size, end * kPackRows) - std::min(size, first);
      if (rows > 0) {
        pack_rows(DType::kF32, reinterpret_cast<const std::byte*>(columns + first * padded), rows, padded,
                  packed + begin * packed_block_bytes(PackedKind::kF32, padded));
      }
      member.barrier();
      matmul({PackedKind::kF32, packed, size, padded, columns, padded, nullptr, sums.data(), size, size, false}, begin, end);
    });
    double* const block = sum_.data() + groups_.place(group);
    for (size_t i = 0; i < size * size; ++i) block[i] += static_cast<double>(sums[i]);
  }
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

Result<LeasedVector<float>> feedback_factor(const Gram& gram, const FeedbackDamping& damping, ThreadTeam& team) try {
  const LeaseScope scope(MemoryUse::kGrams);
  if (gram.tokens() == 0) return Status(StatusCode::kInvalidArgument, "nothing is known of the inputs: no token has passed");
  const double mean = gram.mean_diagonal();
  if (!std::isfinite(mean)) return Status(StatusCode::kInvalidArgument, "the inputs are not all finite");
  double share = damping.diagonal;
  for (size_t attempt = 0; attempt < kMostDampings; ++attempt, share *= 10) {
    LeasedVector<float> upper;
    // Inputs that are all zero: any error is as good as another.
    if (factorise(gram, mean > 0 ? share * mean : 1, 1 - damping.between, team, &upper)) return upper;
  }
  return Status(StatusCode::kInvalidArgument, "the inputs' Gram matrix cannot be inverted");
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
