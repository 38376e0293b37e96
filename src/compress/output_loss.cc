// What is lost: products of the same inputs, compared.
#include "src/compress/output_loss.h"

#include <cmath>

#include "src/forward/packed_matrix.h"
#include "src/tensor/dequantize.h"

namespace outrigger {
namespace {

constexpr size_t kMeasuredRows =
    128;  // inputs that tell what a matrix lost: the mean over all its outputs is known to some percent by then, at a hundredth of the time

}  // namespace

void measure_loss(std::span<const float> wanted, std::span<const float> replaced, const InputSample& sample, ThreadTeam& team,
                  CompressedMatrix* made) {
  const uint64_t rows = made->backbone.rows, columns = made->backbone.columns;
  const LeasedVector<float> x = sample.rows(kMeasuredRows);
  const size_t tokens = x.size() / columns;
  const auto products = [&](std::span<const float> values) {
    LeasedVector<float> outputs(tokens * rows);
    PackedMatrix(values, rows, columns).multiply(x, tokens, outputs.data(), rows, false, team);
    return outputs;
  };
  const LeasedVector<float> exact = products(wanted);
  const auto distance = [&exact](const LeasedVector<float>& outputs) {
    double lost = 0, all = 0;
    for (size_t i = 0; i < exact.size(); ++i)
      lost += std::pow(static_cast<double>(outputs[i]) - exact[i], 2), all += std::pow(static_cast<double>(exact[i]), 2);
    return all > 0 ? lost / all : 0;
  };
  LeasedVector<float> outputs = products(replaced);
  made->loss = made->loss_left = distance(outputs);
  if (made->branch.rank > 0) {
    LeasedVector<float> coded(rows * columns);
    (void)dequantize(made->backbone.type, made->backbone.bytes.data(), coded.data(), coded.size());  // it has just been encoded
    made->loss = distance(products(coded));
  }
  if (made->residual.share > 0) {
    made->residual.add_to(x, tokens, outputs.data(), rows, team, sample.weights(kMeasuredRows));
    made->loss_left = distance(outputs);
  }
}

}  // namespace outrigger
