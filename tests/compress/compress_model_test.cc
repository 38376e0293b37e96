// compress_model: what it writes, that it says what is wrong, and that it leaves nothing behind when it does not write.
#include <outrigger/compress.h>
#include <outrigger/pack.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <stdexcept>

#include "src/compress/quantiser.h"
#include "src/io/gguf.h"
#include "src/model/model_impl.h"
#include "src/tensor/dequantize.h"
#include "src/tensor/own_form.h"
#include "tests/support/random_shape.h"
#include "tests/support/engines.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/write_faults.h"

namespace outrigger::testing {
namespace {

std::vector<std::byte> content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  const auto view = std::as_bytes(std::span(bytes));
  return {view.begin(), view.end()};
}

/// The random model as a file of the folder.
std::string write_model(const ScratchFolder& scratch, const std::vector<std::byte>& bytes = random_dense()) {
  std::ofstream(scratch / "model.gguf", std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return scratch / "model.gguf";
}

std::vector<Token> text(const Model&, size_t tokens) {
  std::vector<Token> all(tokens);
  for (size_t i = 0; i < tokens; ++i) all[i] = static_cast<Token>((i * i * 31 + i * 7) % 200);
  return all;
}

CompressOptions few_chunks(int bits = 4) {
  CompressOptions options;
  options.bits = bits;
  options.chunk_tokens = 32;
  options.most_chunks = 6;
  options.threads = 2;
  return options;
}

TEST_CASE("compress_model: layers' matrices are in the new type and near what they were, everything else is as it was") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(write_model(scratch)));
  const GgufFile before = must(GgufFile::open(must(open_file(scratch / "model.gguf"))));
  double last_error = 0;
  for (const auto& [bits, type] :
       {std::pair{4, DType::kO4}, {3, DType::kO3}, {2, DType::kO2}, {4, DType::kN4}, {3, DType::kN3}, {2, DType::kN2}}) {
    CAPTURE(traits(type).name);
    CompressOptions options = few_chunks(bits);
    if (own_form(type).has_codebook) options.levels = WeightLevels::kCodebook;
    if (bits == 4) last_error = 0;
    const CompressReport report = must(compress_model(model, text(model, 300), scratch / "small.gguf", options));
    CHECK(report.calibration_tokens == 192);
    CHECK(report.output_bytes == std::filesystem::file_size(scratch / "small.gguf"));
    CHECK(static_cast<double>(report.backbone_bytes) * 8 == static_cast<double>(report.backbone_weights) * (bits + 0.5));
    const GgufFile after = must(GgufFile::open(must(open_file(scratch / "small.gguf"))));
    REQUIRE(after.tensors().size() == before.tensors().size());
    double error = 0, size = 0;
    uint64_t weights = 0;
    for (const GgufTensor& tensor : before.tensors()) {
      CAPTURE(tensor.name);
      const GgufTensor* const now = after.find_tensor(tensor.name);
      REQUIRE(now != nullptr);
      REQUIRE(now->dims == tensor.dims);
      const bool is_of_layer = tensor.rank == 2 && tensor.name.starts_with("blk.");
      REQUIRE(now->type == (is_of_layer ? type : tensor.type));
      const std::vector<float> was = values(before, tensor), is = values(after, *now);
      if (!is_of_layer) REQUIRE(was == is);
      if (!is_of_layer) continue;
      weights += tensor.elements();
      for (size_t i = 0; i < was.size(); ++i) error += std::pow(was[i] - is[i], 2), size += std::pow(was[i], 2);
    }
    CHECK(weights == report.backbone_weights);
    CHECK(error / size > 1.5 * last_error);
    CHECK(error / size < (bits == 4 ? 0.02 : bits == 3 ? 0.08 : 0.35));
    last_error = error / size;
  }
}

