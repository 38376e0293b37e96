// export_model: that backbone and adapter hold what the compressed model holds, that it says what is wrong, and that it leaves nothing
// behind when it does not write.
#include <outrigger/compress.h>
#include <outrigger/export_model.h>
#include <outrigger/pack.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>

#include "src/io/gguf.h"
#include "src/tensor/dequantize.h"
#include "tests/support/engines.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/support/random_directory.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/write_faults.h"

namespace outrigger::testing {
namespace {

namespace fs = std::filesystem;

std::vector<char> content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const std::string& path, std::span<const char> bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::string write_model(const ScratchFolder& scratch) {
  const std::vector<std::byte> bytes = random_dense();
  write(scratch / "model.gguf", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  return scratch / "model.gguf";
}

CompressOptions small_options(int bits, uint64_t branch_bytes = 0) {
  CompressOptions options;
  options.bits = bits;
  options.branch_bytes = branch_bytes;
  options.form = BranchForm::kLowRank;
  options.chunk_tokens = 32;
  options.most_chunks = 4;
  options.threads = 2;
  return options;
}

/// Compresses the model at `path` to small.gguf, and opens that.
Model compressed(const ScratchFolder& scratch, const CompressOptions& options, const std::string& path) {
  std::vector<Token> text(128);
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<Token>((i * i * 31 + i * 7) % 200);
  must(compress_model(must(Model::open(path)), text, scratch / "small.gguf", options));
  return must(Model::open(scratch / "small.gguf"));
}
Model compressed(const ScratchFolder& scratch, const CompressOptions& options) {
  return compressed(scratch, options, write_model(scratch));
}

ExportOptions with_adapter(const ScratchFolder& scratch) {
  ExportOptions options;
  options.adapter_path = scratch / "adapter.gguf";
  return options;
}

GgufFile open_gguf(const std::string& path) { return must(GgufFile::open(must(open_file(path)))); }

/// [rows, columns] of B A.
std::vector<double> product(const std::vector<float>& a, const std::vector<float>& b, size_t rank) {
  const size_t columns = a.size() / rank, rows = b.size() / rank;
  std::vector<double> all(rows * columns);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t j = 0; j < rank; ++j) {
      for (size_t column = 0; column < columns; ++column)
        all[row * columns + column] += static_cast<double>(b[row * rank + j]) * a[j * columns + column];
    }
  }
  return all;
}

/// In float32, without branches.
std::vector<float> bare_logits(const Model& model) {
  const Engine engine = open_engine(model, reference_setup());
  Session session = must(Session::open(engine, {0, 0.0f}));
  std::vector<float> all;
  const Token tokens[] = {5, 17, 120, 3, 64, 9, 180, 77};
  must(session.evaluate(tokens, [&](size_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); }));
  return all;
}

void check_near(const std::vector<float>& got, const std::vector<float>& want, double tolerance) {
  REQUIRE(got.size() == want.size());
  double most = 0;
  for (const float value : want) most = std::max(most, std::abs(static_cast<double>(value)));
  for (size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i, got[i], want[i]);
    if (!(std::abs(static_cast<double>(got[i]) - want[i]) <= tolerance * most)) FAIL();
  }
}

