// A model in two bits with branches, for tests of training them.
#ifndef OUTRIGGER_TESTS_TRAINING_TWO_BIT_MODEL_H_
#define OUTRIGGER_TESTS_TRAINING_TWO_BIT_MODEL_H_

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "src/compress/gram.h"
#include "src/compress/low_rank.h"
#include "src/compress/matrix_plan.h"
#include "src/compress/quantiser.h"
#include "src/forward/float_matrix.h"
#include "src/tensor/dequantize.h"
#include "src/training/polish_options.h"
#include "src/training/scale_pupils.h"
#include "tests/support/engines.h"
#include "tests/support/heap_watch.h"
#include "tests/support/random_inputs.h"

namespace outrigger::testing {

inline constexpr uint32_t kChunk = 48;
inline const PolishWatch kNoWatch = [](uint32_t, uint32_t) { return Status(); };

// Of few words, so that a text says something of another.
inline std::vector<Token> random_text(size_t chunks) {
  std::mt19937 random(11);
  std::vector<Token> tokens(chunks * kChunk);
  for (Token& token : tokens) token = static_cast<Token>(random() % 20);
  return tokens;
}

inline PolishOptions few_steps(uint32_t steps = 4) {
  PolishOptions options;
  options.steps = steps;
  options.tokens_a_step = 40;
  options.held_out_chunks = 2;
  return options;
}

/// A model and what few bits, two unless said otherwise, and branches of rank 32 make of it.
struct TwoBitModel {
  Model model;
  std::vector<LeasedVector<float>> backbone;  ///< parallel to the layout's matrices; empty where it is none of a layer's
  std::vector<MatrixCodes> codes;             ///< what it stands for
  std::vector<TrainedBranch> branches;

  explicit TwoBitModel(const std::string& path, int bits = 2, const OwnForm& form = {})
      : model(must(Model::open(path))), backbone(layout().weights.size()) {
    const auto team = must(ThreadTeam::create(2));
    for (const uint32_t matrix : matrices_of_layers(layout())) {
      const WeightSource& weight = layout().weights[matrix];
      Gram gram(weight.columns);
      gram.add(random_matrix(4 * weight.columns, weight.columns, matrix), *team);
      LeasedVector<float> residual = must(read_matrix(model.impl()->file.source(), weight));
      const std::vector<float> column_weights(weight.columns, 1.0f);
      const LowBitMatrix made =
          must(quantise_matrix(residual, weight.rows, weight.columns, {column_weights, {}}, {bits, true, form}, *team));
      LeasedVector<float>& values = backbone[matrix];
      values.resize(residual.size());
      must(dequantize(made.type, made.bytes.data(), values.data(), values.size()));
      codes.push_back({matrix, made.type, made.bytes});
      for (size_t i = 0; i < residual.size(); ++i) residual[i] -= values[i];
      const LowRankBranch branch =
          must(low_rank_branch(residual, weight.rows, weight.columns, must(InputRoot::create(gram, 0.01)), {32, 8, true}, *team));
      TrainedBranch trained{matrix, 32, LeasedVector<float>(32 * weight.columns), LeasedVector<float>(weight.rows * 32)};
      must(dequantize(branch.type, branch.a.data(), trained.a.data(), trained.a.size()));
      must(dequantize(branch.type, branch.b.data(), trained.b.data(), trained.b.size()));
      branches.push_back(std::move(trained));
    }
  }
  const ModelLayout& layout() const { return *model.impl()->layout; }

  MatrixReader student() const {
    return [this](uint32_t matrix) -> Result<LeasedVector<float>> { return backbone[matrix]; };
  }
};

inline bool are_equal(const std::vector<TrainedBranch>& left, const std::vector<TrainedBranch>& right) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [](const TrainedBranch& l, const TrainedBranch& r) { return l.a == r.a && l.b == r.b; });
}

/// Each allocation that `train` makes fails, every one of the first from `first` on and then fewer and fewer: it must say so, and leave the
/// branches that it is given as they were. The number of failures.
template <typename Train>
size_t fail_allocations(const TwoBitModel& compressed, uint64_t first, Train&& train) {
  size_t failures = 0;
  for (uint64_t nth = first;; nth += 1 + nth / 16) {
    std::vector<TrainedBranch> trained = compressed.branches;
    const FailingAllocation failing(nth);
    const Result<PolishReport> report = train(&trained);
    if (!failing.has_happened()) return failures;
    CAPTURE(nth, report.status().to_string());
    REQUIRE(report.status().code() == StatusCode::kOutOfMemory);
    REQUIRE(are_equal(trained, compressed.branches));
    ++failures;
  }
}

// To three bits, as hard as it gets.
inline Status round_hard(TrainedBranch* branch) {
  for (LeasedVector<float>* values : {&branch->a, &branch->b}) {
    for (size_t i = 0; i < values->size(); i += 32) {
      float most = 0;
      for (size_t k = i; k < i + 32; ++k) most = std::max(most, std::abs((*values)[k]));
      for (size_t k = i; k < i + 32 && most > 0; ++k) (*values)[k] = std::nearbyint((*values)[k] / most * 3) * most / 3;
    }
  }
  return Status();
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_TRAINING_TWO_BIT_MODEL_H_