TEST_CASE("compress_model: the first layer's queries are quantised by their own inputs, as much damped as their bits ask for") {
  constexpr size_t kTokens = 192;
  const ScratchFolder scratch;
  const Model model = must(Model::open(write_model(scratch)));
  const GgufFile before = must(GgufFile::open(must(open_file(scratch / "model.gguf"))));
  const std::vector<float> embedding = values(before, *before.find_tensor("token_embd.weight")),
                           norm = values(before, *before.find_tensor("blk.0.attn_norm.weight")),
                           queries = values(before, *before.find_tensor("blk.0.attn_q.weight"));
  const size_t width = norm.size();
  std::vector<float> inputs;
  for (const Token token : text(model, kTokens)) {
    const std::span row = std::span(embedding).subspan(static_cast<size_t>(token) * width, width);
    double squares = 1e-5 * static_cast<double>(width);
    for (const float value : row) squares += std::pow(static_cast<double>(value), 2);
    const double scale = std::sqrt(static_cast<double>(width) / squares);
    for (size_t i = 0; i < width; ++i) inputs.push_back(static_cast<float>(row[i] * scale) * norm[i]);
  }
  const auto team = must(ThreadTeam::create(2));
  Gram gram(width);
  gram.add(inputs, *team);
  std::vector<float> diagonal;
  for (size_t i = 0; i < width; ++i) diagonal.push_back(static_cast<float>(gram.mean(i, i)));
  for (const int bits : {2, 3, 4}) {
    must(compress_model(model, text(model, kTokens), scratch / "small.gguf", few_chunks(bits)));
    const GgufFile after = must(GgufFile::open(must(open_file(scratch / "small.gguf"))));
    const std::vector<float> got = values(after, *after.find_tensor("blk.0.attn_q.weight"));
    // Weights that are not as they would be; roundings of the inputs may make a few.
    const auto others = [&](const FeedbackDamping& damping) {
      const LeasedVector<float> feedback = must(feedback_factor(gram, damping, *team));
      const LowBitMatrix made = must(quantise_matrix(queries, queries.size() / width, width, {diagonal, feedback}, {bits}, *team));
      std::vector<float> expected(queries.size());
      must(dequantize(made.type, made.bytes.data(), expected.data(), expected.size()));
      size_t different = 0;
      for (size_t i = 0; i < got.size(); ++i) different += std::abs(got[i] - expected[i]) > 1e-3f * std::abs(expected[i]);
      return different;
    };
    CAPTURE(bits);
    CHECK(others(feedback_damping(bits)) < queries.size() / 50);
    CHECK(others({kDamping, bits == 2 ? 0.3 : 0}) > queries.size() / 10);
  }
}

TEST_CASE("compress_model: groups of 128 take a quarter of a bit less, run packed or not, in any budget, with branches and mixed bits") {
  const ScratchFolder scratch;
  const Model model =
      must(Model::open(write_model(scratch, random_dense(DenseKind::kLlamaWide, [](const std::string&, std::vector<float>&) {}))));
  const auto logits = [&](const Model& of, EngineSetup setup) {
    const Engine engine = open_engine(of, setup);
    Session session = must(Session::open(engine));
    std::vector<float> all;
    must(session.evaluate(text(model, 8), [&](size_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); }));
    return all;
  };
  for (const WeightLevels levels : {WeightLevels::kUniform, WeightLevels::kCodebook}) {
    CompressOptions options = few_chunks(3);
    options.levels = levels;
    options.group_weights = 128;
    const CompressReport report = must(compress_model(model, text(model, 300), scratch / "small.gguf", options));
    CHECK(static_cast<double>(report.backbone_bytes) * 8 == static_cast<double>(report.backbone_weights) * 3.25);
    const Model small = must(Model::open(scratch / "small.gguf"));
    CHECK(small.tensors()[small.tensors().size() - 1].type == (levels == WeightLevels::kUniform ? "O3_128" : "N3_128"));
    const std::vector<float> got = logits(small, {});
    EngineSetup tight;
    tight.host_bytes = smallest_budget(small, tight) + 4096;
    CHECK(logits(small, tight) == got);
    must(pack_model(small, scratch / "packed.gguf"));
    CHECK(logits(must(Model::open(scratch / "packed.gguf")), {}) == got);
    options.mixed_bits = 2.75;
    options.branch_bytes = 60000;
    options.form = BranchForm::kLowRank;
    options.polish_steps = 2;
    const CompressReport mixed = must(compress_model(model, text(model, 300), scratch / "mixed.gguf", options));
    CHECK(static_cast<double>(mixed.backbone_bytes) * 8 <= static_cast<double>(mixed.backbone_weights) * 2.75);
    CHECK(mixed.branch_bytes > 0);
    CHECK(logits(must(Model::open(scratch / "mixed.gguf")), {}).size() == got.size());
    for (const double wrong : {2.2, 4.3}) {
      options.mixed_bits = wrong;
      CHECK(compress_model(model, text(model, 300), scratch / "mixed.gguf", options).status().code() == StatusCode::kInvalidArgument);
    }
  }
}

