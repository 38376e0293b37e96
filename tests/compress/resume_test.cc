// Going on with an interrupted compressing: wherever it was stopped and whatever became of what it kept, the bytes are those of a run
// without a stop.
#include <outrigger/compress.h>
#include <outrigger/log.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>
#include <iterator>
#include <limits>
#include <stdexcept>

#include "src/io/journal.h"
#include "tests/support/engines.h"
#include "tests/support/few_cases.h"
#include "tests/support/random_dense.h"
#include "tests/support/random_mixture.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/write_faults.h"

namespace outrigger::testing {
namespace {

constexpr size_t kStride = kIsSanitized ? 42 : 1;  // between the calls at which a run is stopped

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void put(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::vector<Token> text(int step = 7) {
  std::vector<Token> all(64);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<Token>((i * i * 31 + i * static_cast<size_t>(step)) % 200);
  return all;
}

/// What the library said at warning level while this lived.
struct Warnings {
  Warnings() {
    set_log_sink([this](LogLevel, std::string_view line) { lines.emplace_back(line); });
  }
  ~Warnings() { set_log_sink({}); }
  bool have(const std::string& part) const {
    return std::any_of(lines.begin(), lines.end(), [&part](const std::string& line) { return line.find(part) != std::string::npos; });
  }
  std::vector<std::string> lines;
};

/// A model, and a file that its compressing is to give.
struct Bench {
  explicit Bench(const std::vector<std::byte>& bytes = random_dense()) {
    put(scratch / "model.gguf", std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    model.emplace(must(Model::open(scratch / "model.gguf")));
  }

  Result<CompressReport> compress(const CompressOptions& options) const { return compress_model(*model, text(), out(), options); }
  /// Cancelled at the nth of its calls for progress. Whether it came so far.
  bool stop_at(size_t nth, CompressOptions options) const {
    size_t calls = 0;
    options.progress = [&](double) { return ++calls != nth; };
    const auto report = compress(options);
    if (!report.is_ok()) CHECK(report.status().code() == StatusCode::kCancelled);
    return !report.is_ok();
  }
  std::string expected(CompressOptions options) const {
    options.resume = false;
    must(compress(options));
    return take();
  }
  std::string take() const {
    std::string bytes = content(out());
    std::filesystem::remove(out());
    return bytes;
  }
  std::string out() const { return scratch / "small.gguf"; }
  std::string progress() const { return scratch / "small.gguf.progress"; }
  /// Nothing but the model is there.
  bool is_clean() const { return scratch.names() == std::vector<std::string>{"model.gguf"}; }

  ScratchFolder scratch;
  std::optional<Model> model;
};

CompressOptions few_chunks(int bits = 2) {
  CompressOptions options;
  options.bits = bits;
  options.chunk_tokens = 32;
  options.threads = 1;
  options.rounds = 1;
  options.resume = true;
  return options;
}

struct Case {
  const char* name;
  CompressOptions options;
};

std::vector<Case> cases() {
  std::vector<Case> all = {{"bare", few_chunks(3)},
                           {"uniform branches", few_chunks()},
                           {"measured branches, trained", few_chunks()},
                           {"residuals", few_chunks()},
                           {"mixed bits", few_chunks()},
                           {"plain singular vectors", few_chunks()},
                           {"both forms, trained", few_chunks()},
                           {"trained layer by layer", few_chunks()},
                           {"branches and backbone trained", few_chunks()}};
  all[1].options.branch_bytes = 105000;
  all[1].options.allocation = BranchAllocation::kUniform;
  all[1].options.factor_bits = 8;
  all[2].options.branch_bytes = 20000;
  all[2].options.form = BranchForm::kLowRank;
  all[2].options.polish_steps = 2;
  all[3].options.branch_read_bytes = 5000;
  all[3].options.form = BranchForm::kSparse;
  all[4].options.mixed_bits = 3;
  all[5].options.method = BranchMethod::kHcinfer;
  all[6].options.branch_bytes = 60000;
  all[6].options.branch_read_bytes = 12000;
  all[6].options.scattered_read_cost = 3;
  all[6].options.polish_steps = 2;
  all[7].options = all[2].options;
  all[7].options.polish_scope = PolishScope::kBlock;
  all[8].options = all[1].options;
  all[8].options.polish_steps = 2;
  all[8].options.polish_target = PolishTarget::kBoth;
  return all;
}

TEST_CASE(
    "resume: cancelled at any call for progress and begun again with other threads, the bytes are those of one run, and nothing is left") {
  const Bench bench;
  for (const Case& one : cases()) {
    const std::string expected = bench.expected(one.options);
    const size_t stride = kStride * (one.options.polish_steps > 0 || one.options.branch_read_bytes > 0 ? 1 : 3);
    for (size_t nth = 1;; nth += stride) {
      CAPTURE(one.name, nth);
      if (!bench.stop_at(nth, one.options)) break;
      CHECK(!std::filesystem::exists(bench.out()));
      CHECK(std::filesystem::exists(bench.progress()) == (nth > 1));  // the first call is before anything was made
      CompressOptions options = one.options;
      options.threads = 1 + nth % 2;
      const Warnings warnings;
      must(bench.compress(options));
      CHECK(warnings.lines.empty());
      CHECK((bench.take() == expected));
      REQUIRE(bench.is_clean());
    }
    REQUIRE(bench.take() == expected);
    REQUIRE(bench.is_clean());
  }
}

// Two layers of windows for q, k and v, output, two of the shared expert, and five experts.
TEST_CASE(
    "resume: a mixture goes on after any expert with the bytes of one run, cancelled or killed, and says how many windows were there") {
  const Bench bench(random_mixture(MixtureKind::kQwen2));
  std::vector<Case> all = {
      {"bare", few_chunks(3)}, {"mixed bits", few_chunks()}, {"measured branches", few_chunks()}, {"measured residuals", few_chunks()}};
  all[1].options.mixed_bits = 3;
  all[2].options.branch_bytes = 20000;
  all[3].options.branch_read_bytes = 9000;
  for (const Case& one : all) {
    const std::string expected = bench.expected(one.options);
    for (size_t nth = 1;; nth += kStride) {
      CAPTURE(one.name, nth);
      if (!bench.stop_at(nth, one.options)) break;
      CompressOptions options = one.options;
      options.threads = 1 + nth % 2;
      const Warnings warnings;
      const CompressReport report = must(bench.compress(options));
      if (&one == &all[0]) CHECK(report.resumed_windows == nth - 1);
      CHECK(warnings.lines.empty());
      CHECK((bench.take() == expected));
      REQUIRE(bench.is_clean());
    }
    REQUIRE(bench.take() == expected);
  }
  const std::string expected = bench.expected(all[0].options);
  const CompressReport whole = must(bench.compress(all[0].options));
  for (const size_t nth : {size_t{5}, size_t{8}, size_t{13}, size_t{17}}) {
    const pid_t child = ::fork();
    if (child == 0) {
      size_t calls = 0;
      CompressOptions dying = all[0].options;
      dying.progress = [&](double) { return ++calls != nth || ::raise(SIGKILL) == 0; };
      ::_exit(bench.compress(dying).is_ok() ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
    const CompressReport report = must(bench.compress(all[0].options));
    CHECK(report.resumed_windows == nth - 1);
    REQUIRE(report.matrices.size() == whole.matrices.size());
    for (size_t i = 0; i < whole.matrices.size(); ++i) CHECK(report.matrices[i].loss == whole.matrices[i].loss);
    CHECK((bench.take() == expected));
    REQUIRE(bench.is_clean());
  }
}

TEST_CASE("resume: a window that was made is not made again, and who goes on is told where") {
  const Bench bench;
  constexpr uint32_t kLayers = 3;
  for (uint32_t windows = 1; windows <= 4 * kLayers; windows += windows < 4 ? 1 : 2) {
    REQUIRE(bench.stop_at(1 + windows, few_chunks()));
    CompressOptions options = few_chunks();
    std::vector<CompressResumption> told;
    options.on_resume = [&told](const CompressResumption& found) { told.push_back(found); };
    CHECK(must(bench.compress(options)).resumed_windows == windows);
    REQUIRE(told.size() == 1);
    CHECK(!told[0].is_surveying);
    CHECK(told[0].layers == kLayers);
    CHECK(told[0].layers_done == windows / 4);
  }
  // With a survey of as many windows, and ten measurements, in front.
  CompressOptions options = cases()[3].options;
  REQUIRE(bench.stop_at(6, options));
  std::vector<CompressResumption> told;
  options.on_resume = [&told](const CompressResumption& found) { told.push_back(found); };
  CHECK(must(bench.compress(options)).resumed_windows == 5);
  REQUIRE(told.size() == 1);
  CHECK((told[0].is_surveying && told[0].layers_done == 1));
  size_t calls = 0, surveyed = 0;
  CompressOptions watched = options;
  watched.progress = [&](double share) {
    ++calls;
    surveyed += share < 0.3 - 1e-9;
    return true;
  };
  must(bench.compress(watched));
  told.clear();
  REQUIRE(bench.stop_at(surveyed + 2, options));
  told.clear();
  CHECK(must(bench.compress(options)).resumed_windows == 0);
  REQUIRE(told.size() == 1);  // the survey's result was there
  CHECK((!told[0].is_surveying && told[0].layers_done == 0));
  options.on_resume = [](const CompressResumption&) { throw std::runtime_error("a caller's mistake"); };
  REQUIRE(bench.stop_at(6, few_chunks()));
  CompressOptions throws = few_chunks();
  throws.on_resume = options.on_resume;
  CHECK(bench.compress(throws).status().code() == StatusCode::kInternal);
  CHECK(std::filesystem::exists(bench.progress()));
}

TEST_CASE("resume: stopped again and again it comes to its end with the same bytes") {
  const Bench bench;
  for (const size_t which : {size_t{2}, size_t{3}}) {
    const Case one = cases()[which];
    CAPTURE(one.name);
    const std::string expected = bench.expected(one.options);
    // The second call comes after a new window, if the first one after what is there already: each attempt makes one at least, until
    // training.
    for (size_t attempt = 0, nth = 2; bench.stop_at(nth, one.options); ++attempt, nth += 2) REQUIRE(attempt < 100);
    CHECK((bench.take() == expected));
    CHECK(bench.is_clean());
  }
}

TEST_CASE("resume: a process killed at any call for progress leaves nothing under the file's name, and what it made is there") {
  const Bench bench;
  const size_t which = GENERATE(2, 7);  // trained together, and layer by layer
  const CompressOptions options = cases()[which].options;
  const std::string expected = bench.expected(options);
  uint32_t most = 0;
  for (size_t nth = 1;; nth += kStride) {
    CAPTURE(which, nth);
    const pid_t child = ::fork();
    if (child == 0) {
      size_t calls = 0;
      CompressOptions dying = options;
      dying.progress = [&](double) { return ++calls != nth || ::raise(SIGKILL) == 0; };
      ::_exit(bench.compress(dying).is_ok() ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    if (WIFEXITED(status)) {
      CHECK(WEXITSTATUS(status) == 0);
      break;
    }
    CHECK(!std::filesystem::exists(bench.out()));
    most = std::max(most, must(bench.compress(options)).resumed_windows);
    CHECK((bench.take() == expected));
    REQUIRE(bench.is_clean());
  }
  CHECK(most == 12);
  CHECK((bench.take() == expected));
}

TEST_CASE("resume: what was kept is cut or changed anywhere, and the bytes are the same") {
  const Bench bench;
  for (const size_t which : {size_t{1}, size_t{3}}) {
    const CompressOptions options = cases()[which].options;
    const std::string expected = bench.expected(options);
    for (const size_t nth : {size_t{6}, size_t{22}}) {  // in the survey and behind it, where there is one
      CAPTURE(which, nth);
      if (!bench.stop_at(nth, options)) {
        bench.take();
        continue;
      }
      const std::string kept = content(bench.progress());
      REQUIRE(kept.size() > 40000);
      for (size_t i = 0; i < 24; i += 2 * kStride) {
        const size_t place = i < 6 ? 8 + i * 11 : kept.size() * i / 24;  // the first eight say what kind of file it is
        std::string changed = kept;
        changed[place] = static_cast<char>(changed[place] ^ 1 << i % 8);
        for (const std::string& broken : {kept.substr(0, place), changed}) {
          CAPTURE(place);
          put(bench.progress(), broken);
          must(bench.compress(options));
          CHECK((bench.take() == expected));
          REQUIRE(bench.is_clean());
        }
      }
    }
  }
}

TEST_CASE("resume: another model, text, option, or file in its place is begun anew with a warning, with the right bytes") {
  const Bench bench;
  const CompressOptions options = cases()[1].options;
  const std::string expected = bench.expected(options);
  REQUIRE(bench.stop_at(6, options));
  const std::string kept = content(bench.progress());
  const auto finds = [&](const CompressOptions& asked, int step) {
    put(bench.progress(), kept);
    const Warnings warnings;
    const CompressReport report = must(compress_model(*bench.model, text(step), bench.out(), asked));
    CHECK(warnings.have("other work") == (report.resumed_windows == 0));
    return report.resumed_windows;
  };
  CHECK(finds(options, 7) == 5);
  CHECK((bench.take() == expected));
  CHECK(finds(options, 8) == 0);
  const std::vector<std::function<void(CompressOptions*)>> changes = {
      [](CompressOptions* o) { o->bits = 3; },
      [](CompressOptions* o) { o->mixed_bits = 3; },
      [](CompressOptions* o) { o->branch_bytes = 105001; },
      [](CompressOptions* o) { o->branch_bytes = 0, o->branch_read_bytes = 5000; },
      [](CompressOptions* o) { o->branch_read_bytes = 105000; },
      [](CompressOptions* o) { o->scattered_read_cost = 3.5; },
      [](CompressOptions* o) { o->form = BranchForm::kLowRank; },
      [](CompressOptions* o) { o->allocation = BranchAllocation::kMeasured; },
      [](CompressOptions* o) { o->method = BranchMethod::kHcinfer; },
      [](CompressOptions* o) { o->factor_bits = 4; },
      [](CompressOptions* o) { o->polish_steps = 1; },
      [](CompressOptions* o) { o->rounds = 0; },
      [](CompressOptions* o) { o->chunk_tokens = 64; },
      [](CompressOptions* o) { o->most_chunks = 1; }};
  for (size_t i = 0; i < changes.size(); i += kIsSanitized ? 5 : 1) {
    CompressOptions other = options;
    changes[i](&other);
    CHECK(finds(other, 7) == 0);
    const std::string made = bench.take();
    CHECK((made == bench.expected(other)));
  }
  // The same, but for one weight.
  const std::string model = content(bench.scratch / "model.gguf");
  std::string other = model;
  other[other.size() - 5000] = static_cast<char>(other[other.size() - 5000] ^ 1);
  put(bench.scratch / "model.gguf", other);
  put(bench.progress(), kept);
  const Warnings warnings;
  CHECK(must(compress_model(must(Model::open(bench.scratch / "model.gguf")), text(), bench.out(), options)).resumed_windows == 0);
  CHECK(warnings.have("other work"));
  put(bench.scratch / "model.gguf", model);
  CHECK(must(compress_model(must(Model::open(bench.scratch / "model.gguf")), text(), bench.out(), options)).resumed_windows == 0);
  CHECK((bench.take() == expected));
}

TEST_CASE(
    "resume: a file of another kind that has the progress's name is refused and left as it is; what is not resumed does not mind it") {
  const Bench bench;
  CompressOptions options = cases()[2].options;
  put(bench.progress(), "what somebody else wrote");
  const Status refused = bench.compress(options).status();
  CHECK(refused.code() == StatusCode::kInvalidArgument);
  CHECK(refused.file() == bench.progress());
  CHECK(content(bench.progress()) == "what somebody else wrote");
  options.resume = false;
  must(bench.compress(options));
  CHECK(content(bench.progress()) == "what somebody else wrote");
}

TEST_CASE("resume: off, or where nothing can be kept, it compresses all the same") {
  const Bench bench;
  const CompressOptions options = cases()[2].options;
  const std::string expected = bench.expected(options);
  CompressOptions off = options;
  off.resume = false;
  REQUIRE(bench.stop_at(12, off));
  CHECK(bench.is_clean());
  std::filesystem::create_directory(bench.progress());
  {
    const Warnings warnings;
    must(bench.compress(options));
    CHECK(warnings.have("not kept"));
    CHECK((bench.take() == expected));
  }
  std::filesystem::remove(bench.progress());
  {
    const Journal held = must(Journal::open(bench.progress(), 1, {}));
    const Warnings warnings;
    must(bench.compress(options));
    CHECK(warnings.have("another process"));
    CHECK((bench.take() == expected));
  }
  std::filesystem::remove(bench.progress());
  for (const char* const call : {"pwrite", "fdatasync", "ftruncate"}) {
    for (int nth = 1; nth < 40; nth += nth < 3 ? 1 : 9 * static_cast<int>(kStride)) {
      CAPTURE(call, nth);
      const Warnings warnings;
      int calls = 0;
      {
        const WriteFaults faults([&](const std::string& name) { return name == call && ++calls == nth ? ENOSPC : 0; });
        must(bench.compress(options));
      }
      CHECK(warnings.have("not kept") == (calls >= nth && calls == nth));
      CHECK((bench.take() == expected));
      REQUIRE(bench.is_clean());
    }
  }
}

TEST_CASE("resume: a disk that becomes full while it goes on from what is there") {
  const Bench bench;
  const std::string expected = bench.expected(few_chunks());
  REQUIRE(bench.stop_at(12, few_chunks()));
  std::string kept = content(bench.progress());
  constexpr size_t kInFirst = 14000,
                   kInSecond = 36000;  // of the two streams, of 16 KiB each; without them every layer is computed and its stream written
  for (const size_t place : {kInFirst, kInSecond}) kept[place] = static_cast<char>(~kept[place]);
  for (int nth = 0; nth < 8; ++nth) {
    CAPTURE(nth);
    put(bench.progress(), kept);
    const Warnings warnings;
    int calls = 0;
    CompressReport report;
    {
      const WriteFaults faults([&](const std::string& name) { return name == "pwrite" && ++calls == nth ? ENOSPC : 0; });
      report = must(bench.compress(few_chunks()));
    }
    CHECK(report.resumed_windows == 11);
    CHECK(warnings.have("not kept any more") == (nth > 0 && calls == nth));
    CHECK((bench.take() == expected));
    REQUIRE(bench.is_clean());
  }
}

TEST_CASE("resume: an error that will not go away takes what was kept with it, a full disk does not") {
  const Bench bench;
  CompressOptions options = few_chunks();
  {
    int writes = 0;
    const WriteFaults faults([&](const std::string& call) { return call == "write" && ++writes == 25 ? ENOSPC : 0; });
    CHECK(bench.compress(options).status().code() == StatusCode::kIo);
  }
  CHECK(std::filesystem::exists(bench.progress()));
  {
    const WriteFaults faults(
        [](const std::string& call) { return call == "write" ? ENOSPC : 0; });  // before anything is asked of what was kept
    CHECK(bench.compress(options).status().code() == StatusCode::kIo);
  }
  CHECK(must(bench.compress(options)).resumed_windows > 0);
  put(bench.scratch / "spoilt.gguf", [] {
    const std::vector<std::byte> bytes = random_dense([](const std::string& name, std::vector<float>& values) {
      if (name == "blk.1.ffn_up.weight") values[77] = std::numeric_limits<float>::quiet_NaN();
    });
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }());
  const Model spoilt = must(Model::open(bench.scratch / "spoilt.gguf"));
  CHECK(compress_model(spoilt, text(), bench.scratch / "other.gguf", options).status().code() == StatusCode::kInvalidArgument);
  CHECK(!std::filesystem::exists(bench.scratch / "other.gguf.progress"));
  std::filesystem::copy(bench.scratch / "model.gguf", bench.scratch / "x.gguf.progress");
  const Model misnamed = must(Model::open(bench.scratch / "x.gguf.progress"));
  CHECK(compress_model(misnamed, text(), bench.scratch / "x.gguf", options).status().code() == StatusCode::kInvalidArgument);
  CHECK(content(bench.scratch / "x.gguf.progress") == content(bench.scratch / "model.gguf"));
}

TEST_CASE("resume: where files need names, what a killed process left under one is taken away, and nothing else") {
  const Bench bench;
  const CompressOptions options = few_chunks();
  const std::string expected = bench.expected(options);
  const pid_t child = ::fork();
  if (child == 0) {
    size_t calls = 0;
    CompressOptions dying = options;
    dying.progress = [&](double) { return ++calls != 7 || ::raise(SIGKILL) == 0; };
    const WriteFaults faults([](const std::string& call) { return call == "access" ? ENOENT : 0; });  // no /proc: no files without names
    (void)bench.compress(dying);
    ::_exit(1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  const std::vector<std::string> left = bench.scratch.names();
  REQUIRE(left.size() == 3);
  REQUIRE(left[1].size() == std::string("small.gguf.123456").size());
  put(bench.scratch / "small.gguf.abcdef", "somebody else's");
  must(bench.compress(options));
  CHECK((bench.take() == expected));
  CHECK(bench.scratch.names() == std::vector<std::string>{"model.gguf", "small.gguf.abcdef"});
}

}  // namespace
}  // namespace outrigger::testing