TEST_CASE("export_model: the backbone has the same values in types that all programs read, and the same logits") {
  const ScratchFolder scratch;
  CompressOptions mixed = small_options(4);
  mixed.mixed_bits = 3;
  for (const CompressOptions& options : {small_options(2), small_options(3), small_options(4), mixed, small_options(2, 60000)}) {
    CAPTURE(options.bits, options.mixed_bits, options.branch_bytes);
    const Model model = compressed(scratch, options);
    const ExportReport report = must(export_model(model, scratch / "backbone.gguf"));
    CHECK(report.input_bytes == fs::file_size(scratch / "small.gguf"));
    CHECK(report.backbone_bytes == fs::file_size(scratch / "backbone.gguf"));
    CHECK(report.adapter_bytes == 0);
    CHECK((report.branches > 0) == (options.branch_bytes > 0));
    CHECK(report.recoded_matrices == 21);
    const GgufFile before = open_gguf(scratch / "small.gguf"), after = open_gguf(scratch / "backbone.gguf");
    size_t kept = 0;
    for (const GgufTensor& tensor : before.tensors()) {
      CAPTURE(tensor.name);
      const GgufTensor* const now = after.find_tensor(tensor.name);
      if (tensor.name.find(".branch_") != std::string::npos) {
        CHECK(now == nullptr);
        continue;
      }
      ++kept;
      REQUIRE(now != nullptr);
      CHECK(now->dims == tensor.dims);
      const bool is_own = static_cast<uint32_t>(tensor.type) > kGgufOwnTypeBase;
      CHECK(now->type == (is_own ? DType::kQ4_1 : tensor.type));
      const std::vector<float> was = values(before, tensor), is = values(after, *now);
      REQUIRE(was.size() == is.size());
      CHECK(std::memcmp(was.data(), is.data(), was.size() * sizeof(float)) == 0);
    }
    CHECK(kept == after.tensors().size());
    for (const GgufValue& value : after.values()) CHECK_FALSE(value.key().starts_with("outrigger."));
    CHECK(must(must(after.require("general.file_type"))->as_u64()) == 3);
    CHECK(must(must(after.require("general.quantization_version"))->as_u64()) == 2);
    CHECK(must(must(after.require("llama.block_count"))->as_u64()) == 3);
    check_near(bare_logits(must(Model::open(scratch / "backbone.gguf"))), bare_logits(model), 1e-6);
  }
}

TEST_CASE("export_model: a codebook's weights become the nearest of float16, which is told, and its adapter goes with them") {
  const ScratchFolder scratch;
  CompressOptions options = small_options(3, 60000);
  options.levels = WeightLevels::kCodebook;
  const Model model = compressed(scratch, options);
  const ExportReport report = must(export_model(model, scratch / "backbone.gguf", with_adapter(scratch)));
  CHECK((report.branches > 0 && report.adapter_bytes > 0 && report.recoded_matrices == 21));
  const GgufFile before = open_gguf(scratch / "small.gguf"), after = open_gguf(scratch / "backbone.gguf");
  size_t rounded = 0;
  for (const GgufTensor& tensor : before.tensors()) {
    if (tensor.type != DType::kN3) continue;
    CAPTURE(tensor.name);
    const GgufTensor* const now = after.find_tensor(tensor.name);
    REQUIRE((now != nullptr && now->type == DType::kF16));
    const std::vector<float> was = values(before, tensor), is = values(after, *now);
    for (size_t i = 0; i < was.size(); ++i) REQUIRE(std::abs(was[i] - is[i]) <= std::abs(was[i]) * 0x1p-11f + 0x1p-25f);
    ++rounded;
  }
  CHECK(rounded == 21);
  CHECK(must(must(after.require("general.file_type"))->as_u64()) == 1);
  check_near(bare_logits(must(Model::open(scratch / "backbone.gguf"))), bare_logits(model), 3e-3);
}

TEST_CASE("export_model: other programs find the tensors where they look for them, one behind the other at multiples of 32") {
  const ScratchFolder scratch;
  const Model model = compressed(scratch, small_options(2, 60000));
  must(export_model(model, scratch / "backbone.gguf", with_adapter(scratch)));
  for (const char* name : {"backbone.gguf", "adapter.gguf"}) {
    const GgufFile file = open_gguf(scratch / name);
    CHECK(file.find("general.alignment") == nullptr);
    uint64_t next = file.tensors().front().offset;
    for (const GgufTensor& tensor : file.tensors()) {
      CHECK(tensor.offset == next);
      CHECK(tensor.name.size() < 64);
      next += (tensor.bytes + 31) / 32 * 32;
    }
    CHECK(next == fs::file_size(scratch / name));
  }
}

