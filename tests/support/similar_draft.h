// A small random model, and one that is like it but for noise: what a draft model is to the model that it drafts for.
#ifndef OUTRIGGER_TESTS_SUPPORT_SIMILAR_DRAFT_H_
#define OUTRIGGER_TESTS_SUPPORT_SIMILAR_DRAFT_H_

#include <random>
#include <string>
#include <vector>

#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/support/scratch_folder.h"

namespace outrigger::testing {

struct SimilarDraft {
  ScratchFolder scratch;
  Model target;
  std::string draft = scratch / "draft.gguf";

  /// The deviation of what is added to every weight but the norms', whose own is 0.15 in the layers: of 0 drafts are always right, of 0.03
  /// often, of 0.5 seldom.
  explicit SimilarDraft(float noise) : target(write_and_open(scratch, random_dense())) {
    std::mt19937 random(17);
    std::normal_distribution<float> normal(0, noise);
    write_test_file(draft, random_dense([&](const std::string& name, std::vector<float>& values) {
                      if (name.find("norm") != std::string::npos) return;
                      for (float& value : values) value += normal(random);
                    }));
  }
};

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_SIMILAR_DRAFT_H_
