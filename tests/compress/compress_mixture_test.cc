// compress_model on mixtures of experts: what it writes runs like any model, and the text that it was calibrated on decides.
#include <outrigger/compress.h>
#include <outrigger/pack.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>

#include "src/compress/matrix_plan.h"
#include "src/compress/quantiser.h"
#include "src/forward/kl_meter.h"
#include "src/io/gguf.h"
#include "src/tensor/dequantize.h"
#include "tests/support/engines.h"
#include "tests/support/model_files.h"
#include "tests/support/random_directory.h"
#include "tests/support/random_mixture.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/write_faults.h"

namespace outrigger::testing {
namespace {

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<Token> text(size_t tokens, size_t step = 7) {
  std::vector<Token> all(tokens);
  for (size_t i = 0; i < tokens; ++i) all[i] = static_cast<Token>((i * i * 31 + i * step) % 200);
  return all;
}

CompressOptions few_chunks(int bits = 4) {
  CompressOptions options;
  options.bits = bits;
  options.chunk_tokens = 32;
  options.most_chunks = 8;
  options.threads = 2;
  return options;
}

std::vector<float> logits(const Model& model, const EngineSetup& setup, float share = 1) {
  const Engine engine = open_engine(model, setup);
  Session session = must(Session::open(engine, {0, share}));
  std::vector<float> all;
  must(session.evaluate(text(24), [&](size_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); }));
  return all;
}

double distance(const std::vector<float>& got, const std::vector<float>& wanted) {
  double lost = 0, size = 0;
  for (size_t i = 0; i < wanted.size(); ++i) lost += std::pow(got[i] - wanted[i], 2), size += std::pow(wanted[i], 2);
  return lost / size;
}

MatrixReader reader_of(const Model& model) {
  return [&model](MatrixIndex index) {
    return read_matrix(model.impl()->file.source(), model.impl()->layout->weights[index.matrix], index.expert);
  };
}

std::string kind_of(const std::string& name) {
  return name.find("_exps.") != std::string::npos || name.find("shexp") != std::string::npos || name.find("attn_") != std::string::npos
             ? "compressed"
             : "";
}

TEST_CASE(
    "compress_model: of every family's mixture stacks, shared expert and attention are in the new type, router and the rest as they were") {
  for (const MixtureKind kind : kMixtureKinds) {
    const ScratchFolder scratch;
    const Model model = write_and_open(scratch, random_mixture(kind));
    write_test_file(scratch / "stacked.gguf", random_mixture(kind == MixtureKind::kMixtralSplit ? MixtureKind::kMixtral : kind));
    const GgufFile before = must(GgufFile::open(must(open_file(scratch / "stacked.gguf"))));  // the same values under the names of stacks
    for (const auto& [bits, type, most] : {std::tuple{4, DType::kO4, 0.03}, {3, DType::kO3, 0.13}, {2, DType::kO2, 0.5}}) {
      CAPTURE(static_cast<int>(kind), bits);
      const CompressReport report = must(compress_model(model, text(300), scratch / "small.gguf", few_chunks(bits)));
      const GgufFile after = must(GgufFile::open(must(open_file(scratch / "small.gguf"))));
      CHECK(report.output_bytes == std::filesystem::file_size(scratch / "small.gguf"));
      REQUIRE(after.tensors().size() == before.tensors().size());
      uint64_t weights = 0, bytes = 0, rows = 0;
      for (const GgufTensor& tensor : before.tensors()) {
        CAPTURE(tensor.name);
        const GgufTensor* const now = after.find_tensor(tensor.name);
        REQUIRE(now != nullptr);
        REQUIRE((now->dims == tensor.dims && now->rank == tensor.rank));
        const bool is_compressed = tensor.rank > 1 && !kind_of(tensor.name).empty();
        REQUIRE(now->type == (is_compressed ? type : tensor.type));
        const std::vector<float> was = values(before, tensor), is = values(after, *now);
        if (!is_compressed) REQUIRE(was == is);
        if (!is_compressed) continue;
        weights += tensor.elements();
        bytes += now->bytes;
        ++rows;
        const uint64_t each = tensor.dims[0] * tensor.dims[1];
        for (size_t first = 0; first < was.size(); first += each) {  // every expert by itself
          const auto part = [&](const std::vector<float>& all) {
            return std::vector<float>(all.begin() + static_cast<ptrdiff_t>(first), all.begin() + static_cast<ptrdiff_t>(first + each));
          };
          CHECK(distance(part(is), part(was)) < most);
        }
      }
      CHECK((weights == report.backbone_weights && bytes == report.backbone_bytes));
      REQUIRE(report.matrices.size() == rows);
      uint64_t reported = 0;
      for (const CompressedMatrixReport& matrix : report.matrices) {
        CAPTURE(matrix.name);
        CHECK(matrix.experts == (matrix.name.find("_exps.") != std::string::npos ? 5 : 1));
        CHECK((matrix.loss > 0 && matrix.loss < most));
        reported += matrix.backbone_bytes;
      }
      CHECK(reported == bytes);
    }
  }
}

TEST_CASE(
    "compress_model: a compressed mixture runs resident, with experts that share slots, and packed, with the same bits, near the model") {
  for (const MixtureKind kind : kMixtureKinds) {
    const ScratchFolder scratch;
    const Model model = write_and_open(scratch, random_mixture(kind));
    const std::vector<float> expected = logits(model, reference_setup());
    double last = 0;
    for (const int bits : {4, 3, 2}) {
      CAPTURE(static_cast<int>(kind), bits);
      must(compress_model(model, text(300), scratch / "small.gguf", few_chunks(bits)));
      const Model small = must(Model::open(scratch / "small.gguf"));
      const std::vector<float> got = logits(small, {});
      const double lost = distance(got, expected);
      CHECK(lost > last);
      CHECK(lost < (bits == 4 ? 0.05 : bits == 3 ? 0.3 : 1));
      last = lost;
      EngineSetup tight;
      tight.host_bytes = smallest_budget(small, tight) + 4096;
      REQUIRE(must(plan_for(small, tight)).expert_slots > 0);
      CHECK(logits(small, tight) == got);
      must(pack_model(small, scratch / "packed.gguf"));
      const Model packed = must(Model::open(scratch / "packed.gguf"));
      CHECK(logits(packed, {}) == got);
      EngineSetup tight_packed;
      tight_packed.host_bytes = smallest_budget(packed, tight_packed) + 4096;
      CHECK(logits(packed, tight_packed) == got);
    }
  }
}

TEST_CASE("compress_model: a mixture is nearer itself in two bits when its inputs are known than when they are taken for noise") {
  for (const MixtureKind kind : {MixtureKind::kMixtral, MixtureKind::kQwen2, MixtureKind::kQwen3}) {
    CAPTURE(static_cast<int>(kind));
    const ScratchFolder scratch;
    const Model model = write_and_open(scratch, random_mixture(kind));
    const ModelLayout& layout = *model.impl()->layout;
    must(compress_model(model, text(640), scratch / "small.gguf", few_chunks(2)));
    const Model small = must(Model::open(scratch / "small.gguf"));
    const auto team = must(ThreadTeam::create(2));
    const std::vector<Token> other = text(96, 11);
    const auto meter = must(KlMeter::create(*model.impl(), other, 32, *team));
    CHECK(std::abs(must(meter->measure(reader_of(model)))) < 1e-9);
    const std::vector<uint32_t> compressed = matrices_of_layers(layout);
    const MatrixReader unknown = [&](MatrixIndex index) -> Result<LeasedVector<float>> {
      LeasedVector<float> all = must(reader_of(model)(index));
      if (std::find(compressed.begin(), compressed.end(), index.matrix) == compressed.end()) return all;
      const WeightSource& weight = layout.weights[index.matrix];
      const std::vector<float> ones(weight.columns, 1);
      const LowBitMatrix made = must(quantise_matrix(all, weight.rows, weight.columns, {ones, {}}, {2, true}, *team));
      must(dequantize(made.type, made.bytes.data(), all.data(), all.size()));
      return all;
    };
    const double with_gram = must(meter->measure(reader_of(small))), without = must(meter->measure(unknown));
    CAPTURE(with_gram, without);
    CHECK(with_gram < 0.8 * without);
  }
}

TEST_CASE("compress_model: a mixture gives the same bytes for any number of threads, with branches, residuals or mixed bits too") {
  for (const MixtureKind kind : {MixtureKind::kMixtral, MixtureKind::kQwen2}) {
    const ScratchFolder scratch;
    const Model model = write_and_open(scratch, random_mixture(kind));
    std::vector<CompressOptions> cases(6, few_chunks(2));
    cases[1].branch_bytes = 20000;
    cases[2].branch_read_bytes = 3000;
    cases[3].mixed_bits = 3;
    cases[4].method = BranchMethod::kHcinfer;
    cases[5].branch_read_bytes = 6000;
    cases[5].form = BranchForm::kSparse;
    cases[5].allocation = BranchAllocation::kUniform;
    for (CompressOptions& options : cases) {
      CAPTURE(static_cast<int>(kind), options.branch_bytes, options.branch_read_bytes, options.mixed_bits);
      const CompressReport report = must(compress_model(model, text(300), scratch / "a.gguf", options));
      for (const uint32_t threads : {1u, 3u}) {
        options.threads = threads;
        must(compress_model(model, text(300), scratch / "b.gguf", options));
        CHECK((content(scratch / "a.gguf") == content(scratch / "b.gguf")));
      }
      uint32_t corrected = 0, experts = 0;
      for (const CompressedMatrixReport& matrix : report.matrices) {
        CHECK((matrix.rank == 0 || matrix.experts == 1));
        corrected += matrix.rank > 0 || matrix.share > 0;
        experts += matrix.share > 0 && matrix.experts > 1;
      }
      CHECK((corrected > 0) == (&options != &cases[0] && options.mixed_bits == 0));
      CHECK((experts > 0) == (options.branch_read_bytes > 0));
      const double bits = static_cast<double>(report.backbone_bytes) * 8 / static_cast<double>(report.backbone_weights);
      if (options.mixed_bits > 0) CHECK((bits <= 3 && bits > 2.6));
      if (options.branch_bytes > 0) CHECK((report.branch_bytes <= options.branch_bytes && report.branch_bytes > options.branch_bytes / 2));
      CHECK(report.survey.kl_by_kind.size() == (report.survey.kl == 0 ? 0 : kind == MixtureKind::kQwen2 ? 10 : 7));
      const Model made = must(Model::open(scratch / "a.gguf"));
      const std::vector<float> resident = logits(made, {});
      EngineSetup tight;
      tight.host_bytes = smallest_budget(made, tight) + 4096;
      CHECK(logits(made, tight) == resident);
      must(pack_model(made, scratch / "packed.gguf"));
      CHECK(logits(must(Model::open(scratch / "packed.gguf")), {}) == resident);
    }
  }
}

// Inputs whose elements have little to do with each other, as far as that goes: a few columns of what a matrix lost say little where all
// errors make up for each other.
std::vector<std::byte> uncorrelated_mixture(MixtureKind kind) {
  return random_mixture(kind, [](const std::string& name, std::vector<float>& values) {
    if (name != "token_embd.weight") return;
    std::mt19937 random(3);
    std::normal_distribution<float> normal(0, 1);
    for (float& value : values) value = normal(random);
  });
}

TEST_CASE("compress_model: residuals of experts are counted as they are in the file, and as they are read by a token") {
  const ScratchFolder scratch;
  for (const MixtureKind kind : kMixtureKinds) {
    const Model model = write_and_open(scratch, uncorrelated_mixture(kind));
    for (const BranchAllocation allocation : {BranchAllocation::kUniform, BranchAllocation::kMeasured}) {
      CAPTURE(static_cast<int>(kind), static_cast<int>(allocation));
      CompressOptions options = few_chunks(2);
      options.branch_read_bytes = 20000;
      options.form = BranchForm::kSparse;
      options.allocation = allocation;
      const CompressReport report = must(compress_model(model, text(300), scratch / "small.gguf", options));
      const StepShape shape = must(must(Model::open(scratch / "small.gguf")).step_shape());
      uint64_t stored = 0, all_used = 0;
      double read = 0;
      for (const CompressedMatrixReport& matrix : report.matrices) {
        CAPTURE(matrix.name);
        const uint64_t used = std::min<uint64_t>(matrix.experts, 2), one = matrix.rows * matrix.columns * 18 / 32;
        CHECK(matrix.branch_bytes == (matrix.share > 0 ? matrix.experts * one : 0));
        CHECK(matrix.branch_read_bytes == static_cast<uint64_t>(matrix.share * static_cast<double>(used * one)));
        if (allocation == BranchAllocation::kUniform) CHECK(matrix.share == report.matrices.front().share);
        if (allocation == BranchAllocation::kUniform && matrix.experts > 1) CHECK(matrix.loss_left < matrix.loss);
        stored += matrix.branch_bytes, read += matrix.share * static_cast<double>(used * one),
            all_used += used * matrix.rows * matrix.columns;
      }
      CHECK((report.branch_bytes == stored && shape.residual_bytes == stored));
      CHECK((report.branch_read_bytes == static_cast<uint64_t>(read) && shape.residual_read_bytes_per_token == report.branch_read_bytes));
      CHECK((report.branch_read_bytes <= 20000 && report.branch_read_bytes > 18000));
      CHECK(report.used_weights == all_used);
    }
  }
}

TEST_CASE("compress_model: residuals bring a mixture nearer, and read whole nearly back") {
  const ScratchFolder scratch;
  for (const MixtureKind kind : {MixtureKind::kMixtral, MixtureKind::kQwen2}) {
    CAPTURE(static_cast<int>(kind));
    const Model model = write_and_open(scratch, uncorrelated_mixture(kind));
    const std::vector<float> expected = logits(model, reference_setup());
    const auto lost_with = [&](uint64_t reads, float share) {
      CompressOptions options = few_chunks(2);
      options.branch_read_bytes = reads;
      options.form = BranchForm::kSparse;
      options.allocation = BranchAllocation::kUniform;
      must(compress_model(model, text(640), scratch / "small.gguf", options));
      return distance(logits(must(Model::open(scratch / "small.gguf")), {}, share), expected);
    };
    const double bare = lost_with(1 << 20, 0), half = lost_with(34000, 1), whole = lost_with(1 << 20, 1);
    CAPTURE(bare, half, whole);
    CHECK(half < 0.7 * bare);
    CHECK(whole < 0.1 * bare);
  }
}

TEST_CASE("compress_model: from stacks, a tensor for each expert, or a packed file, the weights of a mixture become the same") {
  const ScratchFolder scratch;
  const Model stacked = write_and_open(scratch, random_mixture(MixtureKind::kMixtral));
  write_test_file(scratch / "split.gguf", random_mixture(MixtureKind::kMixtralSplit));
  must(pack_model(stacked, scratch / "packed.gguf"));
  must(compress_model(stacked, text(300), scratch / "a.gguf", few_chunks(3)));
  const GgufFile a = must(GgufFile::open(must(open_file(scratch / "a.gguf"))));
  for (const char* const name : {"split.gguf", "packed.gguf"}) {
    CAPTURE(name);
    must(compress_model(must(Model::open(scratch / name)), text(300), scratch / "b.gguf", few_chunks(3)));
    const GgufFile b = must(GgufFile::open(must(open_file(scratch / "b.gguf"))));
    size_t same = 0;
    for (const GgufTensor& tensor : a.tensors()) {
      if (tensor.type != DType::kO3) continue;
      REQUIRE(b.find_tensor(tensor.name) != nullptr);
      CHECK(values(a, tensor) == values(b, *b.find_tensor(tensor.name)));
      ++same;
    }
    CHECK(same == 14);
  }
}

/// The random Mixtral as a Hugging Face directory of float16, in which experts are tensors of their own.
void write_mixtral_directory(const std::filesystem::path& folder) {
  std::string header = "{", data;
  const auto add = [&](const std::string& name, const std::string& shape, std::span<const float> values) {
    const size_t begin = data.size();
    for (const float value : values) {
      const uint16_t bits = float_to_f16(value);
      data.append(reinterpret_cast<const char*>(&bits), 2);
    }
    header += std::string(header.size() > 1 ? "," : "") + "\"" + name + "\":{\"dtype\":\"F16\",\"shape\":[" + shape +
              "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(data.size()) + "]}";
  };
  random_mixture(MixtureKind::kMixtral, [&](const std::string& name, std::vector<float>& values) {
    const std::string layer = "model.layers." + name.substr(4, 1) + ".block_sparse_moe.";
    const std::pair<const char*, const char*> kParts[] = {{"ffn_gate_exps", "w1"}, {"ffn_up_exps", "w3"}, {"ffn_down_exps", "w2"}};
    for (const auto& [ours, theirs] : kParts) {
      if (name.find(ours) == std::string::npos) continue;
      const std::string shape = *theirs == 'w' && theirs[1] == '2' ? "64,128" : "128,64";
      for (size_t expert = 0; expert < 5; ++expert) {
        add(layer + "experts." + std::to_string(expert) + "." + theirs + ".weight", shape,
            std::span(values).subspan(expert * 64 * 128, 64 * 128));
      }
      return;
    }
    if (name.find("ffn_gate_inp") != std::string::npos) return add(layer + "gate.weight", "5,64", values);
    const bool is_vector = name.find("norm") != std::string::npos;
    add(hf_name(name), is_vector ? "64" : std::to_string(values.size() / 64) + ",64", values);
  });
  header += "}";
  std::filesystem::create_directory(folder);
  std::ofstream weights(folder / "model.safetensors", std::ios::binary);
  const uint64_t length = header.size();
  weights.write(reinterpret_cast<const char*>(&length), sizeof length);
  weights << header << data;
  std::ofstream(folder / "config.json")
      << "{\"model_type\":\"mixtral\",\"hidden_size\":64,\"intermediate_size\":128,\"num_hidden_layers\":2,\"num_attention_heads\":2,"
         "\"num_key_value_heads\":1,\"head_dim\":32,\"num_local_experts\":5,\"num_experts_per_tok\":2,\"max_position_embeddings\":256,"
         "\"rms_norm_eps\":1e-5,\"vocab_size\":200,\"hidden_act\":\"silu\",\"rope_theta\":10000.0,\"tie_word_embeddings\":true}";
}

