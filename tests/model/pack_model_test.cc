// pack_model: what it writes, and that it leaves nothing behind when it does not.
#include <outrigger/pack.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>

#include "src/io/gguf.h"
#include "src/tensor/packed.h"
#include "tests/support/engines.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/write_faults.h"

namespace outrigger::testing {
namespace {

namespace fs = std::filesystem;

std::vector<std::byte> content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  const auto view = std::as_bytes(std::span(bytes));
  return {view.begin(), view.end()};
}

GgufFile gguf(const std::string& path) { return must(GgufFile::open(must(open_file(path)))); }

std::vector<std::byte> tensor_bytes(const GgufFile& file, const GgufTensor& tensor) {
  std::vector<std::byte> bytes(tensor.bytes);
  must(file.source().read(tensor.offset, bytes));
  return bytes;
}

std::string pack_tiny(const ScratchFolder& scratch, const std::string& name) {
  const std::string path = scratch / (name + ".packed.gguf");
  must(pack_model(must(Model::open(tiny_model_path(name))), path));
  return path;
}

constexpr const char* kModels[] = {"tied-q4_1",      "odd-f32", "llama3-mixed", "linear-f16",
                                   "q8_0-one-layer", "qwen2",   "qwen3",        "llama-biases"};

TEST_CASE("pack_model: writes what docs/formats.md says, byte for byte as a script makes it from that page") {
  const ScratchFolder scratch;
  must(pack_model(must(Model::open(OTR_BAD_GGUF_DIR "/valid.gguf")), scratch / "packed.gguf"));
  CHECK((content(scratch / "packed.gguf") == content(OTR_BAD_GGUF_DIR "/valid_packed.gguf")));
}

TEST_CASE("pack_model: matrices are packed and stand in the order of a step, small tensors before them as they were, metadata untouched") {
  const ScratchFolder scratch;
  for (const char* name : kModels) {
    CAPTURE(name);
    const std::string path = pack_tiny(scratch, name);
    const GgufFile before = gguf(tiny_model_path(name)), after = gguf(path);

    for (const GgufValue& value : before.values()) {
      if (value.key() == "general.alignment") continue;
      const GgufValue* kept = after.find(value.key());
      REQUIRE(kept != nullptr);
      CHECK((kept->type() == value.type() && kept->element_type() == value.element_type() && kept->count() == value.count()));
      CHECK(std::equal(kept->raw().begin(), kept->raw().end(), value.raw().begin(), value.raw().end()));
    }
    CHECK(must(must(after.require("general.alignment"))->as_u64()) == 4096);
    CHECK(must(must(after.require("outrigger.packed.layout"))->as_u64()) == 1);

    const Model model = must(Model::open(path));
    CHECK(model.info().is_packed);
    CHECK_FALSE(must(Model::open(tiny_model_path(name))).info().is_packed);
    const StepShape shape = must(model.step_shape());
    const size_t fixed = after.tensors().size() - shape.matrices.size();
    REQUIRE(after.tensors().size() == before.tensors().size());
    for (size_t i = 0; i < after.tensors().size(); ++i) {
      const GgufTensor& tensor = after.tensors()[i];
      const GgufTensor* original = before.find_tensor(tensor.name);
      REQUIRE(original != nullptr);
      CAPTURE(tensor.name);
      CHECK((tensor.type == original->type && tensor.dims == original->dims && tensor.rank == original->rank));
      CHECK(tensor.offset % 4096 == 0);
      if (i > 0) CHECK(tensor.offset > after.tensors()[i - 1].offset);
      const bool is_multiplied = i >= fixed && shape.matrices[i - fixed].use != MatrixUse::kRowLookup;
      if (i >= fixed) CHECK(tensor.name == shape.matrices[i - fixed].name);
      CHECK(tensor.is_packed == is_multiplied);
      std::vector<std::byte> expected = tensor_bytes(before, *original);
      if (is_multiplied) {
        std::vector<std::byte> packed(packed_bytes(*packed_kind(tensor.type), tensor.dims[1], tensor.dims[0]));
        pack_rows(tensor.type, expected.data(), tensor.dims[1], tensor.dims[0], packed.data());
        expected = std::move(packed);
        CHECK((shape.matrices[i - fixed].is_packed && shape.matrices[i - fixed].file_bytes == tensor.bytes));
      }
      CHECK((tensor_bytes(after, tensor) == expected));
    }
    const std::vector<TensorInfo> listed = model.tensors();
    CHECK(listed.back().type == traits(after.tensors().back().type).name);
    CHECK(listed.back().is_packed == after.tensors().back().is_packed);
  }
}

TEST_CASE("pack_model: packing what is packed writes the same bytes, and so do a file's bytes in memory") {
  const ScratchFolder scratch;
  for (const char* name : kModels) {
    CAPTURE(name);
    const std::string once = pack_tiny(scratch, name);
    must(pack_model(must(Model::open(once)), scratch / "twice.gguf"));
    CHECK((content(scratch / "twice.gguf") == content(once)));
    const std::vector<std::byte> bytes = content(tiny_model_path(name));
    must(pack_model(must(Model::open_memory(bytes)), scratch / "from_memory.gguf"));
    CHECK((content(scratch / "from_memory.gguf") == content(once)));
  }
}

TEST_CASE("pack_model: another engine sees types that it does not know") {
  const ScratchFolder scratch;
  const std::vector<std::byte> bytes = content(pack_tiny(scratch, "tied-q4_1"));
  const std::string name = "blk.0.attn_q.weight";
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  const auto at = std::search(text, text + bytes.size(), name.begin(), name.end());
  REQUIRE(at != text + bytes.size());
  uint32_t rank, type;
  std::memcpy(&rank, at + name.size(), 4);
  std::memcpy(&type, at + name.size() + 4 + 8 * rank, 4);
  CHECK(type == 1000003);  // Q4_1 is 3
}

TEST_CASE("pack_model: the model's own file is never replaced, under whatever name, nor a file of its directory") {
  const ScratchFolder scratch;
  fs::copy(tiny_model_path("tied-q4_1"), scratch / "model.gguf");
  fs::create_hard_link(scratch / "model.gguf", scratch / "hard");
  fs::create_symlink("model.gguf", scratch / "soft");
  const std::vector<std::byte> before = content(scratch / "model.gguf");
  const Model model = must(Model::open(scratch / "model.gguf"));
  for (const std::string& path : {scratch / "model.gguf", scratch / "hard", scratch / "soft", scratch / "./model.gguf"}) {
    const Status status = pack_model(model, path);
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(status.file() == path);
  }
  CHECK((content(scratch / "model.gguf") == before));

  fs::copy(std::string(OTR_SOURCE_DIR) + "/tests/golden/hf/qwen2", scratch.path / "folder");
  const Model folder = must(Model::open(scratch / "folder"));
  for (const auto& entry : fs::directory_iterator(scratch / "folder")) {
    CHECK(pack_model(folder, entry.path().string()).code() == StatusCode::kInvalidArgument);
  }
  CHECK(pack_model(folder, scratch / "folder/packed.gguf").is_ok());  // a new name is nobody's
}

TEST_CASE("pack_model: a model that cannot run is refused with the reason, before a file is made") {
  const ScratchFolder scratch;
  std::vector<std::byte> bytes = content(tiny_model_path("tied-q4_1"));
  const std::string architecture = "llama";
  auto* text = reinterpret_cast<char*>(bytes.data());
  const std::string key = "general.architecture";
  const auto at = std::search(text, text + bytes.size(), key.begin(), key.end());
  std::memcpy(std::search(at, text + bytes.size(), architecture.begin(), architecture.end()), "unima", 5);
  const Model model = must(Model::open_memory(bytes));
  const Status status = pack_model(model, scratch / "packed.gguf");
  CHECK(status.code() == StatusCode::kUnsupported);
  CHECK(status.message() == model.info().why_not);
  CHECK(scratch.names().empty());
}

TEST_CASE("pack_model: progress rises to 1; stopped at any of its calls nothing is left, and what stood there stays") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(tiny_model_path("llama3-mixed")));
  const std::string path = scratch / "packed.gguf";
  std::vector<double> shares;
  PackOptions options;
  options.progress = [&shares](double share) {
    shares.push_back(share);
    return true;
  };
  must(pack_model(model, path, options));
  REQUIRE(shares.size() > 10);
  CHECK(std::is_sorted(shares.begin(), shares.end()));
  CHECK((shares.front() == 0 && shares.back() == 1));

  for (const bool replaces : {true, false}) {
    if (!replaces) fs::remove(path);
    const std::vector<std::string> names = scratch.names();
    const std::vector<std::byte> before = content(path);
    for (size_t stop = 1; stop <= shares.size(); ++stop) {
      for (const char* how : {"return", "token", "throw"}) {
        CAPTURE(replaces, stop, how);
        size_t calls = 0;
        PackOptions stopping;
        stopping.progress = [&](double) {
          if (++calls != stop) return true;
          if (how == std::string("throw")) throw std::runtime_error("a caller's mistake");
          if (how == std::string("token")) stopping.cancel.cancel();
          return how != std::string("return");
        };
        const Status status = pack_model(model, path, stopping);
        if (how == std::string("token") && stop == shares.size()) {  // too late: only the name was missing
          CHECK(status.is_ok());
          if (!replaces) fs::remove(path);
          continue;
        }
        CHECK(status.code() == (how == std::string("throw") ? StatusCode::kInternal : StatusCode::kCancelled));
        CHECK(scratch.names() == names);
        CHECK((content(path) == before));
      }
    }
  }
}

