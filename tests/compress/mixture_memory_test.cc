// Compressing a mixture of experts with little memory: what it keeps, and what becomes of it when there is none.
#include <outrigger/compress.h>

#include <algorithm>
#include <vector>

#include "tests/support/engines.h"
#include "tests/support/heap_watch.h"
#include "tests/support/random_mixture.h"
#include "tests/support/scratch_folder.h"

namespace outrigger::testing {
namespace {

struct Bench {
  Bench() {
    write_test_file(scratch / "model.gguf", random_mixture(MixtureKind::kQwen2));
    model.emplace(must(Model::open(scratch / "model.gguf")));
    for (size_t i = 0; i < 64; ++i) text.push_back(static_cast<Token>((i * i * 31 + i * 7) % 200));
    options.bits = 4;
    options.chunk_tokens = 32;
    options.threads = 2;
  }
  Result<CompressReport> compress() const { return compress_model(*model, text, path, options); }

  ScratchFolder scratch;
  const std::string path = scratch / "small.gguf";
  std::optional<Model> model;
  std::vector<Token> text;
  CompressOptions options;
};

TEST_CASE("compress_model: what was written of a mixture is not kept, and of a layer no more than its stacks in few bits") {
  Bench bench;
  std::vector<uint64_t> bytes;
  bytes.reserve(100);
  bench.options.progress = [&bytes](double) {
    bytes.push_back(heap_bytes());
    return true;
  };
  const CompressReport report = must(bench.compress());
  REQUIRE(bytes.size() == 19);
  const uint64_t layer = report.backbone_bytes / 2, least = *std::min_element(bytes.begin(), bytes.end());
  CHECK(layer > 60'000);
  // The beginnings of both layers, and the last expert of the second: with the stacks of the first there would be a layer more.
  CHECK(bytes[10] < bytes[1] + layer / 4);
  CHECK(bytes.back() < bytes[9] + layer / 4);
  CHECK(bytes.back() > least + layer / 2);  // of what is kept until it is written
}

TEST_CASE("compress_model: an allocation that fails anywhere in a mixture is an error, and nothing is left") {
  Bench bench;
  bench.options.branch_read_bytes = GENERATE(0, 20'000);
  bench.options.form = BranchForm::kSparse;
  bench.options.allocation = BranchAllocation::kUniform;
  const uint64_t before = heap_allocations();
  must(bench.compress());
  const uint64_t all = heap_allocations() - before;
  std::filesystem::remove(bench.path);
  uint64_t failed = 0, unnoticed = 0;
  for (uint64_t nth = 1; nth < all; nth += 1 + all / 150) {
    CAPTURE(nth, all);
    Status status;
    bool has_happened = false;
    {
      const FailingAllocation failing(nth);
      status = bench.compress().status();
      has_happened = failing.has_happened();
    }
    failed += has_happened;
    unnoticed += status.is_ok() && has_happened;
    CHECK((status.code() == StatusCode::kOutOfMemory || status.is_ok()));
    if (status.is_ok()) std::filesystem::remove(bench.path);
    REQUIRE(bench.scratch.names() == std::vector<std::string>{"model.gguf"});
  }
  CHECK(failed > 100);
  CHECK(unnoticed <= 2);  // a stream takes it for the end of what the system says of its processors: then all of them are taken
}

}  // namespace
}  // namespace outrigger::testing