TEST_CASE("compress_model: the experts of a Hugging Face directory become stacks, and the file runs near the model") {
  const ScratchFolder scratch;
  write_mixtral_directory(scratch / "mixtral");
  const Model model = must(Model::open(scratch / "mixtral"));
  const CompressReport report = must(compress_model(model, text(300), scratch / "small.gguf", few_chunks(4)));
  CHECK(report.matrices.back().name == "blk.1.ffn_down_exps.weight");
  const GgufFile file = must(GgufFile::open(must(open_file(scratch / "small.gguf"))));
  const GgufTensor* const stack = file.find_tensor("blk.1.ffn_down_exps.weight");
  REQUIRE(stack != nullptr);
  CHECK((stack->type == DType::kO4 && stack->rank == 3 && stack->dims[2] == 5));
  CHECK(file.find_tensor("blk.1.ffn_down_exps.0.weight") == nullptr);
  const Model small = must(Model::open(scratch / "small.gguf"));
  CHECK(distance(logits(small, {}), logits(model, reference_setup())) < 0.05);
}

TEST_CASE("compress_model: the page about a mixture has a row for each stack and the shared expert's matrices") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_mixture(MixtureKind::kQwen2));
  CompressOptions options = few_chunks(2);
  options.mixed_bits = 3;
  options.branch_bytes = 20000;
  options.report_file = scratch / "page.html";
  must(compress_model(model, text(300), scratch / "small.gguf", options));
  const std::string page = content(options.report_file);
  for (const char* const part : {"blk.1.ffn_down_exps.weight", "blk.0.ffn_gate_shexp.weight", "shared_down of all layers as they were",
                                 "blk.1.attn_q.weight", ">shared_gate<"}) {
    CAPTURE(part);
    CHECK(page.find(part) != std::string::npos);
  }
  CHECK(page.find("nan") == std::string::npos);
}