TEST_CASE("compress_model: the file runs, packed or not, in any budget, and stays near the model in its logits") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(write_model(scratch)));
  const std::vector<Token> tokens = text(model, 96);
  const auto logits = [&](const Model& of, EngineSetup setup) {
    const Engine engine = open_engine(of, setup);
    Session session = must(Session::open(engine));
    std::vector<float> all;
    must(session.evaluate(std::span(tokens).first(8),
                          [&](size_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); }));
    return all;
  };
  const std::vector<float> expected = logits(model, reference_setup());
  must(compress_model(model, text(model, 300), scratch / "small.gguf", few_chunks()));
  const Model small = must(Model::open(scratch / "small.gguf"));
  const std::vector<float> got = logits(small, {});
  double distance = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) distance += std::pow(got[i] - expected[i], 2), size += std::pow(expected[i], 2);
  CHECK(distance / size < 0.1);  // of random weights, which have nothing that inputs could help to spare
  EngineSetup tight;
  tight.host_bytes = smallest_budget(small, tight) + 4096;
  CHECK(logits(small, tight) == got);
  must(pack_model(small, scratch / "packed.gguf"));
  CHECK(logits(must(Model::open(scratch / "packed.gguf")), {}) == got);
}

TEST_CASE("compress_model: the same input gives the same bytes, for any number of threads, from a file or its packed form") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(write_model(scratch)));
  must(compress_model(model, text(model, 300), scratch / "a.gguf", few_chunks(3)));
  for (const uint32_t threads : {1u, 3u}) {
    CompressOptions options = few_chunks(3);
    options.threads = threads;
    must(compress_model(model, text(model, 300), scratch / "b.gguf", options));
    CHECK((content(scratch / "a.gguf") == content(scratch / "b.gguf")));
  }
  must(pack_model(model, scratch / "packed.gguf"));
  must(compress_model(must(Model::open(scratch / "packed.gguf")), text(model, 300), scratch / "c.gguf", few_chunks(3)));
  const GgufFile a = must(GgufFile::open(must(open_file(scratch / "a.gguf")))),
                 c = must(GgufFile::open(must(open_file(scratch / "c.gguf"))));
  for (const GgufTensor& tensor : a.tensors()) {
    if (tensor.type == DType::kO3) CHECK(values(a, tensor) == values(c, *c.find_tensor(tensor.name)));
  }
}

