// head_divergence: sums over the vocabulary that grow slice by slice, each token's relative to its greatest logit so far.
#include "src/forward/head_divergence.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "src/base/macros.h"
#include "src/forward/float_matrix.h"
#include "src/forward/packed_matrix.h"
#include "src/tensor/packed.h"

namespace outrigger {
namespace {

constexpr size_t kSliceTokens = 64;  // a weight serves 64 multiplications

struct TokenSums {
  float p_most = -std::numeric_limits<float>::infinity(), q_most = p_most;
  double p_sum = 0, q_sum = 0;
  double difference = 0;  ///< of logits, times p, relative to p_most as p_sum is

  void add(std::span<const float> p, std::span<const float> q) {
    const float p_now = std::max(p_most, *std::max_element(p.begin(), p.end())),
                q_now = std::max(q_most, *std::max_element(q.begin(), q.end()));
    const double p_scale = std::exp(static_cast<double>(p_most) - p_now);
    p_sum *= p_scale;
    difference *= p_scale;
    q_sum *= std::exp(static_cast<double>(q_most) - q_now);
    for (size_t i = 0; i < p.size(); ++i) {
      const double weight = std::exp(p[i] - p_now);
      p_sum += weight;
      difference += weight * (static_cast<double>(p[i]) - static_cast<double>(q[i]));
      q_sum += static_cast<double>(std::exp(q[i] - q_now));
    }
    p_most = p_now;
    q_most = q_now;
  }
  double divergence() const {
    return difference / p_sum - (static_cast<double>(p_most) + std::log(p_sum)) + (static_cast<double>(q_most) + std::log(q_sum));
  }
};

}  // namespace

Result<double> head_divergence(const Model::Impl& model, std::span<const float> p, std::span<const float> q, ThreadTeam& team,
                               uint64_t slice_rows) {
  const ModelLayout& layout = *model.layout;
  const WeightSource& head = layout.weights[layout.head];
  const uint64_t width = layout.config.width;
  const size_t tokens = p.size() / width;
  std::vector<TokenSums> sums(tokens);
  LeasedVector<float> p_logits(kSliceTokens * std::min(slice_rows, head.rows)), q_logits(p_logits.size());
  PackedMatrix slice;
  for (uint64_t first = 0; first < head.rows; first += slice_rows) {
    const uint64_t rows = std::min(slice_rows, head.rows - first);
    OTR_ASSIGN(const LeasedVector<float> values, read_rows(model.file.source(), head, first, rows));
    if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) {
      return Status(StatusCode::kInvalidArgument, "the weights are not all finite")
          .in_file(model.info.file)
          .about(layout.shape.matrices[layout.head].name);
    }
    slice.pack({values.data(), width}, rows, width, &team);
    for (size_t begin = 0; begin < tokens; begin += kSliceTokens) {
      const size_t count = std::min(kSliceTokens, tokens - begin);
      slice.multiply({p.data() + begin * width, width}, count, p_logits.data(), rows, false, &team);
      slice.multiply({q.data() + begin * width, width}, count, q_logits.data(), rows, false, &team);
      team.run([&](const TeamMember& member) {
        size_t from, to;
        member.share(count, 1, &from, &to);
        for (size_t t = from; t < to; ++t) sums[begin + t].add({p_logits.data() + t * rows, rows}, {q_logits.data() + t * rows, rows});
      });
    }
  }
  double sum = 0;
  for (const TokenSums& token : sums) sum += token.divergence();
  return sum / static_cast<double>(tokens);
}

uint64_t head_divergence_bytes(const ModelLayout& layout, uint64_t tokens) {
  const WeightSource& head = layout.weights[layout.head];
  const uint64_t rows = std::min(kHeadSliceRows, head.rows), padded = (rows + kPackRows - 1) / kPackRows * kPackRows;
  const uint64_t file = head.file_bytes(0, padded / kPackRows);
  return tokens * sizeof(TokenSums) + sizeof(float) * (2 * kSliceTokens * rows + rows * head.columns + padded * head.columns) + file;
}

}  // namespace outrigger