TEST_CASE("compress_model: a mixture with an expert that no token takes is compressed and runs") {
  const ScratchFolder scratch;
  // The first element of every token is large, and expert 2's score falls with it.
  const Model model =
      write_and_open(scratch, random_mixture(MixtureKind::kMixtral, [](const std::string& name, std::vector<float>& values) {
                       if (name == "token_embd.weight") {
                         for (size_t i = 0; i < values.size(); i += 64) values[i] = 12;
                       }
                       if (name.find("ffn_gate_inp") != std::string::npos) values[2 * 64] = -40;
                     }));
  const CompressReport report = must(compress_model(model, text(300), scratch / "small.gguf", few_chunks(4)));
  for (const CompressedMatrixReport& matrix : report.matrices) CHECK((matrix.loss > 0 && matrix.loss < 0.05));
  const Model small = must(Model::open(scratch / "small.gguf"));
  CHECK(distance(logits(small, {}), logits(model, reference_setup())) < 0.05);
  const GgufFile before = must(GgufFile::open(must(open_file(scratch / "model.gguf")))),
                 after = must(GgufFile::open(must(open_file(scratch / "small.gguf"))));
  const std::string name = "blk.1.ffn_down_exps.weight";
  const std::vector<float> was = values(before, *before.find_tensor(name)), is = values(after, *after.find_tensor(name));
  const auto of_expert = [](const std::vector<float>& all) {
    const auto each = static_cast<ptrdiff_t>(all.size() / 5);
    return std::vector<float>(all.begin() + 2 * each, all.begin() + 3 * each);
  };
  const double lost = distance(of_expert(is), of_expert(was));
  CHECK((lost > 0 && lost < 0.05));
}

