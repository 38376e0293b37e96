// LowRank: the leading left singular vectors of the residual times a square root of the inputs' Gram matrix.
#include "src/compress/low_rank.h"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/compress/dense_algebra.h"
#include "src/compress/factor_codes.h"
#include "src/tensor/dequantize.h"

namespace outrigger {
namespace {

// Each factor is fitted to the other as that was rounded, until it no longer helps.
constexpr int kFits = 4;

// What the codes say.
Floats decoded(DType type, const LeasedVector<std::byte>& bytes, size_t rows, size_t columns) {
  Floats values(rows, columns);
  (void)dequantize(type, bytes.data(), values.values.data(), values.values.size());  // a type that encode_factors made
  return values;
}

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

}  // namespace

Status LowRankOptions::validate(uint64_t rows, uint64_t columns) const {
  const auto invalid = [](std::string message) { return Status(StatusCode::kInvalidArgument, std::move(message)); };
  if (rank % 32 != 0 || rank > std::min(rows, columns)) {
    return invalid(formatted("the rank is {}, need a multiple of 32 up to {}", rank, std::min(rows, columns) / 32 * 32));
  }
  if (factor_bits != 4 && factor_bits != 8) return invalid(formatted("factor_bits is {}, need 4 or 8", factor_bits));
  if (columns % 32 != 0) return invalid(formatted("rows of {} weights, need a multiple of 32", columns));
  return {};
}

Result<InputRoot> InputRoot::create(const Gram& gram, double damping) try {
  const LeaseScope scope(MemoryUse::kGrams);
  if (gram.tokens() == 0) return Status(StatusCode::kInvalidArgument, "nothing is known of the inputs: no token has passed");
  const double mean = gram.mean_diagonal();
  if (!std::isfinite(mean)) return Status(StatusCode::kInvalidArgument, "the inputs have values that are no numbers");
  LeasedVector<float> importance(gram.width());
  for (size_t i = 0; i < gram.width(); ++i) importance[i] = static_cast<float>(gram.mean(i, i));
  const ColumnGroups& groups = gram.groups();
  const double added = mean > 0 ? damping * mean : 1;
  InputRoot root(std::move(importance), groups);
  for (size_t group = 0; group < groups.count(); ++group) {
    const size_t first = groups.first(group), size = groups.size(group);
    const MemoryClaim panels = claim_of_heap(panel_bytes(size));
    Doubles storage(size, size);
    MatrixView matrix = storage.view();
    for (size_t i = 0; i < size; ++i) {
      for (size_t j = 0; j < size; ++j) {
        matrix(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) = gram.mean(first + i, first + j) + (i == j ? added : 0);
      }
    }
    const Eigen::LLT<MatrixRef> factor(matrix);
    if (factor.info() != Eigen::Success) return Status(StatusCode::kInvalidArgument, "the inputs' Gram matrix cannot be factorised");
    matrix.triangularView<Eigen::StrictlyUpper>().setZero();
    const Floats transposed(matrix.transpose());
    root.transposed_.emplace_back(transposed.values, size, size);
  }
  return root;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

LeasedVector<float> InputRoot::weigh(std::span<const float> values, ThreadTeam& team) const {
  LeasedVector<float> weighed(values.size());
  for (size_t group = 0; group < groups_.count(); ++group) {
    const size_t first = groups_.first(group);
    transposed_[group].multiply({values.data() + first, width()}, values.size() / width(), weighed.data() + first, width(), false, &team);
  }
  return weighed;
}

LeasedVector<float> branch_values(const LowRankBranch& branch, ThreadTeam& team) {
  const Floats a = decoded(branch.type, branch.a, branch.rank, branch.columns),
               b = decoded(branch.type, branch.b, branch.rows, branch.rank);
  return times_transposed(b, a.transposed(), team).values;
}

Status set_factors(std::span<const float> a, std::span<const float> b, LowRankBranch* branch) try {
  if (!all_finite(a) || !all_finite(b)) return Status(StatusCode::kInvalidArgument, "the factors have values that are no numbers");
  const int bits = branch->type == DType::kQ4_0 ? 4 : 8;
  branch->a = encode_factors(a, branch->columns, bits, branch->importance);
  branch->b = encode_factors(b, branch->rank, bits, {});
  return {};
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Result<LossSpectrum> loss_spectrum(std::span<const float> residual, uint64_t rows, uint64_t columns, const InputRoot& inputs, uint32_t rank,
                                   ThreadTeam& team) try {
  OTR_TRY(LowRankOptions({rank, 8, true}).validate(rows, columns));
  if (!all_finite(residual)) return Status(StatusCode::kInvalidArgument, "the residual has values that are no numbers");
  const Floats outputs(rows, columns, inputs.weigh(residual, team));
  return LossSpectrum{rank == 0 ? std::vector<double>() : leading_left_vectors(outputs, rank, team).values, outputs.square()};
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Result<LowRankBranch> low_rank_branch(std::span<const float> residual, uint64_t rows, uint64_t columns, const InputRoot& inputs,
                                      const LowRankOptions& options, ThreadTeam& team) try {
  OTR_TRY(options.validate(rows, columns));
  if (!all_finite(residual)) return Status(StatusCode::kInvalidArgument, "the residual has values that are no numbers");
  const Floats lost(rows, columns, LeasedVector<float>(residual.begin(), residual.end()));
  const Floats outputs(rows, columns, inputs.weigh(residual, team));
  LowRankBranch branch{rows,
                       columns,
                       options.rank,
                       factor_type(options.factor_bits),
                       {},
                       {},
                       {inputs.importance().begin(), inputs.importance().end()},
                       {},
                       outputs.square(),
                       0};
  branch.remaining_loss = branch.residual_loss;
  if (options.rank == 0) return branch;
  LeadingVectors leading = leading_left_vectors(options.weighs_inputs ? outputs : lost, options.rank, team);
  if (!options.weighs_inputs) leading.values.clear();
  for (const double value : leading.values) branch.worth.push_back(value);

  const PackedMatrix lost_across(lost.transposed().values, columns, rows), packed_outputs(outputs.values, rows, columns);
  double least = std::numeric_limits<double>::infinity();
  Floats wanted_b = leading.vectors.transposed();
  for (int round = 0; round < (options.weighs_inputs ? kFits : 1); ++round) {
    LeasedVector<std::byte> b_bytes = encode_factors(wanted_b.values, options.rank, options.factor_bits, {});
    const Floats b = decoded(branch.type, b_bytes, rows, options.rank), b_across = b.transposed();
    // The least squares of A given B do not depend on the inputs.
    const Floats wanted_a = solved(times_transposed(b_across, b_across, team), times(b_across, lost_across, columns, team));
    LeasedVector<std::byte> a_bytes = encode_factors(wanted_a.values, columns, options.factor_bits, inputs.importance());
    const Floats a = decoded(branch.type, a_bytes, options.rank, columns);
    const Floats hidden(options.rank, columns, inputs.weigh(a.values, team));
    Floats left = times_transposed(b, hidden.transposed(), team);
    for (size_t i = 0; i < left.values.size(); ++i) left.values[i] -= outputs.values[i];
    const double loss = left.square();
    if (!(loss < least)) break;
    least = loss;
    branch.a = std::move(a_bytes);
    branch.b = std::move(b_bytes);
    branch.remaining_loss = loss;
    wanted_b = solved(times_transposed(hidden, hidden, team), times(hidden, packed_outputs, rows, team)).transposed();
  }
  return branch;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
