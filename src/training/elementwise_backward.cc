// Gradients of norms and activations: a row, or an element, at a time.
#include "src/training/elementwise_backward.h"

#include <cmath>

#include "src/memory/leased_vector.h"

namespace outrigger {
namespace {

double norm_scale(const RmsNormBackwardArgs& args, const float* x) {
  double squares = 0;
  for (size_t i = 0; i < args.width; ++i) squares += static_cast<double>(x[i]) * x[i];
  return 1 / std::sqrt(squares / static_cast<double>(args.width) + args.epsilon);
}

void norm_row_backward(const RmsNormBackwardArgs& args, const float* x, const float* y_gradient, float* x_gradient) {
  double along = 0;
  for (size_t i = 0; i < args.width; ++i) along += static_cast<double>(args.weight[i]) * y_gradient[i] * x[i];
  const double n = static_cast<double>(args.width), scale = norm_scale(args, x);
  const auto direct = static_cast<float>(scale), back = static_cast<float>(scale * scale * scale / n * along);
  for (size_t i = 0; i < args.width; ++i) {
    const float gradient = direct * args.weight[i] * y_gradient[i] - back * x[i];
    x_gradient[i] = args.adds ? x_gradient[i] + gradient : gradient;
  }
}

}  // namespace

void rms_norm_backward(const RmsNormBackwardArgs& args, ThreadTeam& team) {
  team.run([&](const TeamMember& member) {
    size_t begin, end;
    member.share(args.groups, 1, &begin, &end);
    for (size_t group = begin; group < end; ++group) {
      for (size_t row = 0; row < args.row_groups; ++row) {
        const size_t at = group * args.stride + row * args.width;
        norm_row_backward(args, args.x + at, args.y_gradient + at, args.x_gradient + at);
      }
    }
  });
}

// Threads take columns, so that each sum is over the rows in their order.
void rms_norm_weight_backward(const RmsNormBackwardArgs& args, float* weight_gradient, ThreadTeam& team) {
  const size_t rows = args.groups * args.row_groups;
  LeasedVector<double> scales(rows), sums(args.width);
  const auto at = [&args](size_t row) { return row / args.row_groups * args.stride + row % args.row_groups * args.width; };
  team.run([&](const TeamMember& member) {
    size_t begin, end;
    member.share(rows, 1, &begin, &end);
    for (size_t row = begin; row < end; ++row) scales[row] = norm_scale(args, args.x + at(row));
    member.barrier();
    member.share(args.width, 16, &begin, &end);
    for (size_t row = 0; row < rows; ++row) {
      const float *const x = args.x + at(row), *const y_gradient = args.y_gradient + at(row);
      for (size_t i = begin; i < end; ++i) sums[i] += scales[row] * x[i] * y_gradient[i];
    }
    for (size_t i = begin; i < end; ++i) weight_gradient[i] = static_cast<float>(sums[i]);
  });
}

void silu_mul_backward(const SiluMulBackwardArgs& args, ThreadTeam& team) {
  team.run([&](const TeamMember& member) {
    size_t begin, end;
    member.share(args.count, 16, &begin, &end);
    for (size_t i = begin; i < end; ++i) {
      const float gate = args.gate[i], gradient = args.y_gradient[i], sigmoid = 1 / (1 + std::exp(-gate));
      args.up_gradient[i] = gradient * gate * sigmoid;
      args.y_gradient[i] = gradient * args.up[i] * sigmoid * (1 + gate * (1 - sigmoid));
    }
  });
}

}  // namespace outrigger