TEST_CASE("compress_model: what cannot be done with a mixture is refused with a reason, and nothing is left") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_mixture(MixtureKind::kQwen2));
  const std::string path = scratch / "small.gguf";
  CompressOptions trained = few_chunks(2);
  trained.branch_bytes = 20000;
  trained.polish_steps = 2;
  const Status cannot_train = compress_model(model, text(300), path, trained).status();
  CHECK(cannot_train.code() == StatusCode::kUnsupported);
  CHECK(cannot_train.message().find("polish_steps") != std::string::npos);
  for (const BranchAllocation allocation : {BranchAllocation::kMeasured, BranchAllocation::kUniform}) {
    CompressOptions poor = few_chunks(2);
    poor.allocation = allocation;
    poor.branch_bytes = 100;
    const Status status = compress_model(model, text(300), path, poor).status();
    CHECK(status.code() == StatusCode::kInvalidArgument);
    poor.branch_bytes = status.needed_bytes();
    CHECK(must(compress_model(model, text(300), path, poor)).branch_bytes <= poor.branch_bytes);
    std::filesystem::remove(path);
  }
  CHECK(compress_model(model, text(31), path, few_chunks()).status().code() == StatusCode::kInvalidArgument);
  for (const std::string name : {"blk.1.ffn_up_exps.weight", "blk.0.ffn_down_exps.weight", "blk.1.ffn_gate_shexp.weight"}) {
    CAPTURE(name);
    const Model spoilt =
        write_and_open(scratch, random_mixture(MixtureKind::kQwen2, [&](const std::string& tensor, std::vector<float>& values) {
                         if (tensor == name) values[values.size() * 7 / 10] = std::numeric_limits<float>::quiet_NaN();
                       }));
    const Status status = compress_model(spoilt, text(300), path, few_chunks()).status();
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(status.subject() == name);
    CHECK((status.message().find("expert 3") != std::string::npos) == (name.find("_exps") != std::string::npos));
  }
  const Model narrow = must(Model::open(tiny_model_path("mixtral")));
  const Status odd = compress_model(narrow, std::vector<Token>(64, 1), path, few_chunks()).status();
  CHECK(odd.code() == StatusCode::kUnsupported);
  CHECK(odd.message().find("a multiple of 64") != std::string::npos);
  must(compress_model(write_and_open(scratch, random_mixture()), text(300), path, few_chunks()));
  CHECK(compress_model(must(Model::open(path)), text(300), scratch / "again.gguf", few_chunks()).status().code() ==
        StatusCode::kUnsupported);
  CHECK(scratch.names() == std::vector<std::string>{"model.gguf", "small.gguf"});
}

