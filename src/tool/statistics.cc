// What `eval` and `bench` compute from logits and samples.
#include "src/tool/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace outrigger::tool {

void Mean::add(double sample) {
  ++count_;
  sum_ += sample;
  sum_of_squares_ += sample * sample;
}

void Mean::end_group() {
  if (count_ == grouped_) return;
  group_means_.push_back((sum_ - grouped_sum_) / static_cast<double>(count_ - grouped_));
  grouped_ = count_;
  grouped_sum_ = sum_;
}

Estimate Mean::estimate() const {
  if (count_ == 0) return {};
  const double count = static_cast<double>(count_);
  const double mean = sum_ / count;
  if (const auto groups = static_cast<double>(group_means_.size()); groups > 1) {
    double squares = 0;
    for (const double of_group : group_means_) squares += (of_group - mean) * (of_group - mean);
    return {mean, std::sqrt(squares / groups / (groups - 1))};
  }
  const double variance = sum_of_squares_ / count - mean * mean;
  return {mean, count_ > 1 && variance > 0 ? std::sqrt(variance / (count - 1)) : 0};
}

Estimate recovered_share(std::span<const double> with, std::span<const double> without) {
  const auto n = static_cast<double>(with.size());
  const double all = std::accumulate(without.begin(), without.end(), 0.0), ratio = std::accumulate(with.begin(), with.end(), 0.0) / all;
  double squares = 0;
  for (size_t i = 0; i < with.size(); ++i) squares += (with[i] - ratio * without[i]) * (with[i] - ratio * without[i]);
  return {1 - ratio, n > 1 ? std::sqrt(squares * n / (n - 1)) / all : 0};
}

Estimate difference(const Mean& a, const Mean& b) {
  const Estimate of_a = a.estimate(), of_b = b.estimate();
  if (a.group_means().size() != b.group_means().size() || a.group_means().size() < 2)
    return {of_a.value - of_b.value, std::hypot(of_a.error, of_b.error)};
  Mean paired;
  for (size_t i = 0; i < a.group_means().size(); ++i) {
    paired.add(a.group_means()[i] - b.group_means()[i]);
    paired.end_group();
  }
  return {of_a.value - of_b.value, paired.estimate().error};
}

Estimate perplexity(const Mean& negative_log_likelihood) {
  const Estimate mean = negative_log_likelihood.estimate();
  const double value = std::exp(mean.value);
  return {value, value * mean.error};
}

Estimate share(size_t hits, size_t count) {
  if (count == 0) return {};
  const double p = static_cast<double>(hits) / static_cast<double>(count);
  return {p, count > 1 ? std::sqrt(p * (1 - p) / static_cast<double>(count - 1)) : 0};
}

double quantile(std::span<const double> sorted, double fraction) {
  const double at = std::clamp(fraction, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double rest = at - static_cast<double>(below);
  return (1 - rest) * sorted[below] + rest * sorted[above];
}

double log_sum_exp(std::span<const float> logits) {
  const double largest = logits[top(logits)];
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

double negative_log_likelihood(std::span<const float> logits, size_t token) { return log_sum_exp(logits) - logits[token]; }

double kl_divergence(std::span<const float> reference, std::span<const float> logits) {
  const double reference_log_sum = log_sum_exp(reference), log_sum = log_sum_exp(logits);
  double divergence = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double log_p = reference[i] - reference_log_sum;
    // A token of no probability adds nothing, even where the other one's logit is minus infinity too.
    if (const double p = std::exp(log_p); p > 0) divergence += p * (log_p - (logits[i] - log_sum));
  }
  return divergence;
}

size_t top(std::span<const float> logits) { return static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()); }

Spread spread(std::span<const double> samples) {
  if (samples.empty()) return {};
  double sum = 0, squares = 0;
  for (const double sample : samples) sum += sample;
  const double mean = sum / static_cast<double>(samples.size());
  for (const double sample : samples) squares += (sample - mean) * (sample - mean);
  return {mean, samples.size() > 1 ? std::sqrt(squares / static_cast<double>(samples.size() - 1)) : 0};
}

}  // namespace outrigger::tool