TEST_CASE("export_model: the adapter's products are the branches', up to the rounding that is told") {
  const ScratchFolder scratch;
  const Model model = compressed(scratch, small_options(2, 60000));
  const ExportReport report = must(export_model(model, scratch / "backbone.gguf", with_adapter(scratch)));
  CHECK(report.adapter_bytes == fs::file_size(scratch / "adapter.gguf"));
  CHECK(report.adapter_error > 0);
  CHECK(report.adapter_error < 0x1p-11);
  const GgufFile before = open_gguf(scratch / "small.gguf"), adapter = open_gguf(scratch / "adapter.gguf");
  CHECK(must(must(adapter.require("general.type"))->as_string()) == "adapter");
  CHECK(must(must(adapter.require("general.architecture"))->as_string()) == "llama");
  CHECK(must(must(adapter.require("adapter.type"))->as_string()) == "lora");
  CHECK(must(adapter.require("adapter.lora.alpha"))->type() == GgufType::kF32);
  CHECK(must(must(adapter.require("adapter.lora.alpha"))->as_f64()) == 0);
  size_t pairs = 0;
  for (const GgufTensor& a : before.tensors()) {
    if (!a.name.ends_with(".branch_a")) continue;
    ++pairs;
    const std::string matrix = a.name.substr(0, a.name.size() - 9);
    CAPTURE(matrix);
    const GgufTensor& b = *before.find_tensor(matrix + ".branch_b");
    const GgufTensor *lora_a = adapter.find_tensor(matrix + ".weight.lora_a"), *lora_b = adapter.find_tensor(matrix + ".weight.lora_b");
    REQUIRE((lora_a != nullptr && lora_b != nullptr));
    CHECK((lora_a->dims == a.dims && lora_b->dims == b.dims));
    CHECK((lora_a->type == DType::kF16 && lora_b->type == DType::kF16));
    const std::vector<double> want = product(values(before, a), values(before, b), a.dims[1]),
                              got = product(values(adapter, *lora_a), values(adapter, *lora_b), a.dims[1]);
    double error = 0, size = 0;
    for (size_t i = 0; i < want.size(); ++i) error += std::pow(got[i] - want[i], 2), size += std::pow(want[i], 2);
    CHECK(error > 0);
    CHECK(std::sqrt(error / size) < 3 * report.adapter_error);
  }
  CHECK(pairs == report.branches);
  CHECK(adapter.tensors().size() == 2 * pairs);
  const Model opened = must(Model::open(scratch / "adapter.gguf"));
  CHECK_FALSE(opened.info().can_run);
  CHECK(opened.info().why_not.find("adapter") != std::string::npos);
}

TEST_CASE("export_model: factors that float16 has no numbers for are float32") {
  const ScratchFolder scratch;
  compressed(scratch, small_options(2, 60000));
  std::vector<char> bytes = content(scratch / "small.gguf");
  std::string name;
  {
    const GgufFile file = open_gguf(scratch / "small.gguf");
    const auto found = std::find_if(file.tensors().begin(), file.tensors().end(),
                                    [](const GgufTensor& tensor) { return tensor.name.ends_with(".branch_b"); });
    REQUIRE(found->type == DType::kQ4_0);
    const uint16_t large = 0x7bff;  // 65504: some codes are -8, or 2 and more
    for (uint64_t at = found->offset; at < found->offset + found->bytes; at += 18) std::memcpy(bytes.data() + at, &large, 2);
    name = found->name;
  }
  write(scratch / "small.gguf", bytes);
  must(export_model(must(Model::open(scratch / "small.gguf")), scratch / "backbone.gguf", with_adapter(scratch)));
  const GgufFile before = open_gguf(scratch / "small.gguf"), adapter = open_gguf(scratch / "adapter.gguf");
  const std::string matrix = name.substr(0, name.size() - 9);
  const GgufTensor& factor = *adapter.find_tensor(matrix + ".weight.lora_b");
  CHECK(factor.type == DType::kF32);
  CHECK(values(adapter, factor) == values(before, *before.find_tensor(name)));
  CHECK(adapter.find_tensor(matrix + ".weight.lora_a")->type == DType::kF16);
}

