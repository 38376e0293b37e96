// Routing and combining: against the definitions, computed another way.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "src/kernels/combine_experts.h"
#include "src/kernels/route.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

struct Routed {
  std::vector<uint32_t> chosen;
  std::vector<float> weights;
};

Routed route_one(const std::vector<float>& logits, size_t used, bool normalise) {
  Routed routed{std::vector<uint32_t>(used), std::vector<float>(used)};
  route({logits.data(), logits.size(), used, normalise, routed.chosen.data(), routed.weights.data()}, 0, 1);
  return routed;
}

TEST_CASE("route: the largest logits in order, with their shares of the softmax") {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 3);
  for (int round = 0; round < 300; ++round) {
    const size_t experts = 1 + random() % 140, used = 1 + random() % std::min<size_t>(experts, 10);
    std::vector<float> logits(experts);
    for (float& logit : logits) logit = round % 4 == 0 ? std::round(normal(random)) : normal(random);  // some with equals
    std::vector<uint32_t> order(experts);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return logits[a] > logits[b]; });
    for (const bool normalise : {true, false}) {
      CAPTURE(round, experts, used, normalise);
      const Routed routed = route_one(logits, used, normalise);
      REQUIRE(std::equal(routed.chosen.begin(), routed.chosen.end(), order.begin()));
      double sum = 0;
      for (size_t i = 0; i < (normalise ? used : experts); ++i) sum += std::exp(static_cast<double>(logits[order[i]]));
      for (size_t i = 0; i < used; ++i) {
        REQUIRE(routed.weights[i] == Approx(std::exp(static_cast<double>(logits[order[i]])) / sum).epsilon(1e-6));
      }
      if (normalise) REQUIRE(std::accumulate(routed.weights.begin(), routed.weights.end(), 0.0) == Approx(1).epsilon(1e-6));
    }
  }
}

TEST_CASE("route: huge logits do not overflow, and what is no number is chosen last") {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  const Routed huge = route_one({1e30f, 3e38f, -3e38f}, 2, true);
  REQUIRE(huge.chosen == std::vector<uint32_t>{1, 0});
  REQUIRE(huge.weights == std::vector<float>{1, 0});
  const Routed odd = route_one({nan, 1, nan, 2}, 3, true);
  REQUIRE(odd.chosen == std::vector<uint32_t>{3, 1, 0});
  REQUIRE(odd.weights[2] == 0);
  for (const Routed& none : {route_one({nan, nan}, 2, true), route_one({-infinity, -infinity}, 2, false)}) {
    REQUIRE(none.chosen == std::vector<uint32_t>{0, 1});
    REQUIRE(none.weights == std::vector<float>{0.5f, 0.5f});
  }
}

TEST_CASE("combine_experts: the weighted sum, and a token's bits whatever the rows' order and the tokens around it") {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (const size_t width : {1u, 7u, 256u, 257u, 600u}) {
    for (const bool has_shared : {false, true}) {
      CAPTURE(width, has_shared);
      const size_t tokens = 5, used = 3, rows = tokens * used;
      std::vector<float> results(rows * width), weights(rows), shared(tokens * width), input(tokens * width), gate(width),
          dst(tokens * width);
      for (auto* values : {&results, &weights, &shared, &input, &gate, &dst}) {
        for (float& value : *values) value = normal(random);
      }
      std::vector<uint32_t> row_of(rows);
      std::iota(row_of.begin(), row_of.end(), 0);
      std::shuffle(row_of.begin(), row_of.end(), random);
      const std::vector<float> before = dst;
      CombineExpertsArgs args{results.data(), row_of.data(), weights.data(), used, has_shared ? shared.data() : nullptr,
                              input.data(),   gate.data(),   dst.data(),     width};
      combine_experts(args, 0, tokens);
      for (size_t t = 0; t < tokens; ++t) {
        double dot = 0;
        for (size_t i = 0; i < width; ++i) dot += static_cast<double>(input[t * width + i]) * gate[i];
        for (size_t i = 0; i < width; ++i) {
          double sum = before[t * width + i] + (has_shared ? shared[t * width + i] / (1 + std::exp(-dot)) : 0);
          for (size_t r = 0; r < used; ++r) sum += static_cast<double>(weights[t * used + r]) * results[row_of[t * used + r] * width + i];
          REQUIRE(dst[t * width + i] == Approx(sum).margin(1e-5));
        }
      }
      // The same rows elsewhere, one token at a time.
      std::vector<float> moved(results.size()), alone = before;
      std::vector<uint32_t> elsewhere(rows);
      for (size_t i = 0; i < rows; ++i) {
        elsewhere[i] = static_cast<uint32_t>(rows - 1 - i);
        std::copy_n(results.begin() + static_cast<std::ptrdiff_t>(row_of[i] * width), width,
                    moved.begin() + static_cast<std::ptrdiff_t>(elsewhere[i] * width));
      }
      args.results = moved.data(), args.row_of = elsewhere.data(), args.dst = alone.data();
      for (size_t t = 0; t < tokens; ++t) combine_experts(args, t, t + 1);
      REQUIRE(alone == dst);
    }
  }
}

}  // namespace
}  // namespace outrigger
