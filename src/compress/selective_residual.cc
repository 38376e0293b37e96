// SelectiveResidual: thresholds by what the sampled inputs are worth.
#include "src/compress/selective_residual.h"

#include <algorithm>
#include <functional>
#include <new>

#include "src/base/macros.h"
#include "src/kernels/sparse_residual.h"

namespace outrigger {
namespace {

constexpr size_t kCurveRows = 256;

}  // namespace

InputSample::InputSample(size_t width, size_t rows, size_t kept_of)
    : width_(width), kept_of_(kept_of), means_(width), rows_(MemoryUse::kCalibration), weights_(MemoryUse::kCalibration) {
  rows_.reserve(rows * width);
}

size_t InputSample::kept_rows(size_t tokens, size_t piece, size_t kept_of) {
  const auto kept = [kept_of](size_t count) { return (count + kept_of - 1) / kept_of; };
  return tokens / piece * kept(piece) + kept(tokens % piece);
}

Status InputSample::add(std::span<const float> x, std::span<const float> weights) {
  OTR_TRY(means_.add(x));
  for (size_t row = 0; row * width_ < x.size(); row += kept_of_) {
    const auto values = x.subspan(row * width_, width_);
    rows_.insert(rows_.end(), values.begin(), values.end());
    if (!weights.empty()) weights_.push_back(weights[row]);
  }
  return {};
}

LeasedVector<float> InputSample::rows(size_t most) const {
  const size_t used = std::min(there(), most);
  LeasedVector<float> some;
  some.reserve(used * width_);
  for (size_t i = 0; i < used; ++i) {
    const auto row = rows_.begin() + static_cast<ptrdiff_t>(i * there() / used * width_);
    some.insert(some.end(), row, row + static_cast<ptrdiff_t>(width_));
  }
  return some;
}

LeasedVector<float> InputSample::weights(size_t most) const {
  const size_t used = weights_.empty() ? 0 : std::min(there(), most);
  LeasedVector<float> some(used);
  for (size_t i = 0; i < used; ++i) some[i] = weights_[i * there() / used];
  return some;
}

LeasedVector<float> InputSample::weighed_rows() const {
  const LeasedVector<float> mean = means();
  LeasedVector<float> weighed = rows_;
  for (size_t i = 0; i < weighed.size(); ++i) weighed[i] = (weighed[i] - mean[i % width_]) * (weights_.empty() ? 1 : weights_[i / width_]);
  return weighed;
}

void SelectiveResidual::add_to(std::span<const float> src, size_t tokens, float* dst, size_t dst_stride, ThreadTeam& team,
                               std::span<const float> weights) const {
  const size_t width = columns.columns;
  const float ungated = thresholds.front().threshold(1);
  LeasedVector<float> centred(team.threads() * width);
  std::vector<uint32_t> chosen(team.threads() * width);
  team.run([&](const TeamMember& member) {
    size_t begin, end;
    member.share(tokens, 1, &begin, &end);
    float* const input = centred.data() + member.index() * width;
    uint32_t* const list = chosen.data() + member.index() * width;
    for (size_t t = begin; t < end; ++t) {
      for (size_t k = 0; k < width; ++k) input[k] = src[t * width + k] - means[k];
      const float threshold = weights.empty() ? ungated : gated_threshold(ungated, weights[t]);
      const size_t count = choose_columns(input, columns.norms.data(), width, threshold, list);
      float* const row = dst + t * dst_stride;
      sparse_residual(
          {columns.type, columns.bytes.data(), columns.rows, input, width, list, width, &count, row, dst_stride, 1, columns.bias.data()}, 0,
          columns.rows);
    }
  });
}

ShareCurve share_curve(std::span<const float> residual, uint64_t rows, uint64_t columns, const InputSample& inputs) {
  LeasedVector<float> squares(columns);
  for (uint64_t i = 0; i < rows * columns; ++i) squares[i % columns] += residual[i] * residual[i];
  const LeasedVector<float> x = inputs.weighed_rows();
  const size_t there = x.size() / columns, used = std::min(there, kCurveRows);
  LeasedVector<float> worths;
  worths.reserve(used * columns);
  for (size_t i = 0; i < used; ++i) {
    const float* const row = x.data() + i * there / used * columns;
    for (uint64_t k = 0; k < columns; ++k) worths.push_back(row[k] * row[k] * squares[k]);
  }
  std::sort(worths.begin(), worths.end(), std::greater<>());
  double all = 0, so_far = 0;
  for (const float worth : worths) all += worth;
  ShareCurve curve;
  size_t next = 0;
  for (size_t step = 1; step <= ShareCurve::kSteps; ++step) {
    for (; next < worths.size() * step / ShareCurve::kSteps; ++next) so_far += worths[next];
    curve.restored[step] = all > 0 ? so_far / all : 0;
  }
  return curve;
}

Result<SelectiveResidual> selective_residual(std::span<const float> residual, uint64_t rows, uint64_t columns, const InputSample& inputs,
                                             double share) try {
  SelectiveResidual made;
  made.share = share;
  made.means = inputs.means();
  OTR_ASSIGN(made.columns, encode_residual(residual, rows, columns, made.means));
  ThresholdCounter counter(made.columns.norms);
  OTR_TRY(counter.add(inputs.weighed_rows()));
  OTR_ASSIGN(const ThresholdTable table, counter.finish());
  ThresholdTable& planned = made.thresholds.emplace_back();
  for (size_t step = 0; step <= ThresholdTable::kSteps; ++step) {
    planned.at[step] = table.threshold(share * static_cast<double>(step) / ThresholdTable::kSteps);
  }
  return made;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
