// The figures of eval and bench against values worked out by hand or from their definitions.
#include "src/tool/statistics.h"

#include <cmath>
#include <limits>

#include "src/tool/npy.h"
#include "tests/support/catch.h"

namespace outrigger::tool {
namespace {

TEST_CASE("Mean: the error is that of llama.cpp's tools, variance over count divided by count - 1") {
  Mean mean;
  for (const double sample : {1.0, 2.0, 3.0, 6.0}) mean.add(sample);
  REQUIRE(mean.estimate().value == Approx(3));
  // variance = (4 + 1 + 0 + 9) / 4 = 3.5
  REQUIRE(mean.estimate().error == Approx(std::sqrt(3.5 / 3)));
  Mean one;
  one.add(5);
  REQUIRE(one.estimate().error == 0);
  REQUIRE(Mean().estimate().value == 0);
}

TEST_CASE("Mean: of groups the error is that of their means, and samples that are alike within a group do not make it smaller") {
  Mean few, many;
  for (const double of_group : {1.0, 2.0, 6.0}) {
    few.add(of_group);
    for (int i = 0; i < 10; ++i) many.add(of_group);
    few.end_group();
    many.end_group();
    many.end_group();  // nothing new: no group
  }
  CHECK(many.group_means() == std::vector<double>{1, 2, 6});
  CHECK(few.estimate().value == Approx(3));
  CHECK(few.estimate().error == Approx(std::sqrt(14.0 / 3 / 2)));
  CHECK(many.estimate().error == Approx(few.estimate().error));
  CHECK(Mean(few).estimate().value == few.estimate().value);
}

TEST_CASE("recovered_share: chunks that recover the same share have no error, however far they are from each other") {
  const std::vector<double> without = {1, 4, 10}, half = {0.5, 2, 5}, uneven = {0.5, 3, 4};
  CHECK(recovered_share(half, without).value == Approx(0.5));
  CHECK(recovered_share(half, without).error == Approx(0).margin(1e-12));
  CHECK(recovered_share(uneven, without).value == Approx(0.5));
  CHECK(recovered_share(uneven, without).error == Approx(std::sqrt((0 + 1 + 1) * 3.0 / 2) / 15));
  CHECK(recovered_share(std::vector<double>{1}, std::vector<double>{2}).error == 0);
}

TEST_CASE("difference: of the same chunks the error is that of their differences, of others that of both") {
  Mean hard, harder, one;
  for (const double of_chunk : {1.0, 4.0, 10.0}) {
    hard.add(of_chunk);
    hard.end_group();
    harder.add(of_chunk + 0.5);
    harder.end_group();
  }
  one.add(2);
  one.end_group();
  CHECK(difference(harder, hard).value == Approx(0.5));
  CHECK(difference(harder, hard).error == Approx(0).margin(1e-12));
  CHECK(difference(hard, one).value == Approx(3));
  CHECK(difference(hard, one).error == Approx(hard.estimate().error));
}

TEST_CASE("Perplexity: exp of the mean, its error multiplied by it") {
  Mean nll;
  nll.add(std::log(2));
  nll.add(std::log(8));
  REQUIRE(perplexity(nll).value == Approx(4));
  REQUIRE(perplexity(nll).error == Approx(4 * std::log(2)));
}

TEST_CASE("Share: binomial error") {
  REQUIRE(share(3, 4).value == 0.75);
  REQUIRE(share(3, 4).error == Approx(std::sqrt(0.75 * 0.25 / 3)));
  REQUIRE(share(0, 0).value == 0);
}

TEST_CASE("Quantile: interpolates, and ends at the ends") {
  const double sorted[] = {0, 10, 20, 30};
  REQUIRE(quantile(sorted, 0) == 0);
  REQUIRE(quantile(sorted, 1) == 30);
  REQUIRE(quantile(sorted, 0.5) == Approx(15));
  REQUIRE(quantile(std::span(sorted, 1), 0.99) == 0);
}

TEST_CASE("Negative log-likelihood: uniform logits share alike, whatever their height") {
  const float logits[] = {1000, 1000, 1000, 1000};
  REQUIRE(negative_log_likelihood(logits, 2) == Approx(std::log(4)));
  const float certain[] = {0, 100, 0};
  REQUIRE(negative_log_likelihood(certain, 1) < 1e-30);
  REQUIRE(negative_log_likelihood(certain, 0) == Approx(100));
}

TEST_CASE("KL divergence: zero to itself, exact for two coins, blind to what the reference excludes") {
  const float even[] = {0, 0}, biased[] = {std::log(3.0f), 0};
  REQUIRE(kl_divergence(even, even) == 0);
  REQUIRE(kl_divergence(biased, biased) == 0);
  // p = 1/2, 1/2; q = 3/4, 1/4
  REQUIRE(kl_divergence(even, biased) == Approx(0.5 * std::log(0.5 / 0.75) + 0.5 * std::log(0.5 / 0.25)));
  REQUIRE(kl_divergence(biased, even) == Approx(0.75 * std::log(1.5) + 0.25 * std::log(0.5)));
  const float never = -std::numeric_limits<float>::infinity();
  const float excluding[] = {0, never};
  REQUIRE(kl_divergence(excluding, excluding) == 0);
}

TEST_CASE("Top: the first of the largest") {
  const float logits[] = {1, 3, 3, 2};
  REQUIRE(top(logits) == 1);
}

TEST_CASE("Spread: sample standard deviation") {
  const double samples[] = {1, 3};
  REQUIRE(spread(samples).mean == 2);
  REQUIRE(spread(samples).deviation == Approx(std::sqrt(2)));
  REQUIRE(spread(std::span(samples, 1)).deviation == 0);
}

TEST_CASE("Npy: the header says its own length, ends in a newline and fills whole 64 bytes") {
  const std::string header = npy_header(12345, 49152);
  REQUIRE(header.size() % 64 == 0);
  REQUIRE(header.substr(0, 8) == std::string("\x93NUMPY\x01\x00", 8));
  const size_t length = static_cast<unsigned char>(header[8]) + 256 * static_cast<size_t>(static_cast<unsigned char>(header[9]));
  REQUIRE(length == header.size() - 10);
  REQUIRE(header.back() == '\n');
  REQUIRE(header.find("'shape': (12345, 49152)") != std::string::npos);
  REQUIRE(header.find("'<f4'") != std::string::npos);
}

}  // namespace
}  // namespace outrigger::tool