TEST_CASE("export_model: from a directory rows, vectors and metadata become what converters make of them") {
  const std::string llama3 =
      "\"rope_theta\":10000.0,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
      "\"original_max_position_embeddings\":32},";
  for (const std::string& rope : {std::string(), llama3}) {
    CAPTURE(rope);
    const ScratchFolder scratch;
    write_random_directory(scratch.path / "model", rope);
    CompressOptions options = small_options(3, 60000);
    options.allocation = BranchAllocation::kUniform;  // so that queries have one, whatever they lose
    const Model model = compressed(scratch, options, scratch / "model");
    must(export_model(model, scratch / "backbone.gguf", with_adapter(scratch)));
    const GgufFile before = open_gguf(scratch / "small.gguf"), after = open_gguf(scratch / "backbone.gguf"),
                   adapter = open_gguf(scratch / "adapter.gguf");
    REQUIRE(before.find("llama.rope.halves") != nullptr);
    CHECK(after.find("llama.rope.halves") == nullptr);
    CHECK(after.find("llama.rope.scaling.type") == nullptr);
    CHECK((after.find_tensor("rope_freqs.weight") != nullptr) == !rope.empty());
    CHECK(must(after.require("llama.rope.freq_base"))->type() == GgufType::kF32);
    CHECK(must(after.require("llama.attention.layer_norm_rms_epsilon"))->type() == GgufType::kF32);
    for (const GgufTensor& tensor : after.tensors()) {
      if (tensor.rank == 1) CHECK(tensor.type == DType::kF32);
    }
    // Row 2 i of a head is row i of its first half, row 2 i + 1 is row i of its second.
    const auto check_turned = [](const std::vector<float>& was, const std::vector<float>& is, size_t columns) {
      REQUIRE(was.size() == is.size());
      for (size_t row = 0; row < is.size() / columns; ++row) {
        const size_t from = row / 32 * 32 + row % 32 / 2 + row % 2 * 16;
        for (size_t column = 0; column < columns; ++column) REQUIRE(is[row * columns + column] == was[from * columns + column]);
      }
    };
    for (const char* part : {"blk.1.attn_q.", "blk.2.attn_k."}) {
      for (const char* kind : {"weight", "bias"}) {
        const GgufTensor& tensor = *before.find_tensor(std::string(part) + kind);
        check_turned(values(before, tensor), values(after, *after.find_tensor(tensor.name)), tensor.rank == 1 ? 1 : tensor.dims[0]);
      }
    }
    int turned = 0;
    for (const GgufTensor& tensor : before.tensors()) {
      if (!tensor.name.ends_with("attn_q.branch_b")) continue;
      ++turned;
      std::vector<float> was = values(before, tensor);
      for (float& value : was) value = f16_to_float(float_to_f16(value));
      check_turned(was, values(adapter, *adapter.find_tensor(tensor.name.substr(0, tensor.name.size() - 8) + "weight.lora_b")),
                   tensor.dims[0]);
    }
    CHECK(turned > 0);
    check_near(bare_logits(must(Model::open(scratch / "backbone.gguf"))), bare_logits(model), 1e-5);
  }
}

