// A small compressed model with branches, for tests of drafts by the model itself.
#ifndef OUTRIGGER_TESTS_SUPPORT_BRANCHED_MODEL_H_
#define OUTRIGGER_TESTS_SUPPORT_BRANCHED_MODEL_H_

#include <outrigger/compress.h>

#include "tests/support/engines.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"

namespace outrigger::testing {

/// The random model in three bits with low-rank branches.
struct Branched {
  ScratchFolder scratch;
  Model model;

  Branched() : model(make(scratch)) {}
  static Model make(const ScratchFolder& scratch) {
    write_test_file(scratch / "model.gguf", random_dense());
    std::vector<Token> text(600);
    for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<Token>((i * i * 31 + i * 7) % 200);
    CompressOptions options;
    options.bits = 3;
    options.chunk_tokens = 32;
    options.most_chunks = 6;
    options.threads = 2;
    options.form = BranchForm::kLowRank;
    options.branch_bytes = uint64_t{1} << 20;
    must(compress_model(must(Model::open(scratch / "model.gguf")), text, scratch / "small.gguf", options));
    return must(Model::open(scratch / "small.gguf"));
  }
};

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_BRANCHED_MODEL_H_
