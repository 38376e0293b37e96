// What `eval` and `bench` compute from logits and samples.
#ifndef OUTRIGGER_SRC_TOOL_STATISTICS_H_
#define OUTRIGGER_SRC_TOOL_STATISTICS_H_

#include <cstddef>
#include <span>
#include <vector>

namespace outrigger::tool {

/// A figure with its standard error.
struct Estimate {
  double value = 0, error = 0;
};

/// Mean of samples that come one by one.
class Mean {
 public:
  void add(double sample);
  size_t count() const { return count_; }
  /// What was added since the last call is a group: samples that are more like each other than like the rest, such as those of one chunk of
  /// a text.
  void end_group();
  const std::vector<double>& group_means() const { return group_means_; }
  /// Standard error: of two groups or more that of their means, which are taken for equally large; without groups sqrt(variance / (count -
  /// 1)) with the variance over count, as llama.cpp's tools have it; 0 for fewer than two samples.
  Estimate estimate() const;

 private:
  size_t count_ = 0, grouped_ = 0;
  double sum_ = 0, sum_of_squares_ = 0, grouped_sum_ = 0;
  std::vector<double> group_means_;
};

/// 1 - mean of `with` / mean of `without`, which belong together one by one; the error is that of their paired differences, to first order.
/// Precondition: as many of both, at least one.
Estimate recovered_share(std::span<const double> with, std::span<const double> without);
/// Mean of `a` less that of `b`. Of as many groups of the same samples, two at least, the error is that of their paired differences; else
/// that of two independent means.
Estimate difference(const Mean& a, const Mean& b);

/// exp of a mean negative log-likelihood; the error propagated to first order.
Estimate perplexity(const Mean& negative_log_likelihood);
/// A share of `count` with its binomial error, sqrt(p (1 - p) / (count - 1)).
Estimate share(size_t hits, size_t count);
/// The value below which `fraction` of the samples lie, interpolated between the two nearest. `sorted` ascending and not empty.
double quantile(std::span<const double> sorted, double fraction);

/// log of the sum of exp(logits), in double precision.
double log_sum_exp(std::span<const float> logits);
/// -log p(token) under softmax(logits).
double negative_log_likelihood(std::span<const float> logits, size_t token);
/// Sum over the vocabulary of p (log p - log q), with p of `reference` and q of `logits`, in double precision; both as long.
double kl_divergence(std::span<const float> reference, std::span<const float> logits);
/// The first of the largest.
size_t top(std::span<const float> logits);

/// Mean and sample standard deviation of a few timings.
struct Spread {
  double mean = 0, deviation = 0;
};
Spread spread(std::span<const double> samples);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_STATISTICS_H_