TEST_CASE("compress_model: branches take at most their budget, and the same input gives the same bytes, with training too") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(write_model(scratch)));
  for (const BranchAllocation allocation : {BranchAllocation::kMeasured, BranchAllocation::kUniform}) {
    CompressOptions options = few_chunks(2);
    options.allocation = allocation;
    options.form = BranchForm::kLowRank;
    options.branch_bytes = 100;
    CHECK(compress_model(model, text(model, 300), scratch / "a.gguf", options).status().code() == StatusCode::kInvalidArgument);
    options.branch_bytes = 80000;
    options.polish_steps = 3;
    const CompressReport report = must(compress_model(model, text(model, 300), scratch / "a.gguf", options));
    CHECK(report.branch_bytes > 0);
    CHECK(report.branch_bytes <= 80000);
    CHECK(report.branch_read_bytes == report.branch_bytes);
    CHECK(report.output_bytes == std::filesystem::file_size(scratch / "a.gguf"));
    options.threads = 3;
    must(compress_model(model, text(model, 300), scratch / "b.gguf", options));
    CHECK((content(scratch / "a.gguf") == content(scratch / "b.gguf")));
  }
  CompressOptions options = few_chunks(2);
  options.form = BranchForm::kSparse;
  options.branch_read_bytes = 5000;
  const CompressReport report = must(compress_model(model, text(model, 300), scratch / "a.gguf", options));
  CHECK(report.branch_read_bytes <= 5000);
  CHECK(report.branch_read_bytes > 4900);
  CHECK(report.branch_bytes > 5 * report.branch_read_bytes);
  options.threads = 1;
  must(compress_model(model, text(model, 300), scratch / "b.gguf", options));
  CHECK((content(scratch / "a.gguf") == content(scratch / "b.gguf")));
  options.method = BranchMethod::kHcinfer;
  CHECK(compress_model(model, text(model, 300), scratch / "c.gguf", options).status().code() == StatusCode::kInvalidArgument);
  const Model made = must(Model::open(scratch / "a.gguf"));
  CHECK(compress_model(made, text(made, 300), scratch / "c.gguf", few_chunks(2)).status().code() == StatusCode::kUnsupported);
}

TEST_CASE(
    "compress_model: a trained backbone is a file of the same size with the same codes, nearer to the model, by any number of threads") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(write_model(scratch)));
  const std::vector<Token> tokens = text(model, 1200);
  for (const PolishScope scope : {PolishScope::kEndToEnd, PolishScope::kBlock}) {
    CompressOptions options = few_chunks(2);
    options.most_chunks = 30;
    const CompressReport bare = must(compress_model(model, tokens, scratch / "bare.gguf", options));
    CHECK(bare.polish_scope == PolishScope::kAuto);
    options.polish_steps = 20;
    options.polish_scope = scope;
    options.polish_target = PolishTarget::kBackbone;
    const CompressReport report = must(compress_model(model, tokens, scratch / "a.gguf", options));
    CHECK(report.polish_scope == scope);
    REQUIRE(report.is_polish_kept);
    CHECK(report.polish_kl_after < report.polish_kl_before);
    CHECK(report.output_bytes == bare.output_bytes);
    options.threads = 3;
    must(compress_model(model, tokens, scratch / "b.gguf", options));
    CHECK((content(scratch / "a.gguf") == content(scratch / "b.gguf")));

    const Model before = must(Model::open(scratch / "bare.gguf")), after = must(Model::open(scratch / "a.gguf"));
    for (const GgufTensor& tensor : before.impl()->file.tensors()) {
      CAPTURE(tensor.name);
      std::vector<std::byte> was(tensor.bytes), is(tensor.bytes);
      must(before.impl()->file.source().read(tensor.offset, was));
      must(after.impl()->file.source().read(after.impl()->file.find_tensor(tensor.name)->offset, is));
      const bool is_norm =
          tensor.name.find("norm") != std::string::npos && (scope == PolishScope::kEndToEnd || tensor.name != "output_norm.weight");
      CHECK((was == is) == !(is_norm || is_own_type(tensor.type)));
      if (!is_own_type(tensor.type)) continue;
      for (size_t at = 0; at < was.size(); ++at) {
        if (at % traits(tensor.type).block_bytes >= 4) REQUIRE(was[at] == is[at]);
      }
    }
  }
}

