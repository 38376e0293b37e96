// What a corrected model's engine and session hold: everything large is a lease, as it is while compressing.
#include <outrigger/compress.h>
#include <outrigger/session.h>

#include <string>
#include <vector>

#include "tests/support/engines.h"
#include "tests/support/large_allocations.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/support/random_mixture.h"
#include "tests/support/scratch_folder.h"

namespace outrigger::testing {
namespace {

constexpr uint64_t kLarge = 1 << 20;

// A sanitizer has the heap, so that watching it would say nothing.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

std::vector<Token> text_of(size_t tokens) {
  std::vector<Token> text(tokens);
  for (size_t i = 0; i < tokens; ++i) text[i] = static_cast<Token>((i * i * 31 + i * 7) % 200);
  return text;
}

struct Corrected {
  Corrected(const std::vector<std::byte>& bytes, BranchForm form, uint64_t branch_bytes, uint64_t read_bytes) {
    write_test_file(scratch / "model.gguf", bytes);
    CompressOptions options;
    options.bits = 2;
    options.chunk_tokens = 64;
    options.most_chunks = 2;
    options.threads = 2;
    options.form = form;
    options.branch_bytes = branch_bytes;
    options.branch_read_bytes = read_bytes;
    options.allocation = BranchAllocation::kUniform;
    options.polish_steps = 0;
    must(compress_model(must(Model::open(scratch / "model.gguf")), text_of(128), scratch / "small.gguf", options));
  }
  ScratchFolder scratch;
};

/// Opens, reads a prompt, goes on: with all corrections and with none, under a budget or without one.
void check_leased(const Corrected& made, uint64_t less_bytes, uint64_t least_residuals) {
  EngineSetup setup;
  const std::string path = made.scratch / "small.gguf";
  if (less_bytes > 0) setup.host_bytes = must(plan_for(must(Model::open(path)), setup)).host.planned_bytes - less_bytes;
  restart_largest_allocation();
  const Model model = must(Model::open(path));
  Engine engine = open_engine(model, setup);
  Session session = must(Session::open(engine));
  for (const float share : {1.0f, 0.0f}) {
    must(session.set_branch_share(share));
    must(session.prefill(text_of(120)));
    for (Token token = 0; token < 4; ++token) must(session.step(token));
  }
  CHECK(largest_allocation() < kLarge);
  CHECK(engine.memory().host.peak_bytes > 4 * kLarge);
  CHECK(engine.memory().host.current_bytes <= engine.memory().host.planned_bytes);
  CHECK(engine.plan().host.breakdown.branches >= least_residuals);
}

TEST_CASE("Engine: no allocation above a mebibyte is anything but a lease, with branches in memory or streaming") {
  const Corrected made(random_dense(DenseKind::kLlamaUntied, {768, 2304, 192, 2}), BranchForm::kLowRank, 1 << 19, 0);
  check_leased(made, 0, 0);
  check_leased(made, 2 * kLarge, 0);
}

TEST_CASE("Engine: no allocation above a mebibyte is anything but a lease, with residuals") {
  const Corrected made(random_dense(DenseKind::kQwen3, {768, 1536, 192, 2}), BranchForm::kSparse, 0, 1 << 20);
  check_leased(made, 0, 4 * kLarge);
}

TEST_CASE("Engine: no allocation above a mebibyte is anything but a lease, with residuals of experts") {
  const Corrected made(random_mixture(MixtureKind::kQwen2, {512, 1024, 512}), BranchForm::kSparse, 0, 1 << 20);
  check_leased(made, 0, 4 * kLarge);
}

TEST_CASE("LargeAllocations: what is asked of the heap is seen") {
  restart_largest_allocation();
  const std::vector<char> large(2 * kLarge);
  CHECK(largest_allocation() >= large.size());
}

#endif

}  // namespace
}  // namespace outrigger::testing
