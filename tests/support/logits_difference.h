// How far an engine's logits are from an oracle's.
#ifndef OUTRIGGER_TESTS_SUPPORT_LOGITS_DIFFERENCE_H_
#define OUTRIGGER_TESTS_SUPPORT_LOGITS_DIFFERENCE_H_

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "tests/support/engines.h"
#include "tests/support/golden_logits.h"

namespace outrigger::testing {

struct Difference {
  double most = 0;      ///< largest absolute difference of a logit; infinite if one is not a number
  int other_best = 0;   ///< positions where another id is the likeliest
};

inline Difference differ_from_oracle(const Engine& engine, const GoldenLogits& golden) {
  Difference difference;
  for (const GoldenSequence& sequence : golden.sequences) {
    Session session = must(Session::open(engine));
    std::map<size_t, std::vector<float>> rows;
    must(session.evaluate(sequence.tokens,
                          [&](size_t index, std::span<const float> logits) { rows[index].assign(logits.begin(), logits.end()); }));
    for (size_t i = 0; i < sequence.positions.size(); ++i) {
      const std::vector<float>& row = rows.at(static_cast<size_t>(sequence.positions[i]));
      for (size_t k = 0; k < golden.ids.size(); ++k) {
        const double distance = std::abs(row[static_cast<size_t>(golden.ids[k])] - sequence.rows[i][k]);
        difference.most = std::isnan(distance) ? INFINITY : std::max(difference.most, distance);
      }
      difference.other_best += std::max_element(row.begin(), row.end()) - row.begin() != sequence.best[i];
    }
  }
  return difference;
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_LOGITS_DIFFERENCE_H_