TEST_CASE(
    "compress_model: matrices with residuals keep their scales while others and norms are trained; a disk that fails then leaves nothing") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(write_model(scratch)));
  CompressOptions options = few_chunks(2);
  options.polish_steps = 5;
  options.polish_target = PolishTarget::kBoth;
  options.branch_bytes = 60000;
  options.branch_read_bytes = 12000;
  const CompressReport report = must(compress_model(model, text(model, 300), scratch / "both.gguf", options));
  CHECK(std::any_of(report.matrices.begin(), report.matrices.end(), [](const auto& matrix) { return matrix.share > 0; }));
  CHECK(report.is_polish_kept);
  const Model made = must(Model::open(scratch / "both.gguf"));
  CHECK(made.impl()->run_status.is_ok());
  std::filesystem::remove(scratch / "both.gguf");
  const WriteFaults faults([](const std::string& call) { return call == "pwrite" ? EIO : 0; });
  const Status status = compress_model(model, text(model, 300), scratch / "both.gguf", options).status();
  CHECK(status.code() == StatusCode::kIo);
  CHECK(status.file() == scratch / "both.gguf");
  CHECK(scratch.names() == std::vector<std::string>{"model.gguf"});
}

TEST_CASE("compress_model: of both forms each matrix has one at most, within both budgets, and they are nearer than either alone") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(write_model(scratch)));
  CompressOptions options = few_chunks(2);
  options.branch_bytes = 90000;
  options.branch_read_bytes = 12000;
  options.scattered_read_cost = 3;  // of matrices so small the branches are as large as residuals
  const auto restored = [&](BranchForm form) {
    options.form = form;
    const CompressReport report = must(compress_model(model, text(model, 300), scratch / "a.gguf", options));
    CHECK(report.branch_bytes <= options.branch_bytes);
    CHECK(report.branch_read_bytes <= options.branch_read_bytes);
    double kl = 0;
    for (const CompressedMatrixReport& matrix : report.matrices) {
      CHECK((matrix.rank == 0 || matrix.share == 0));
      kl += matrix.kl * matrix.restored;
    }
    return kl;
  };
  const double low_rank = restored(BranchForm::kLowRank), sparse = restored(BranchForm::kSparse), both = restored(BranchForm::kAuto);
  CHECK(both > low_rank);
  CHECK(both > sparse);
  // The file runs, and trained with residuals beside its branches it is the same whatever the threads.
  options.polish_steps = 2;
  const CompressReport report = must(compress_model(model, text(model, 300), scratch / "a.gguf", options));
  options.threads = 3;
  must(compress_model(model, text(model, 300), scratch / "b.gguf", options));
  CHECK((content(scratch / "a.gguf") == content(scratch / "b.gguf")));
  const auto any = [&report](auto which) { return std::any_of(report.matrices.begin(), report.matrices.end(), which); };
  CHECK(any([](const CompressedMatrixReport& matrix) { return matrix.rank > 0; }));
  CHECK(any([](const CompressedMatrixReport& matrix) { return matrix.share > 0; }));
  CHECK(must(Model::open(scratch / "a.gguf")).info().can_run);
}

TEST_CASE("compress_model: a slowdown is a budget of bytes by the machine's rates") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(write_model(scratch)));
  CompressOptions options = few_chunks(2);
  options.max_slowdown = 0.1;
  const auto code = [&] { return compress_model(model, text(model, 300), scratch / "a.gguf", options).status().code(); };
  CHECK(code() == StatusCode::kInvalidArgument);  // of which machine
  options.machine = two_cores();
  options.machine->host_stream_bytes.per_s = 1e8;  // so that a model so small takes long
  const auto reads = [&] { return must(compress_model(model, text(model, 300), scratch / "a.gguf", options)).branch_read_bytes; };
  const uint64_t half = reads();
  CHECK(half > 0);
  options.max_slowdown = 0.4;
  CHECK(reads() > half);
  options.max_slowdown = 1e-6;
  CHECK(code() == StatusCode::kInvalidArgument);  // the nodes alone take longer
  options.max_slowdown = 0.1;
  options.branch_read_bytes = 1000;
  CHECK(code() == StatusCode::kInvalidArgument);
}