TEST_CASE("compress_model: a mixture that is cancelled at any call for progress, or has no room, leaves nothing") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_mixture(MixtureKind::kQwen2));
  CompressOptions options = few_chunks();
  std::vector<double> shares;
  options.progress = [&shares](double share) {
    shares.push_back(share);
    return true;
  };
  must(compress_model(model, text(64), scratch / "small.gguf", options));
  CHECK(shares.size() == 1 + 2 * (2 + 2 + 5));
  CHECK((std::is_sorted(shares.begin(), shares.end()) && shares.front() == 0 && shares.back() == 1));
  std::filesystem::remove(scratch / "small.gguf");
  for (size_t stop = 1; stop <= shares.size(); ++stop) {
    size_t calls = 0;
    options.progress = [&](double) { return ++calls != stop; };
    CHECK(compress_model(model, text(64), scratch / "small.gguf", options).status().code() == StatusCode::kCancelled);
    CHECK(scratch.names() == std::vector<std::string>{"model.gguf"});
  }
  for (int nth = 1; nth < 40; nth += 3) {
    CAPTURE(nth);
    int writes = 0;
    const WriteFaults faults([&](const std::string& call) { return call == "write" && ++writes == nth ? ENOSPC : 0; });
    const Status status = compress_model(model, text(64), scratch / "small.gguf", few_chunks()).status();
    CHECK(status.code() == StatusCode::kIo);
    CHECK(scratch.names() == std::vector<std::string>{"model.gguf"});
  }
}

}  // namespace
}  // namespace outrigger::testing
