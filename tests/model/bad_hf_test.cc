// Every malformed Hugging Face directory of the catalogue gives its error; so does every one that is damaged at random; and memory may run
// out.
#include <outrigger/model.h>
#include <time.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "src/base/bytes.h"
#include "tests/support/bad_gguf.h"
#include "tests/support/engines.h"
#include "tests/support/heap_watch.h"

namespace outrigger::testing {
namespace {

namespace fs = std::filesystem;

// What a person gets who wants to run it: the error of opening, or the reason why it cannot run.
Status outcome(const std::string& folder) {
  const Result<Model> model = Model::open(folder);
  if (!model.is_ok()) return model.status();
  if (const Status status = model.value().step_shape().status(); !status.is_ok()) return status;
  return model.value().tokenizer().status();
}

uint64_t bytes_in(const std::string& folder) {
  uint64_t bytes = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    std::error_code is_no_file;
    const uint64_t size = entry.file_size(is_no_file);
    if (!is_no_file) bytes += size;
  }
  return bytes;
}

struct Measured {
  Status status;
  double cpu_seconds;
  uint64_t heap_bytes;
};

double cpu_seconds() {
  timespec now;
  REQUIRE(::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

Measured measure(const std::string& folder) {
  restart_heap_peak();
  const uint64_t before = heap_bytes();
  const double start = cpu_seconds();
  Status status = outcome(folder);
  return {std::move(status), cpu_seconds() - start, heap_peak_bytes() - before};
}

TEST_CASE("Directories: each malformed one gives its documented error within a second and 8 x its files + 1 MiB") {
  size_t rows = 0;
  for (const BadGguf& row : bad_ggufs(OTR_BAD_HF_DIR, "hf")) {
    INFO(row.file);
    const Measured measured = measure(row.file);
    CHECK(difference(row, measured.status) == "");
    CHECK(measured.status.file().starts_with(row.file));
    CHECK(measured.cpu_seconds < 1);
    CHECK(measured.heap_bytes <= 8 * bytes_in(row.file) + 1_MiB);
    ++rows;
  }
  CHECK(rows >= 330);
}

TEST_CASE("Directories: what streams from two files gives the tokens of what is resident") {
  const Model model = must(Model::open(OTR_BAD_HF_DIR "/valid_larger"));
  const std::vector<Token> prompt = {5, 6, 7, 8, 9};
  GenerateOptions options;
  options.max_tokens = 24;
  options.ignore_eos = true;
  EngineSetup setup{.context_tokens = 64};
  Session resident = must(Session::open(open_engine(model, setup)));
  setup.host_bytes = smallest_budget(model, setup);
  const Engine engine = open_engine(model, setup);
  Session streaming = must(Session::open(engine));
  CHECK(must(streaming.generate(prompt, options)).tokens == must(resident.generate(prompt, options)).tokens);
  CHECK(engine.streamed().disk_bytes > 0);
}

TEST_CASE("Directories: those that the catalogue is derived from run") {
  for (const char* name : {"/valid", "/valid_shards", "/valid_mixtral", "/valid_qwen2_moe", "/valid_qwen3_moe"}) {
    CAPTURE(name);
    const Model model = must(Model::open(OTR_BAD_HF_DIR + std::string(name)));
    Session session = must(Session::open(open_engine(model, {.context_tokens = 16})));
    must(session.prefill(must(must(model.tokenizer()).encode("hi", {.add_special = true}))));
    CHECK(session.logits().size() == 300);
  }
}

/// A copy of a valid directory, of which a test may spoil one file at a time.
class Copy {
 public:
  explicit Copy(const std::string& name) : folder_(fs::temp_directory_path() / ("otr_hf_" + name + std::to_string(::getpid()))) {
    fs::remove_all(folder_);
    fs::copy(OTR_BAD_HF_DIR + ("/" + name), folder_);
  }
  ~Copy() { fs::remove_all(folder_); }
  std::string path() const { return folder_.string(); }
  std::string read(const std::string& file) const {
    std::ifstream in(folder_ / file, std::ios::binary);
    REQUIRE(in.good());
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& file, const std::string& content) const {
    std::ofstream out(folder_ / file, std::ios::binary | std::ios::trunc);
    out << content;
    out.close();
    REQUIRE(out.good());
  }

 private:
  fs::path folder_;
};

// It opens, or gives a documented error in one line, within the memory promised.
bool survives(const Copy& copy) {
  const Measured measured = measure(copy.path());
  if (measured.heap_bytes > 8 * bytes_in(copy.path()) + 1_MiB) FAIL(measured.heap_bytes << " bytes of memory");
  if (measured.status.is_ok()) return true;
  const StatusCode code = measured.status.code();
  if (code != StatusCode::kCorruptFile && code != StatusCode::kUnsupported && code != StatusCode::kNotFound)
    FAIL(measured.status.to_string());
  if (measured.status.message().empty() || measured.status.to_string().find('\n') != std::string::npos) FAIL(measured.status.to_string());
  return false;
}

struct Target {
  const char* folder;
  const char* file;
  size_t bit_step;  ///< every bit of a vocabulary would take minutes, and its middle is all alike
};

constexpr Target kTargets[] = {
    {"valid", "config.json", 1},
    {"valid", "tokenizer.json", 61},
    {"valid", "tokenizer_config.json", 1},
    {"valid", "generation_config.json", 1},
    {"valid_shards", "model.safetensors.index.json", 3},
    {"valid_shards", "tokenizer.json", 61},
};

TEST_CASE("Directories: any bit of any text file may be wrong, and any file may end anywhere") {
  for (const Target& target : kTargets) {
    const Copy copy(target.folder);
    const std::string original = copy.read(target.file);
    REQUIRE(survives(copy));
    for (size_t bit = 0; bit < original.size() * 8; bit += target.bit_step) {
      CAPTURE(target.file, bit);
      std::string changed = original;
      changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ 1 << bit % 8);
      copy.write(target.file, changed);
      (void)survives(copy);
    }
    for (size_t cut = 0; cut < original.size(); cut += target.bit_step) {
      CAPTURE(target.file, cut);
      copy.write(target.file, original.substr(0, cut));
      if (survives(copy)) FAIL("opened");
    }
    copy.write(target.file, original);
    CHECK(survives(copy));
  }
}

TEST_CASE("Directories: any value of the settings may be any of the dangerous ones") {
  static const char* const kValues[] = {"0",
                                        "1",
                                        "-1",
                                        "2147483647",
                                        "2147483648",
                                        "4294967295",
                                        "4294967296",
                                        "9223372036854775807",
                                        "18446744073709551615",
                                        "1e308",
                                        "1e-308",
                                        "0.5",
                                        "null",
                                        "true",
                                        "\"\"",
                                        "\"../x\"",
                                        "[]",
                                        "[[]]",
                                        "{}",
                                        "{\"type\":\"llama3\"}"};
  for (const Target& target : kTargets) {
    const Copy copy(target.folder);
    const std::string original = copy.read(target.file);
    size_t tried = 0;
    // From each colon to the end of a plain value, of a vocabulary some of them.
    for (size_t colon = original.find(": "); colon != std::string::npos; colon = original.find(": ", colon + 1)) {
      const size_t begin = colon + 2, end = original.find_first_of(",}", begin);
      if (original[begin] == '{' || original[begin] == '[' || tried++ % ((target.bit_step + 3) / 4) != 0) continue;
      for (const char* value : kValues) {
        CAPTURE(target.file, begin, value);
        copy.write(target.file, original.substr(0, begin) + value + original.substr(end));
        (void)survives(copy);
      }
    }
    CHECK(tried > 0);
  }
}

TEST_CASE("Directories: whichever allocation fails while one is opened, the call says OUT_OF_MEMORY or does without, and nothing leaks") {
  for (const char* name : {"/valid", "/valid_shards", "/valid_qwen2_moe"}) {
    const std::string folder = OTR_BAD_HF_DIR + std::string(name);
    must(outcome(folder));
    const uint64_t before = heap_bytes();
    bool reached_end = false;
    for (uint64_t nth = 1; !reached_end && nth < 20000; ++nth) {
      Status status;
      {
        const FailingAllocation failing(nth);
        status = outcome(folder);
        reached_end = !failing.has_happened();
      }
      INFO(nth << ": " << status.to_string());
      REQUIRE((status.is_ok() || status.code() == StatusCode::kOutOfMemory));
    }
    CHECK(reached_end);
    CHECK(heap_bytes() <= before + 64_KiB);
  }
}

}  // namespace
}  // namespace outrigger::testing