TEST_CASE("export_model: the same model gives the same bytes, in the place of what stood there") {
  const ScratchFolder scratch;
  const Model model = compressed(scratch, small_options(2, 60000));
  write(scratch / "backbone.gguf", std::string("something"));
  must(export_model(model, scratch / "backbone.gguf", with_adapter(scratch)));
  const std::vector<char> backbone = content(scratch / "backbone.gguf"), adapter = content(scratch / "adapter.gguf");
  must(export_model(model, scratch / "backbone.gguf", with_adapter(scratch)));
  CHECK((content(scratch / "backbone.gguf") == backbone && content(scratch / "adapter.gguf") == adapter));
  must(export_model(model, scratch / "alone.gguf"));
  CHECK(content(scratch / "alone.gguf") == backbone);
}

TEST_CASE("export_model: what cannot be exported is refused with a reason, before a file is made") {
  const ScratchFolder scratch;
  const std::string original = write_model(scratch);
  CompressOptions sparse = small_options(2);
  sparse.branch_read_bytes = 5000;
  sparse.form = BranchForm::kSparse;
  const auto refusal = [&](const Model& model, const ExportOptions& options = {}) {
    return export_model(model, scratch / "backbone.gguf", options).status();
  };
  const auto check = [&](const Status& status, StatusCode code, const char* word) {
    CHECK(status.code() == code);
    CHECK(status.message().find(word) != std::string::npos);
    CHECK_FALSE(fs::exists(scratch / "backbone.gguf"));
    CHECK_FALSE(fs::exists(scratch / "adapter.gguf"));
  };
  check(refusal(must(Model::open(original))), StatusCode::kInvalidArgument, "not compressed");
  check(refusal(compressed(scratch, sparse, original)), StatusCode::kUnsupported, "residuals");
  const Model plain = compressed(scratch, small_options(2), original);
  check(refusal(plain, with_adapter(scratch)), StatusCode::kInvalidArgument, "no low-rank branches");
  must(pack_model(plain, scratch / "packed.gguf"));
  check(refusal(must(Model::open(scratch / "packed.gguf"))), StatusCode::kUnsupported, "packed");
  const Model vocabulary = must(Model::open(std::string(OTR_SOURCE_DIR) + "/tests/golden/logits/q8_0-one-layer.gguf"));
  check(refusal(vocabulary), StatusCode::kInvalidArgument, "not compressed");
}

TEST_CASE("export_model: a path that is the model's, or the other one's, is refused, however it is spelled") {
  const ScratchFolder scratch;
  const Model model = compressed(scratch, small_options(2, 60000));
  const std::vector<char> before = content(scratch / "small.gguf");
  const auto code = [&](const std::string& backbone, const std::string& adapter) {
    ExportOptions options;
    options.adapter_path = adapter;
    return export_model(model, backbone, options).status().code();
  };
  CHECK(code(scratch / "small.gguf", "") == StatusCode::kInvalidArgument);
  CHECK(code(scratch / "backbone.gguf", scratch / "./small.gguf") == StatusCode::kInvalidArgument);
  CHECK(code(scratch / "one.gguf", scratch / "one.gguf") == StatusCode::kInvalidArgument);
  CHECK(code(scratch / "one.gguf", scratch / "./one.gguf") == StatusCode::kInvalidArgument);
  write(scratch / "there.gguf", std::string("something"));
  fs::create_symlink(scratch.path / "there.gguf", scratch.path / "link.gguf");
  CHECK(code(scratch / "there.gguf", scratch / "link.gguf") == StatusCode::kInvalidArgument);
  CHECK(scratch.names() == std::vector<std::string>{"link.gguf", "model.gguf", "small.gguf", "there.gguf"});
  CHECK(content(scratch / "small.gguf") == before);
}

