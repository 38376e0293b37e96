// Whether drawn texts have the distribution that they should have.
#ifndef OUTRIGGER_TESTS_SUPPORT_CHI_SQUARE_H_
#define OUTRIGGER_TESTS_SUPPORT_CHI_SQUARE_H_

#include <outrigger/tokenizer.h>

#include <cmath>
#include <map>
#include <utility>
#include <vector>

namespace outrigger::testing {

/// How often each text was drawn.
using DrawnTexts = std::map<std::vector<Token>, double>;

struct ChiSquare {
  double value = 0;
  int outcomes = 0;
};

/// The value that a chi square over so many outcomes exceeds once in 10,000 times, after Wilson and Hilferty.
inline double most_chi_square(int outcomes) {
  const double k = outcomes - 1, part = 2 / (9 * k);
  return k * std::pow(1 - part + 3.719 * std::sqrt(part), 3);
}

/// Of two samples, as many each, of one distribution: sums of (a - b)^2 / (a + b) are chi square distributed.
inline ChiSquare chi_square_of(const DrawnTexts& a, const DrawnTexts& b) {
  std::map<std::vector<Token>, std::pair<double, double>> both;
  for (const auto& [text, times] : a) both[text].first = times;
  for (const auto& [text, times] : b) both[text].second = times;
  ChiSquare result{0, static_cast<int>(both.size())};
  for (const auto& [text, times] : both) result.value += std::pow(times.first - times.second, 2) / (times.first + times.second);
  return result;
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_CHI_SQUARE_H_
