// Sparse residuals: the transpose in four bits, and a histogram over the leading bits of floats.
#include "src/compress/residual.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <new>

#include "src/base/macros.h"
#include "src/compress/factor_codes.h"
#include "src/kernels/sparse_residual.h"
#include "src/tensor/dequantize.h"

namespace outrigger {
namespace {

// A counter for the 8 bits of the exponent and 7 of the mantissa.
constexpr int kDroppedBits = 16;
constexpr size_t kCounters = size_t{1} << (31 - kDroppedBits);
// Codes go down to -8, and 65504 is the largest float16.
constexpr float kMostMagnitude = 8 * 65504.0f;

// Columns in strips whose rows' lines stay in the first-level cache, 16 floats to a line.
LeasedVector<float> transposed(std::span<const float> matrix, size_t rows, size_t columns) {
  constexpr size_t kStrip = 16;
  LeasedVector<float> turned(matrix.size());
  for (size_t first = 0; first < columns; first += kStrip) {
    for (size_t r = 0; r < rows; ++r) {
      for (size_t i = first; i < std::min(columns, first + kStrip); ++i) turned[i * rows + r] = matrix[r * columns + i];
    }
  }
  return turned;
}

float lower_edge(size_t counter) { return std::bit_cast<float>(static_cast<uint32_t>(counter) << kDroppedBits); }

}  // namespace

Status InputMeans::add(std::span<const float> x) {
  if (sums_.empty() || x.size() % sums_.size() != 0) return Status(StatusCode::kInvalidArgument, "inputs are whole tokens");
  if (!std::all_of(x.begin(), x.end(), [](float value) { return std::isfinite(value); })) {
    return Status(StatusCode::kInvalidArgument, "the inputs are not all finite");
  }
  for (size_t t = 0; t < x.size(); t += sums_.size()) {
    for (size_t i = 0; i < sums_.size(); ++i) sums_[i] += static_cast<double>(x[t + i]);
  }
  tokens_ += x.size() / sums_.size();
  return {};
}

LeasedVector<float> InputMeans::means() const {
  LeasedVector<float> means(sums_.size());
  for (size_t i = 0; i < means.size() && tokens_ > 0; ++i) means[i] = static_cast<float>(sums_[i] / static_cast<double>(tokens_));
  return means;
}

Result<SparseResidual> encode_residual(std::span<const float> residual, uint64_t rows, uint64_t columns, std::span<const float> means) try {
  if (rows == 0 || columns == 0 || rows % kResidualGroup != 0 || residual.size() / rows != columns || residual.size() % rows != 0) {
    return Status(StatusCode::kInvalidArgument, "a residual has whole blocks of 32 rows, and as many values as rows times columns");
  }
  for (const float value : residual) {
    if (std::abs(value) <= kMostMagnitude) continue;
    return Status(StatusCode::kInvalidArgument, "the residual has values that are not finite, or too large for its scales");
  }
  const bool are_finite = std::all_of(means.begin(), means.end(), [](float mean) { return std::isfinite(mean); });
  if ((!means.empty() && means.size() != columns) || !are_finite) {
    return Status(StatusCode::kInvalidArgument, "the inputs' means are one for each column, and finite");
  }
  SparseResidual made;
  made.rows = rows;
  made.columns = columns;
  LeasedVector<float> turned = transposed(residual, rows, columns);
  made.bytes = encode_factors(turned, rows, 4, {});
  OTR_TRY(dequantize(made.type, made.bytes.data(), turned.data(), turned.size()));
  made.norms.resize(columns);
  for (size_t i = 0; i < columns; ++i) {
    double squares = 0;
    for (size_t r = 0; r < rows; ++r) squares += double{turned[i * rows + r]} * turned[i * rows + r];
    made.norms[i] = static_cast<float>(std::sqrt(squares));
  }
  made.bias.resize(means.empty() ? 0 : rows);
  for (size_t r = 0; r < made.bias.size(); ++r) {
    double sum = 0;
    for (size_t i = 0; i < columns; ++i) sum += double{residual[r * columns + i]} * means[i];
    made.bias[r] = static_cast<float>(sum);
  }
  return made;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

ThresholdCounter::ThresholdCounter(std::span<const float> norms) : norms_(norms.begin(), norms.end()), counts_(kCounters) {}

Status ThresholdCounter::add(std::span<const float> x) {
  const size_t columns = norms_.size();
  if (columns == 0 || x.size() % columns != 0) return Status(StatusCode::kInvalidArgument, "inputs are whole tokens");
  for (size_t t = 0; t < x.size(); t += columns) {
    for (size_t i = 0; i < columns; ++i) {
      if (std::isfinite(x[t + i] * norms_[i])) continue;
      return Status(StatusCode::kInvalidArgument, "the inputs are not all finite, or their products with the norms are not");
    }
  }
  for (size_t t = 0; t < x.size(); t += columns) {
    for (size_t i = 0; i < columns; ++i) ++counts_[std::bit_cast<uint32_t>(std::abs(x[t + i]) * norms_[i]) >> kDroppedBits];
  }
  total_ += x.size();
  return {};
}

Result<ThresholdTable> ThresholdCounter::finish() const {
  if (total_ == 0) return Status(StatusCode::kInvalidArgument, "nothing is known of the inputs: no token has passed");
  ThresholdTable table;
  table.at.front() = std::numeric_limits<float>::infinity();
  table.at.back() = -1;
  size_t step = 1;
  double above = 0;  // worths in the counters that were passed, from the largest down
  for (size_t counter = kCounters; counter-- > 0 && step < ThresholdTable::kSteps;) {
    const auto here = static_cast<double>(counts_[counter]);
    const double high = lower_edge(counter + 1), low = lower_edge(counter);
    for (; step < ThresholdTable::kSteps; ++step) {
      const double wanted = static_cast<double>(total_) * static_cast<double>(step) / ThresholdTable::kSteps - above;
      if (wanted > here) break;
      table.at[step] = static_cast<float>(high + (low - high) * (wanted / here));
    }
    above += here;
  }
  return table;
}

}  // namespace outrigger