TEST_CASE("compress_model: ranks by the score of HCInfer keep the budget, and need low-rank branches") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(write_model(scratch)));
  CompressOptions options = few_chunks(2);
  options.allocation = BranchAllocation::kHcinfer;
  options.branch_bytes = 60000;
  const CompressReport report = must(compress_model(model, text(model, 300), scratch / "a.gguf", options));
  CHECK((report.branch_bytes > 0 && report.branch_bytes <= 60000));
  options.form = BranchForm::kSparse;
  CHECK(compress_model(model, text(model, 300), scratch / "a.gguf", options).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("compress_model: mixed bits are at most the mean that was asked for") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(write_model(scratch)));
  CompressOptions options = few_chunks();
  options.mixed_bits = 3;
  const CompressReport report = must(compress_model(model, text(model, 300), scratch / "a.gguf", options));
  const double bits = static_cast<double>(report.backbone_bytes) * 8 / static_cast<double>(report.backbone_weights);
  CHECK(bits <= 3);
  CHECK(bits > 2.7);
  for (const double wrong : {2.4, 4.6, -1.0}) {
    options.mixed_bits = wrong;
    CHECK(compress_model(model, text(model, 300), scratch / "a.gguf", options).status().code() == StatusCode::kInvalidArgument);
  }
}

TEST_CASE("compress_model: stopped during survey or training, nothing is left") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(write_model(scratch)));
  CompressOptions options = few_chunks(2);
  options.branch_bytes = 15000;
  options.polish_steps = 2;
  std::vector<double> shares;
  options.progress = [&shares](double share) {
    shares.push_back(share);
    return true;
  };
  must(compress_model(model, text(model, 300), scratch / "small.gguf", options));
  CHECK(std::is_sorted(shares.begin(), shares.end()));
  CHECK((shares.front() == 0 && shares.back() == Approx(1)));
  std::filesystem::remove(scratch / "small.gguf");
  for (size_t stop = 1; stop <= shares.size(); stop += 3) {
    size_t calls = 0;
    options.progress = [&](double) { return ++calls != stop; };
    CHECK(compress_model(model, text(model, 300), scratch / "small.gguf", options).status().code() == StatusCode::kCancelled);
    CHECK(scratch.names() == std::vector<std::string>{"model.gguf"});
  }
}

TEST_CASE("compress_model: progress rises to 1; stopped at any of its calls nothing is left") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(write_model(scratch)));
  std::vector<double> shares;
  CompressOptions options = few_chunks();
  options.progress = [&shares](double share) {
    shares.push_back(share);
    return true;
  };
  must(compress_model(model, text(model, 64), scratch / "small.gguf", options));
  REQUIRE(shares.size() > 4);
  CHECK(std::is_sorted(shares.begin(), shares.end()));
  CHECK((shares.front() == 0 && shares.back() == 1));
  std::filesystem::remove(scratch / "small.gguf");
  for (size_t stop = 1; stop <= shares.size(); ++stop) {
    for (const bool throws : {false, true}) {
      size_t calls = 0;
      CompressOptions stopping = few_chunks();
      stopping.progress = [&](double) {
        if (++calls == stop && throws) throw std::runtime_error("a caller's mistake");
        return calls != stop;
      };
      CHECK(compress_model(model, text(model, 64), scratch / "small.gguf", stopping).status().code() ==
            (throws ? StatusCode::kInternal : StatusCode::kCancelled));
      CHECK(scratch.names() == std::vector<std::string>{"model.gguf"});
    }
  }
}