TEST_CASE("pack_model: whichever call of the system fails while writing, it is an error that names the file, and nothing is left") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(tiny_model_path("q8_0-one-layer")));
  for (const bool nameless : {true, false}) {
    int failures = 0;
    for (int nth = 1;; ++nth) {
      CAPTURE(nameless, nth);
      int calls = 0;
      std::string failed;
      Status status;
      {
        const WriteFaults faults([&](const std::string& call) {
          if (call == "access") return nameless ? 0 : ENOENT;
          if (++calls != nth) return 0;
          failed = call;
          return ENOSPC;
        });
        status = pack_model(model, scratch / "packed.gguf");
      }
      if (failed.empty()) break;
      if (status.is_ok()) {  // flushing the folder, which not all file systems can
        CHECK(failed == "fsync");
        fs::remove(scratch / "packed.gguf");
        continue;
      }
      ++failures;
      CHECK(status.code() == StatusCode::kIo);
      CHECK(status.file() == scratch / "packed.gguf");
      CHECK(status.message().find("No space left") != std::string::npos);
      CHECK(scratch.names().empty());
    }
    CHECK(failures > 20);
    CHECK(scratch.names() == std::vector<std::string>{"packed.gguf"});
    fs::remove(scratch / "packed.gguf");
  }
}