TEST_CASE("export_model: progress rises to 1; stopped at any of its calls nothing is left") {
  const ScratchFolder scratch;
  const Model model = compressed(scratch, small_options(2, 60000));
  const std::vector<std::string> names = scratch.names();
  std::vector<double> shares;
  ExportOptions options = with_adapter(scratch);
  options.progress = [&shares](double share) {
    shares.push_back(share);
    return true;
  };
  must(export_model(model, scratch / "backbone.gguf", options));
  REQUIRE(shares.size() > 30);
  CHECK(std::is_sorted(shares.begin(), shares.end()));
  CHECK((shares.front() == 0 && shares.back() == 1));
  for (const char* name : {"backbone.gguf", "adapter.gguf"}) fs::remove(scratch / name);
  for (size_t stop = 1; stop <= shares.size(); ++stop) {
    for (const char* how : {"return", "token", "throw"}) {
      CAPTURE(stop, how);
      size_t calls = 0;
      ExportOptions stopping = with_adapter(scratch);
      stopping.progress = [&](double) {
        if (++calls != stop) return true;
        if (how == std::string("throw")) throw std::runtime_error("a caller's mistake");
        if (how == std::string("token")) stopping.cancel.cancel();
        return how != std::string("return");
      };
      const Status status = export_model(model, scratch / "backbone.gguf", stopping).status();
      CHECK(status.code() == (how == std::string("throw") ? StatusCode::kInternal : StatusCode::kCancelled));
      CHECK(scratch.names() == names);
    }
  }
}

TEST_CASE(
    "export_model: whichever call of the system fails while writing, it is an error that names the file; a backbone is never left without "
    "its adapter") {
  const ScratchFolder scratch;
  const Model model = compressed(scratch, small_options(2, 60000));
  const std::vector<std::string> names = scratch.names();
  for (const bool nameless : {true, false}) {
    int failures = 0;
    std::map<std::string, int> blamed;
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
        status = export_model(model, scratch / "backbone.gguf", with_adapter(scratch)).status();
      }
      if (failed.empty()) break;
      if (!status.is_ok()) {
        ++failures;
        CHECK(status.code() == StatusCode::kIo);
        CHECK(status.message().find("No space left") != std::string::npos);
        ++blamed[status.file()];
        CHECK_FALSE(fs::exists(scratch / "backbone.gguf"));
      } else {
        CHECK(failed == "fsync");  // flushing the folder, which not all file systems can
        fs::remove(scratch / "backbone.gguf");
      }
      fs::remove(scratch / "adapter.gguf");
      CHECK(scratch.names() == names);
    }
    CHECK(failures > 60);
    CHECK(blamed.size() == 2);
    CHECK((blamed.contains(scratch / "backbone.gguf") && blamed.contains(scratch / "adapter.gguf")));
    for (const char* name : {"backbone.gguf", "adapter.gguf"}) CHECK(fs::remove(scratch / name));
  }
}

TEST_CASE("export_model: a place that cannot be written to is an error, and so is a model that changes meanwhile") {
  const ScratchFolder scratch;
  const Model model = compressed(scratch, small_options(2, 60000));
  const std::vector<std::string> names = scratch.names();
  for (const std::string& path : {std::string(), scratch.path.string(), scratch / "no/file.gguf", std::string("/proc/file.gguf")}) {
    CAPTURE(path);
    CHECK(export_model(model, path, with_adapter(scratch)).status().code() == StatusCode::kIo);
    ExportOptions options;
    options.adapter_path = path;
    if (!path.empty()) CHECK(export_model(model, scratch / "backbone.gguf", options).status().code() == StatusCode::kIo);
    CHECK(scratch.names() == names);
  }
  for (const bool meanwhile : {true, false}) {
    const Model changing = must(Model::open(scratch / "small.gguf"));
    const auto change = [&] {
      fs::last_write_time(scratch / "small.gguf", fs::last_write_time(scratch / "small.gguf") + std::chrono::hours(1));
    };
    if (!meanwhile) change();
    ExportOptions options = with_adapter(scratch);
    options.progress = [&, calls = 0](double) mutable {
      if (++calls == 3 && meanwhile) change();
      return true;
    };
    CHECK(export_model(changing, scratch / "backbone.gguf", options).status().code() == StatusCode::kIo);
    CHECK(scratch.names() == names);
  }
}

}  // namespace
}  // namespace outrigger::testing