TEST_CASE("compress_model: a full disk is an error that names the file, and nothing is left") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(write_model(scratch)));
  for (int nth = 1; nth < 12; ++nth) {
    CAPTURE(nth);
    int writes = 0;
    const WriteFaults faults([&](const std::string& call) { return call == "write" && ++writes == nth ? ENOSPC : 0; });
    const Status status = compress_model(model, text(model, 64), scratch / "small.gguf", few_chunks()).status();
    CHECK(status.code() == StatusCode::kIo);
    CHECK(status.file() == scratch / "small.gguf");
    CHECK(scratch.names() == std::vector<std::string>{"model.gguf"});
  }
}

TEST_CASE("compress_model: what cannot be compressed is refused with a reason, before a file is made") {
  const ScratchFolder scratch;
  const Model model = must(Model::open(write_model(scratch)));
  const std::string path = scratch / "small.gguf";
  const auto code = [&](const Model& of, std::vector<Token> tokens, const CompressOptions& options) {
    return compress_model(of, tokens, path, options).status().code();
  };
  CHECK(code(model, text(model, 31), few_chunks()) == StatusCode::kInvalidArgument);
  CHECK(code(model, {}, few_chunks()) == StatusCode::kInvalidArgument);
  std::vector<Token> strange = text(model, 64);
  for (const Token token : {-1, Token{200}}) {
    strange[5] = token;
    CHECK(code(model, strange, few_chunks()) == StatusCode::kInvalidArgument);
  }
  CHECK(code(model, text(model, 64), few_chunks(5)) == StatusCode::kInvalidArgument);
  CompressOptions options = few_chunks();
  options.group_weights = 128;
  CHECK(code(model, text(model, 64), options) == StatusCode::kUnsupported);
  options.group_weights = 32;
  CHECK(code(model, text(model, 64), options) == StatusCode::kInvalidArgument);
  options.group_weights = 64;
  options.levels = static_cast<WeightLevels>(2);
  CHECK(code(model, text(model, 64), options) == StatusCode::kInvalidArgument);
  options.levels = WeightLevels::kUniform;
  options.polish_target = static_cast<PolishTarget>(3);
  CHECK(code(model, text(model, 64), options) == StatusCode::kInvalidArgument);
  options.polish_target = PolishTarget::kBackbone;
  options.polish_steps = 1;
  options.method = BranchMethod::kHcinfer;
  CHECK(code(model, text(model, 64), options) == StatusCode::kInvalidArgument);
  options = few_chunks();
  options.most_chunks = 0;
  CHECK(code(model, text(model, 64), options) == StatusCode::kInvalidArgument);
  CHECK(compress_model(model, text(model, 64), scratch / "model.gguf", few_chunks()).status().code() == StatusCode::kInvalidArgument);
  const Model spoilt = must(Model::open(write_model(scratch, random_dense([](const std::string& name, std::vector<float>& values) {
                                                      if (name == "blk.1.ffn_up.weight")
                                                        values[77] = std::numeric_limits<float>::quiet_NaN();
                                                    }))));
  const Status status = compress_model(spoilt, text(spoilt, 64), path, few_chunks()).status();
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.subject() == "blk.1.ffn_up.weight");
  const Model mixture = must(Model::open(tiny_model_path("mixtral"))), odd = must(Model::open(tiny_model_path("odd-f32")));
  CHECK(code(mixture, std::vector<Token>(64, 1), few_chunks()) == StatusCode::kUnsupported);
  CHECK(code(odd, std::vector<Token>(64, 1), few_chunks()) == StatusCode::kUnsupported);
  // Which page
  CHECK(write_compress_page(model, path, few_chunks(), CompressReport(), CompressQuality()).code() == StatusCode::kInvalidArgument);
  CHECK(scratch.names() == std::vector<std::string>{"model.gguf"});
}

}  // namespace
}  // namespace outrigger::testing