TEST_CASE("pack_model: a file larger than the process may write is an error, told before anything is written where the system can") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(tiny_model_path("llama3-mixed")));
  const auto before = ::signal(SIGXFSZ, SIG_IGN);  // else the first byte too many ends the process
  struct rlimit limit;
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &limit) == 0);
  for (const bool reserves : {true, false}) {
    for (const rlim_t most : {0, 1000, 100'000}) {
      CAPTURE(reserves, most);
      const struct rlimit small = {most, limit.rlim_max};
      REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
      Status status;
      {
        const WriteFaults faults([reserves](const std::string& call) { return call == "fallocate" && !reserves ? EOPNOTSUPP : 0; });
        status = pack_model(model, scratch / "packed.gguf");
      }
      REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
      CHECK(status.code() == StatusCode::kIo);
      CHECK(status.message().find("File too large") != std::string::npos);
      CHECK(scratch.names().empty());
    }
  }
  ::signal(SIGXFSZ, before);
}

TEST_CASE("pack_model: a place that cannot be written to is an error") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(tiny_model_path("tied-q4_1")));
  for (const std::string& path : {std::string(), scratch.path.string(), scratch / "no/packed.gguf", std::string("/proc/packed.gguf")}) {
    CAPTURE(path);
    CHECK(pack_model(model, path).code() == StatusCode::kIo);
  }
  fs::permissions(scratch.path, fs::perms::owner_read | fs::perms::owner_exec);
  if (::geteuid() != 0) CHECK(pack_model(model, scratch / "packed.gguf").code() == StatusCode::kIo);
  fs::permissions(scratch.path, fs::perms::owner_all);
  CHECK(scratch.names().empty());
}

TEST_CASE("pack_model: a model that is changed or cut before or while it is packed is an error, and nothing is left") {
  const ScratchFolder scratch;
  const std::string input = scratch / "model.gguf";
  for (const char* how : {"touched", "cut", "another directory"}) {
    for (const bool meanwhile : {false, true}) {
      CAPTURE(how, meanwhile);
      const bool is_folder = how == std::string("another directory");
      if (is_folder) {
        fs::copy(std::string(OTR_SOURCE_DIR) + "/tests/golden/hf/qwen2", input);
      } else {
        fs::copy(tiny_model_path("llama3-mixed"), input);
      }
      const Model model = must(Model::open(input));
      const auto change = [&] {
        if (how == std::string("touched")) fs::last_write_time(input, fs::file_time_type::clock::now() + std::chrono::hours(1));
        if (how == std::string("cut")) fs::resize_file(input, fs::file_size(input) / 2);
        if (is_folder) {
          for (const auto& entry : fs::directory_iterator(input)) {
            if (entry.path().extension() == ".safetensors") fs::resize_file(entry.path(), fs::file_size(entry.path()) - 1);
          }
        }
      };
      if (!meanwhile) change();
      PackOptions options;
      options.progress = [&, calls = 0](double) mutable {
        if (++calls == 3 && meanwhile) change();
        return true;
      };
      CHECK(pack_model(model, scratch / "packed.gguf", options).code() == StatusCode::kIo);
      CHECK(scratch.names() == std::vector<std::string>{"model.gguf"});
      fs::remove_all(input);
    }
  }
}

}  // namespace
}  // namespace outrigger::testing
