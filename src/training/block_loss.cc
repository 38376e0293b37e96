// block_loss: a token at a time.
#include "src/training/block_loss.h"

#include <vector>

namespace outrigger {
namespace {

// A vector of zeros is as far from one as it is long.
constexpr double kLeastSquare = 1e-12;

}  // namespace

double block_loss(std::span<const float> wanted, std::span<const float> got, size_t width, float* gradient, ThreadTeam& team) {
  const size_t tokens = wanted.size() / width;
  std::vector<double> losses(tokens);
  team.run([&](const TeamMember& member) {
    size_t begin, end;
    member.share(tokens, 1, &begin, &end);
    for (size_t t = begin; t < end; ++t) {
      const float *const want = wanted.data() + t * width, *const have = got.data() + t * width;
      double lost = 0, all = kLeastSquare;
      for (size_t i = 0; i < width; ++i) {
        const double difference = static_cast<double>(have[i]) - static_cast<double>(want[i]);
        lost += difference * difference;
        all += static_cast<double>(want[i]) * want[i];
      }
      losses[t] = lost / all;
      if (gradient == nullptr) continue;
      const auto scale = static_cast<float>(2 / (all * static_cast<double>(tokens)));
      for (size_t i = 0; i < width; ++i) gradient[t * width + i] = scale * (have[i] - want[i]);
    }
  });
  double sum = 0;
  for (const double loss : losses) sum += loss;
  return sum / static_cast<double>(tokens);
}

}  // namespace outrigger
