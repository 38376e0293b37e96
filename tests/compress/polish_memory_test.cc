// What training is counted to take, against what it takes, and what becomes of a budget.
#include "src/compress/polish_memory.h"

#include <outrigger/compress.h>

#include <algorithm>
#include <utility>

#include "src/compress/matrix_plan.h"
#include "src/compress/polish_made.h"
#include "src/model/model_impl.h"
#include "tests/support/heap_watch.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"

namespace outrigger::testing {
namespace {

struct Bench {
  explicit Bench(DenseKind kind) : model(write_and_open(scratch, random_dense(kind))) {
    for (size_t i = 0; i < 320; ++i) text.push_back(static_cast<Token>((i * i * 31 + i * 7) % 20));
    options.bits = 2;
    options.chunk_tokens = 32;
    options.threads = 2;
    options.rounds = 1;
    options.branch_bytes = kind == DenseKind::kLlamaBf16 ? 200'000 : 60'000;  // of rank 32: the matrices are most of what is counted
    options.form = BranchForm::kLowRank;
    options.allocation = BranchAllocation::kUniform;
    options.polish_steps = 6;
  }
  /// And the bytes that training took, with the codes of factors, which are there before it begins.
  std::pair<CompressReport, uint64_t> train() {
    uint64_t before = 0, most = 0;
    // The last call before training is that of the compressor's end; peaks before it are not of interest.
    options.progress = [&](double share) {
      if (share < 0.6501) {
        before = heap_bytes();
        restart_heap_peak();
      }
      most = heap_peak_bytes();
      return true;
    };
    CompressReport report = must(compress());
    return {report, most - before + report.branch_bytes};
  }
  Result<CompressReport> compress() const { return compress_model(model, text, scratch / "small.gguf", options); }

  const ScratchFolder scratch;
  const Model model;
  std::vector<Token> text;
  CompressOptions options;
};

TEST_CASE("polish_memory: training takes no more than was counted, in each scope and kind of model, and not much less") {
  for (const DenseKind kind : kDenseKinds) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    if (kind != DenseKind::kQwen3) continue;  // they take ten times as long
#endif
    for (const PolishScope scope : {PolishScope::kEndToEnd, PolishScope::kBlock}) {
      for (const uint32_t threads : {1u, 3u}) {
        Bench bench(kind);
        bench.options.polish_scope = scope;
        bench.options.threads = threads;
        const auto [report, taken] = bench.train();
        CAPTURE(static_cast<int>(kind), static_cast<int>(scope), threads, taken, report.polish_bytes);
        CHECK(report.polish_scope == scope);
        CHECK(taken < report.polish_bytes);
        CHECK(static_cast<double>(report.polish_bytes) < 1.15 * static_cast<double>(taken));
      }
    }
  }
}

TEST_CASE("polish_memory: a backbone takes no more than was counted either, and not much less") {
  for (const PolishScope scope : {PolishScope::kEndToEnd, PolishScope::kBlock}) {
    for (const bool has_branches : {true, false}) {
      Bench bench(DenseKind::kQwen3);
      bench.options.polish_scope = scope;
      bench.options.polish_target = PolishTarget::kBoth;
      if (!has_branches) bench.options.branch_bytes = 0;
      const auto [report, taken] = bench.train();
      CAPTURE(static_cast<int>(scope), has_branches, taken, report.polish_bytes);
      CHECK(taken < report.polish_bytes);
      CHECK(static_cast<double>(report.polish_bytes) < 1.2 * static_cast<double>(taken));
    }
  }
}

TEST_CASE("polish_memory: blocks of a model of eight layers take less than half of what the whole does") {
  Bench bench(DenseKind::kLlamaBf16);
  bench.options.polish_scope = PolishScope::kBlock;
  const uint64_t block = must(bench.compress()).polish_bytes;
  bench.options.polish_scope = PolishScope::kEndToEnd;
  CHECK(2 * block < must(bench.compress()).polish_bytes);
}

TEST_CASE("polish_memory: training takes the whole model where its bytes fit, blocks where these do, and else says what it needs") {
  const Bench bench(DenseKind::kLlama);
  const ModelLayout& layout = *bench.model.impl()->layout;
  const std::vector<MatrixPlan> plans(layout.weights.size(), MatrixPlan{2, 32});
  const PolishSizes sizes{plans, 4, 8, 2, 32, 2};
  const uint64_t whole = end_to_end_polish_bytes(layout, sizes), block = block_polish_bytes(layout, sizes);
  REQUIRE(block < whole);
  const auto chosen = [&](PolishScope scope, uint64_t budget) { return must(choose_polish_scope(layout, sizes, scope, budget)); };
  for (const uint64_t budget : {uint64_t{0}, whole}) {
    CHECK(chosen(PolishScope::kAuto, budget).scope == PolishScope::kEndToEnd);
    CHECK(chosen(PolishScope::kAuto, budget).bytes == whole);
    CHECK(chosen(PolishScope::kBlock, budget).scope == PolishScope::kBlock);
  }
  for (const uint64_t budget : {block, whole - 1}) {
    CHECK(chosen(PolishScope::kAuto, budget).scope == PolishScope::kBlock);
    CHECK(chosen(PolishScope::kAuto, budget).bytes == block);
  }
  const auto refused = [&](PolishScope scope, uint64_t given, uint64_t needed) {
    const Status status = choose_polish_scope(layout, sizes, scope, given).status();
    CAPTURE(status.to_string());
    CHECK(status.code() == StatusCode::kBudget);
    CHECK(status.needed_bytes() == needed);
    CHECK(status.given_bytes() == given);
  };
  refused(PolishScope::kAuto, block - 1, block);
  refused(PolishScope::kBlock, block - 1, block);
  refused(PolishScope::kEndToEnd, whole - 1, whole);
}

TEST_CASE("compress_model: trains within a budget for everything, end to end or by blocks, and is refused below it with nothing left") {
  Bench bench(DenseKind::kLlamaBf16);
  const CompressReport whole = must(bench.compress());
  CHECK(whole.polish_scope == PolishScope::kEndToEnd);
  CHECK((whole.polish_layers.empty() && whole.polish_losses.size() == 6));
  bench.options.polish_scope = PolishScope::kBlock;
  const CompressReport block = must(bench.compress());
  CHECK((block.polish_losses.empty() && block.polish_layers.size() == 8));
  bench.options.polish_scope = PolishScope::kAuto;
  for (const CompressReport* report : {&whole, &block}) {
    bench.options.host_bytes = report->memory.planned_bytes;
    const CompressReport again = must(bench.compress());
    CHECK(again.memory.peak_bytes <= bench.options.host_bytes);
    if (report == &block) CHECK(again.polish_bytes <= bench.options.host_bytes);
  }
  std::filesystem::remove(bench.scratch / "small.gguf");
  bench.options.host_bytes = block.memory.planned_bytes - 1;
  const Status status = bench.compress().status();
  CAPTURE(status.to_string());
  CHECK(status.code() == StatusCode::kBudget);
  CHECK(status.needed_bytes() == block.memory.planned_bytes);
  CHECK(bench.scratch.names() == std::vector<std::string>{"model.gguf"});
}

}  // namespace
}  // namespace outrigger::testing
