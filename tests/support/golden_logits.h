// Reads the logits that tests/golden/logits_oracle.py wrote.
#ifndef OUTRIGGER_TESTS_SUPPORT_GOLDEN_LOGITS_H_
#define OUTRIGGER_TESTS_SUPPORT_GOLDEN_LOGITS_H_

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace outrigger::testing {

struct GoldenSequence {
  std::vector<int32_t> tokens;
  std::vector<int32_t> positions;         ///< whose logits are kept
  std::vector<int32_t> best;              ///< the likeliest id after each of them
  std::vector<std::vector<float>> rows;   ///< [positions][ids]
};

struct GoldenLogits {
  std::vector<GoldenSequence> sequences;
  std::vector<int32_t> ids;               ///< the columns that are kept

  static GoldenLogits read(const std::string& name) {
    const std::string path = std::string(OTR_SOURCE_DIR) + "/tests/golden/logits/" + name + ".logits";
    std::ifstream in(path, std::ios::binary);
    INFO(path);
    REQUIRE(in.good());
    const auto number = [&in] {
      int32_t n = 0;
      in.read(reinterpret_cast<char*>(&n), sizeof n);
      return n;
    };
    const auto numbers = [&in](int32_t n) {
      std::vector<int32_t> all(static_cast<size_t>(n));
      in.read(reinterpret_cast<char*>(all.data()), n * 4);
      return all;
    };
    GoldenLogits golden;
    golden.sequences.resize(static_cast<size_t>(number()));
    for (GoldenSequence& sequence : golden.sequences) {
      sequence.tokens = numbers(number());
      sequence.positions = numbers(number());
      sequence.best = numbers(static_cast<int32_t>(sequence.positions.size()));
    }
    golden.ids = numbers(number());
    for (GoldenSequence& sequence : golden.sequences) {
      for (size_t i = 0; i < sequence.positions.size(); ++i) {
        sequence.rows.emplace_back(golden.ids.size());
        in.read(reinterpret_cast<char*>(sequence.rows.back().data()), static_cast<std::streamsize>(golden.ids.size() * 4));
      }
    }
    REQUIRE(in.good());
    return golden;
  }
};

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_GOLDEN_LOGITS_H_
