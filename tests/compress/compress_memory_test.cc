// What compressing holds: everything large is a lease, what was planned is what is counted, and a budget is kept.
#include <outrigger/compress.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/engines.h"
#include "tests/support/heap_watch.h"
#include "tests/support/large_allocations.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/support/random_mixture.h"
#include "tests/support/scratch_folder.h"

namespace outrigger::testing {
namespace {

constexpr uint64_t kLarge = 1 << 20;

// With one each case takes ten times as long.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

/// A random model, whose largest matrices, and squares of inputs' widths, are above kLarge by far where it is a wide one.
struct Bench {
  explicit Bench(const std::vector<std::byte>& bytes) {
    write_test_file(scratch / "model.gguf", bytes);
    model.emplace(must(Model::open(scratch / "model.gguf")));
    for (size_t i = 0; i < 400; ++i) text.push_back(static_cast<Token>((i * i * 31 + i * 7) % 200));
    options.bits = 2;
    options.chunk_tokens = 64;
    options.most_chunks = 6;
    options.threads = 2;
  }
  Result<CompressReport> compress() const { return compress_model(*model, text, path, options); }
  std::string made() const {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  ScratchFolder scratch;
  const std::string path = scratch / "small.gguf";
  std::optional<Model> model;
  std::vector<Token> text;
  CompressOptions options;
};

constexpr DenseShape kWide{512, 576, 128, 2};  // not so wide that the panels, which Eigen copies and which are counted, are above kLarge

// Not with a sanitizer, which has the heap, so that watching it would say nothing. The last one is there for its time: minutes.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

constexpr MixtureShape kWideMixture{512, 576, 576};

/// Compresses, and looks at what the heap was asked for meanwhile.
CompressReport check_leased(const Bench& bench) {
  restart_largest_allocation();
  const CompressReport report = must(bench.compress());
  CHECK(largest_allocation() < kLarge);
  CHECK(report.memory.peak_bytes > 8 * kLarge);
  CHECK(report.memory.peak_bytes <= report.memory.planned_bytes);
  CHECK(report.memory.calibration > 0);
  CHECK(report.memory.grams > 2 * kLarge);
  CHECK(report.memory.matrices > kLarge);
  return report;
}

TEST_CASE("compress_model: no allocation above a mebibyte is anything but a lease, in bits alone") {
  Bench bench(random_dense(DenseKind::kLlamaUntied, kWide));
  const CompressReport report = check_leased(bench);
  CHECK(report.memory.corrections == 0);
  CHECK(report.memory.training == 0);
  bench.options.mixed_bits = 2.8;
  CHECK(check_leased(bench).memory.backbone > report.memory.backbone);  // a survey keeps all of it
}

TEST_CASE("compress_model: no allocation above a mebibyte is anything but a lease, with branches that are measured and trained") {
  Bench bench(random_dense(DenseKind::kQwen3, kWide));
  bench.options.branch_bytes = 400'000;
  bench.options.form = BranchForm::kLowRank;
  bench.options.polish_steps = 3;
  const CompressReport report = check_leased(bench);
  CHECK(report.branch_bytes > 200'000);
  CHECK(report.memory.corrections > 0);
  CHECK(report.memory.training > 8 * kLarge);
}

TEST_CASE("compress_model: no allocation above a mebibyte is anything but a lease, with residuals") {
  Bench bench(random_dense(DenseKind::kLlama, kWide));
  bench.options.branch_read_bytes = 200'000;
  bench.options.form = BranchForm::kSparse;
  CHECK(check_leased(bench).memory.corrections > kLarge / 2);
}

TEST_CASE("compress_model: no allocation above a mebibyte is anything but a lease, where what is done is kept") {
  Bench bench(random_dense(DenseKind::kLlama, kWide));
  bench.options.resume = true;
  size_t calls = 0;
  bench.options.progress = [&calls](double) { return ++calls < 7; };
  REQUIRE(bench.compress().status().code() == StatusCode::kCancelled);
  bench.options.progress = {};
  CHECK(check_leased(bench).resumed_windows > 0);
}

TEST_CASE("compress_model: no allocation above a mebibyte is anything but a lease, of a mixture of experts") {
  Bench bench(random_mixture(MixtureKind::kQwen2, kWideMixture));
  check_leased(bench);
  bench.options.branch_bytes = 200'000;
  CHECK(check_leased(bench).memory.corrections > 0);
  bench.options.branch_bytes = 0;
  bench.options.branch_read_bytes = 400'000;
  bench.options.form = BranchForm::kSparse;
  const CompressReport measured = check_leased(bench);
  CHECK(measured.memory.corrections > 4 * kLarge);
  bench.options.allocation = BranchAllocation::kUniform;
  bench.options.resume = true;
  const CompressReport alike = check_leased(bench);
  CHECK(alike.memory.corrections > 6 * kLarge);
  std::filesystem::remove(bench.path);
  bench.options.host_bytes = alike.memory.planned_bytes;
  CHECK(must(bench.compress()).memory.peak_bytes == alike.memory.peak_bytes);
}

TEST_CASE("compress_model: with everything there is, what is held stays below what was planned, and a budget of that does") {
  Bench bench(random_dense(DenseKind::kLlama, kWide));
  bench.options.branch_bytes = 400'000;
  bench.options.form = BranchForm::kLowRank;
  bench.options.polish_steps = 2;
  bench.options.polish_scope = PolishScope::kEndToEnd;
  const CompressReport free = must(bench.compress());
  bench.options.host_bytes = free.memory.planned_bytes;
  CHECK(must(bench.compress()).memory.peak_bytes == free.memory.peak_bytes);
  std::filesystem::remove(bench.path);
  --bench.options.host_bytes;
  CHECK(bench.compress().status().code() == StatusCode::kBudget);
  bench.options.host_bytes = kLarge;
  const Status refused = bench.compress().status();
  CHECK(refused.code() == StatusCode::kBudget);
  CHECK(refused.message().find("set polish_steps to 0") != std::string::npos);
  CHECK(bench.scratch.names() == std::vector<std::string>{"model.gguf"});
}

#endif

TEST_CASE(
    "compress_model: in bits alone what is held is to the byte what was planned; a budget of so much does, with a byte less nothing is "
    "begun") {
  for (const DenseKind kind : kDenseKinds) {
    if (kSanitized && kind != DenseKind::kLlama) continue;
    CAPTURE(static_cast<int>(kind));
    Bench bench(random_dense(kind, kWide));
    const CompressReport free = must(bench.compress());
    const std::string bytes = bench.made();
    std::filesystem::remove(bench.path);
    CHECK(free.memory.budget_bytes == 0);
    REQUIRE(free.memory.peak_bytes == free.memory.planned_bytes);

    bench.options.host_bytes = free.memory.peak_bytes;
    const CompressReport kept = must(bench.compress());
    CHECK(kept.memory.budget_bytes == kept.memory.peak_bytes);
    CHECK(bench.made() == bytes);
    std::filesystem::remove(bench.path);

    size_t calls = 0;
    bench.options.progress = [&calls](double) { return ++calls > 0; };
    --bench.options.host_bytes;
    const Status refused = bench.compress().status();
    CHECK(refused.code() == StatusCode::kBudget);
    CHECK(refused.needed_bytes() == bench.options.host_bytes + 1);
    CHECK(refused.given_bytes() == bench.options.host_bytes);
    CHECK(refused.message().find("for Gram matrices") != std::string::npos);
    CHECK(calls == 0);
    CHECK(bench.scratch.names() == std::vector<std::string>{"model.gguf"});
  }
}

TEST_CASE("compress_model: a budget without room for a wide matrix' inputs makes up for errors within groups of columns") {
  Bench bench(random_dense(DenseKind::kLlama, {128, 2048, 64, 1}));
  const CompressReport free = must(bench.compress());
  CHECK(free.memory.feedback_columns == 0);
  bench.options.host_bytes = free.memory.peak_bytes - 1;
  const CompressReport halves = must(bench.compress());
  CHECK(halves.memory.feedback_columns == 1024);
  CHECK(halves.memory.peak_bytes == halves.memory.planned_bytes);
  CHECK(halves.memory.peak_bytes < free.memory.peak_bytes * 2 / 3);
  const CompressedMatrixReport &whole = free.matrices.back(), &grouped = halves.matrices.back();
  REQUIRE(whole.name == "blk.0.ffn_down.weight");
  CHECK(grouped.loss < 3 * whole.loss);                               // on text that is short for so many columns
  CHECK(free.matrices.front().loss == halves.matrices.front().loss);  // whose rows are one group
  const std::string bytes = bench.made();
  bench.options.host_bytes = 0;
  bench.options.feedback_columns = 1024;
  must(bench.compress());
  CHECK(bench.made() == bytes);
  bench.options.feedback_columns = 100;
  CHECK(bench.compress().status().code() == StatusCode::kInvalidArgument);

  bench.options.feedback_columns = 0;
  bench.options.host_bytes = kLarge;
  const Status refused = bench.compress().status();
  CHECK(refused.code() == StatusCode::kBudget);
  CHECK(refused.needed_bytes() < halves.memory.peak_bytes);  // which is that with the smallest groups
  bench.options.host_bytes = refused.needed_bytes();
  CHECK(must(bench.compress()).memory.feedback_columns == 512);
}

TEST_CASE("check_compress: says what compress_model would, knowing no more of the text than how long it is") {
  Bench bench(random_dense());
  const auto both = [&](const std::string& path) {
    const Status checked = check_compress(*bench.model, bench.text.size(), path, bench.options),
                 made = compress_model(*bench.model, bench.text, path, bench.options).status();
    CHECK(checked.to_string() == made.to_string());
    return checked;
  };
  CHECK(both(bench.path).is_ok());
  bench.options.host_bytes = 1000;
  const Status small = both(bench.path);
  CHECK(small.code() == StatusCode::kBudget);
  std::filesystem::remove(bench.path);
  bench.options.host_bytes = small.needed_bytes();
  CHECK(check_compress(*bench.model, bench.text.size(), bench.path, bench.options).is_ok());
  CHECK(!std::filesystem::exists(bench.path));
  CHECK(both(bench.path).is_ok());
  CHECK(both(bench.scratch / "model.gguf").code() == StatusCode::kInvalidArgument);
  CHECK(!both(bench.scratch / "none/small.gguf").is_ok());
  bench.options.bits = 5;
  CHECK(both(bench.path).code() == StatusCode::kInvalidArgument);
  bench.options.bits = 2;
  bench.options.chunk_tokens = 401;
  CHECK(both(bench.path).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("compress_model: fewer chunks and threads are held in less") {
  Bench bench(random_dense(DenseKind::kLlama, kWide));
  const uint64_t all = must(bench.compress()).memory.peak_bytes;
  bench.options.most_chunks = 1;
  const uint64_t few_chunks = must(bench.compress()).memory.peak_bytes;
  CHECK(few_chunks < all);
  bench.options.threads = 1;
  CHECK(must(bench.compress()).memory.peak_bytes < few_chunks);
}

TEST_CASE("compress_model: a lease that the system refuses is an error, and nothing is left") {
  Bench bench(random_dense(DenseKind::kLlama, {128, 256, 64, 1}));
  bench.options.host_bytes = 1 << 30;
  const uint64_t before = heap_allocations();
  CHECK(must(bench.compress()).memory.peak_bytes > 0);
  const uint64_t all = heap_allocations() - before;
  std::filesystem::remove(bench.path);
  for (uint64_t nth = 1; nth < all; nth += 1 + all / 100) {
    CAPTURE(nth, all);
    Status status;
    {
      const FailingAllocation failing(nth);
      status = bench.compress().status();
    }
    CHECK((status.code() == StatusCode::kOutOfMemory || status.is_ok()));
    if (status.is_ok()) std::filesystem::remove(bench.path);
    REQUIRE(bench.scratch.names() == std::vector<std::string>{"model.gguf"});
  }
}

}  // namespace
}  // namespace outrigger::testing
