// Branches beside their matrices: against a model whose matrices have them added in, and the same bits wherever and however they are
// computed.
#include <outrigger/compress.h>
#include <outrigger/pack.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>

#include "src/io/gguf.h"
#include "src/tensor/dequantize.h"
#include "tests/support/batches.h"
#include "tests/support/device_plans.h"
#include "tests/support/engines.h"
#include "tests/support/random_dense.h"
#include "tests/support/scratch_folder.h"

namespace outrigger::testing {
namespace {

constexpr uint64_t kRank = 64;  // of q, output and the feed-forward part; k and v have 32 rows

void write(const std::string& path, const std::vector<std::byte>& bytes) {
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

enum class Form { kLowRank, kResidual };

/// The random model in two bits with branches, made once.
struct Branched {
  ScratchFolder scratch;
  Model model;

  explicit Branched(Form form) : model(make(scratch, form)) {}
  static Model make(const ScratchFolder& scratch, Form form) {
    write(scratch / "model.gguf", random_dense());
    std::vector<Token> text(600);
    for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<Token>((i * i * 31 + i * 7) % 200);
    CompressOptions options;
    options.bits = 2;
    options.chunk_tokens = 32;
    options.most_chunks = 6;
    options.threads = 2;
    // More than whole ranks take, or than all columns.
    options.form = form == Form::kLowRank ? BranchForm::kLowRank : BranchForm::kSparse;
    if (form == Form::kLowRank) options.branch_bytes = uint64_t{1} << 20;
    if (form == Form::kResidual) options.branch_read_bytes = uint64_t{1} << 20;
    const CompressReport report = must(compress_model(must(Model::open(scratch / "model.gguf")), text, scratch / "small.gguf", options));
    REQUIRE(report.branch_bytes > 0);
    return must(Model::open(scratch / "small.gguf"));
  }

  /// A model of float matrices that are the backbone's and what the first components of its branches add, to those that `corrects` says yes
  /// to.
  Model merged(double share, const std::function<bool(const std::string& name)>& corrects = [](const std::string&) { return true; }) const {
    const GgufFile file = must(GgufFile::open(must(open_file(scratch / "small.gguf"))));
    const auto values_of = [&](const GgufTensor& tensor) {
      std::vector<std::byte> raw(tensor.bytes);
      must(file.source().read(tensor.offset, raw));
      std::vector<float> values(tensor.elements());
      must(dequantize(tensor.type, raw.data(), values.data(), values.size()));
      return values;
    };
    write(scratch / "merged.gguf", random_dense([&](const std::string& name, std::vector<float>& values) {
            values = values_of(*file.find_tensor(name));
            if (!corrects(name)) return;
            const std::string stem = name.substr(0, name.rfind('.') + 1);
            if (const GgufTensor* const residual = file.find_tensor(stem + "residual"); residual != nullptr && share == 1) {
              const uint64_t rows = residual->dims[0], columns = residual->dims[1];
              const std::vector<float> across = values_of(*residual);
              for (size_t i = 0; i < values.size(); ++i) values[i] += across[i % columns * rows + i / columns];
            }
            const GgufTensor* const a = file.find_tensor(stem + "branch_a");
            if (a == nullptr) return;
            const uint64_t columns = a->dims[0], rank = a->dims[1],
                           used = static_cast<uint64_t>(std::lround(share * static_cast<double>(rank) / 32)) * 32;
            const std::vector<float> first = values_of(*a), second = values_of(*file.find_tensor(stem + "branch_b"));
            for (size_t row = 0; row < values.size() / columns; ++row) {
              for (size_t k = 0; k < columns; ++k) {
                double sum = values[row * columns + k];
                for (size_t j = 0; j < used; ++j) sum += double{second[row * rank + j]} * first[j * columns + k];
                values[row * columns + k] = static_cast<float>(sum);
              }
            }
          }));
    return must(Model::open(scratch / "merged.gguf"));
  }
};

const Branched& branched() {
  static const Branched made(Form::kLowRank);
  return made;
}

const Branched& residual() {
  static const Branched made(Form::kResidual);
  return made;
}

const std::vector<Token> kTokens = {3, 14, 15, 92, 65, 35, 89, 79, 32, 38, 46, 26, 43, 38, 32, 79, 50, 2, 88, 41};

// In two steps, of which one is small enough to hand over by words where a plan does.
std::vector<float> logits(const Engine& engine, float share = 1) {
  Session session = must(Session::open(engine, {0, share}));
  std::vector<float> all;
  const auto keep = [&](size_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); };
  must(session.evaluate(std::span(kTokens).first(17), keep));
  must(session.evaluate(std::span(kTokens).subspan(17), keep));
  return all;
}

double distance(const std::vector<float>& got, const std::vector<float>& expected) {
  double error = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) error += std::pow(got[i] - expected[i], 2), size += std::pow(expected[i], 2);
  return std::sqrt(error / size);
}

TEST_CASE("Branches: in float32 they are what they add to the matrices, all, half or none of them") {
  const Engine engine = open_engine(branched().model, reference_setup());
  std::vector<float> last;
  for (const float share : {0.0f, 0.5f, 1.0f}) {
    CAPTURE(share);
    const std::vector<float> got = logits(engine, share);
    CHECK(distance(got, logits(open_engine(branched().merged(share), reference_setup()))) < 2e-5);
    if (!last.empty()) CHECK(distance(got, last) > 0.01);
    last = got;
  }
}

TEST_CASE("Branches: they bring the two-bit model nearer to the one it was made from, the more of them the nearer") {
  const std::vector<float> original = logits(open_engine(must(Model::open(branched().scratch / "model.gguf")), reference_setup()));
  const Engine engine = open_engine(branched().model);
  const double none = distance(logits(engine, 0), original), half = distance(logits(engine, 0.5f), original),
               all = distance(logits(engine), original);
  CHECK(half < 0.8 * none);
  CHECK(all < 0.5 * half);
}

TEST_CASE("Branches: int8 activations are near float32, and bits depend neither on threads, nor on batches, nor on what streams") {
  const Model& model = branched().model;
  const std::vector<float> expected = logits(open_engine(model));
  CHECK(distance(expected, logits(open_engine(model, reference_setup()))) < 0.05);
  for (const float share : {0.5f, 1.0f}) {
    CAPTURE(share);
    const std::vector<float> whole = logits(open_engine(model), share);
    EngineSetup setup;
    setup.threads = 3;
    CHECK(logits(open_engine(model, setup), share) == whole);
    setup.logit_rows = 1;
    CHECK(logits(open_engine(model, setup), share) == whole);
    setup.logit_rows = 8;
    for (const uint64_t extra : {0, 3000, 20000}) {
      CAPTURE(extra);
      EngineSetup tight = setup;
      tight.host_bytes = smallest_budget(model, setup) + extra;
      CHECK(logits(open_engine(model, tight), share) == whole);
    }
  }
  must(pack_model(model, branched().scratch / "packed.gguf"));
  const Model packed = must(Model::open(branched().scratch / "packed.gguf"));
  CHECK(logits(open_engine(packed)) == expected);
  EngineSetup tight;
  tight.host_bytes = smallest_budget(packed, tight);
  CHECK(logits(open_engine(packed, tight)) == expected);
}

TEST_CASE("Branches: a device gives the host's bits, with what is resident there and with what is brought") {
  const Model& model = branched().model;
  const StepShape shape = must(model.step_shape());
  const Plan host = must(plan_for(model, {}));
  const std::vector<float> half = logits(open_engine(model), 0.5f), all = logits(open_engine(model));
  for (const Place place : {Place::kDevice, Place::kStreamed}) {
    CAPTURE(static_cast<int>(place));
    const Plan plan = placed_on_device(host, shape, [&](const MatrixShape& matrix) { return matrix.layer == 1 ? Place::kHost : place; });
    const Engine engine = open_on_device(model, plan, "emulated:memory=64MiB,link=10GB/s");
    CHECK(logits(engine, 0.5f) == half);
    CHECK(logits(engine) == all);
  }
}

TEST_CASE("Corrections: computed on the host beside a device they give the host's bits, whatever is resident there or brought") {
  for (const Branched* made : {&branched(), &residual()}) {
    const Model& model = made->model;
    const StepShape shape = must(model.step_shape());
    const Plan host = must(plan_for(model, {}));
    for (const Place place : {Place::kDevice, Place::kStreamed}) {
      CAPTURE(made == &branched(), static_cast<int>(place));
      const auto place_of = [&](const MatrixShape& matrix) { return matrix.layer == 1 ? Place::kHost : place; };
      for (const bool by_words : {false, true}) {
        const Plan plan = placed_on_device(host, shape, place_of, {.corrections_beside = true, .by_words = by_words});
        must(check_plan(plan, shape));
        for (const bool in_turn : {false, true}) {
          EngineOptions options;
          options.device = "emulated:memory=64MiB,link=10GB/s";
          options.corrects_in_turn = in_turn;
          const Engine engine = must(Engine::open(model, plan, options));
          for (const float share : {0.0f, 0.5f, 1.0f}) {
            CAPTURE(share, in_turn, by_words);
            CHECK(logits(engine, share) == logits(open_engine(model), share));
          }
        }
      }
    }
  }
}

/// The plan without corrections of the windows whose matrices' names have one of these words in them.
Plan leaving_out(Plan plan, const std::vector<std::string>& words) {
  for (TensorPlacement& tensor : plan.tensors) {
    for (const std::string& word : words) tensor.is_corrected = tensor.is_corrected && tensor.name.find(word) == std::string::npos;
  }
  return plan;
}

TEST_CASE("Corrections: windows that a plan leaves out are bare, the others are not, with the same bits wherever they are computed") {
  const std::vector<std::string> left_out = {"attn_q", "attn_k", "attn_v", "ffn_down"};
  const auto corrects = [&](const std::string& name) {
    return std::none_of(left_out.begin(), left_out.end(), [&](const std::string& word) { return name.find(word) != std::string::npos; });
  };
  for (const Branched* made : {&branched(), &residual()}) {
    CAPTURE(made == &branched());
    const Model& model = made->model;
    const StepShape shape = must(model.step_shape());
    const Plan whole = must(plan_for(model, {})), some = leaving_out(whole, left_out);
    must(check_plan(some, shape));
    EngineOptions options;
    const std::vector<float> expected = logits(must(Engine::open(model, some, options)));
    CHECK(expected != logits(must(Engine::open(model, whole, options))));
    CHECK(logits(must(Engine::open(model, some, options)), 0) == logits(must(Engine::open(model, whole, options)), 0));
    CHECK(logits(must(Engine::open(model, leaving_out(whole, {"attn", "ffn"}), options))) ==
          logits(must(Engine::open(model, whole, options)), 0));
    options.device = "emulated:memory=64MiB,link=10GB/s";
    for (const bool beside : {false, true}) {
      if (!beside && made == &residual()) continue;
      for (const bool by_words : {false, true}) {
        const Plan there = leaving_out(
            placed_on_device(whole, shape, [](const MatrixShape& matrix) { return matrix.layer == 1 ? Place::kHost : Place::kDevice; },
                             {.corrections_beside = beside, .by_words = by_words}),
            left_out);
        for (const bool in_turn : {false, true}) {
          CAPTURE(beside, in_turn, by_words);
          options.corrects_in_turn = in_turn;
          CHECK(logits(must(Engine::open(model, there, options))) == expected);
        }
      }
    }
    if (made == &residual()) continue;  // whose means make the sum differ
    Plan reference = leaving_out(must(plan_for(model, reference_setup())), left_out);
    EngineOptions float32;
    float32.numerics = Numerics::kFloat32;
    CHECK(distance(logits(must(Engine::open(model, reference, float32))),
                   logits(open_engine(made->merged(1, corrects), reference_setup()))) < 2e-5);
  }
}

TEST_CASE("Corrections: a plan of which a part of a window is left out, or what is no layer's, is refused") {
  const StepShape shape = must(branched().model.step_shape());
  const Plan whole = must(plan_for(branched().model, {}));
  CHECK(check_plan(leaving_out(whole, {"attn_k"}), shape).to_string().find("same window") != std::string::npos);
  CHECK(check_plan(leaving_out(whole, {"token_embd"}), shape).to_string().find("left out") != std::string::npos);
  const Plan some = leaving_out(whole, {"ffn_down"});
  const Plan again = must(plan_from_json(plan_to_json(some)));
  for (size_t i = 0; i < some.tensors.size(); ++i) CHECK(again.tensors[i].is_corrected == some.tensors[i].is_corrected);
  CHECK(plan_to_text(some).find("Branches and residuals of ffn_down are left out") != std::string::npos);
  CHECK(plan_to_text(whole).find("left out") == std::string::npos);
}

TEST_CASE("Corrections: a plan that leaves them out or puts them elsewhere is refused") {
  const StepShape shape = must(branched().model.step_shape());
  const auto on_device = [](const MatrixShape&) { return Place::kDevice; };
  const Plan good = placed_on_device(must(plan_for(branched().model, {})), shape, on_device, {.corrections_beside = true});
  must(check_plan(good, shape));
  Plan there = good;
  for (TensorPlacement& tensor : there.tensors) tensor.tier = tensor.compute = tensor.name.ends_with("_a") ? Tier::kDevice : tensor.tier;
  CHECK(check_plan(there, shape).to_string().find("branch_a") != std::string::npos);
  Plan streamed = good;
  for (TensorPlacement& tensor : streamed.tensors) tensor.mode = tensor.name.ends_with("_b") ? Residence::kStreamed : tensor.mode;
  CHECK(check_plan(streamed, shape).code() == StatusCode::kInvalidArgument);
  const StepShape residuals = must(residual().model.step_shape());
  const Plan uncorrected = placed_on_device(must(plan_for(residual().model, {})), residuals, on_device);
  CHECK(check_plan(uncorrected, residuals).to_string().find("residual") != std::string::npos);
  CHECK(must(plan_from_json(plan_to_json(good))).corrections_beside);
}

TEST_CASE("Residuals: read whole they are what the matrices lost, where no means are taken off") {
  const Branched& plain = residual();
  const std::string path = plain.scratch / "small.gguf", without = plain.scratch / "without.gguf";
  const GgufFile file = must(GgufFile::open(must(open_file(path))));
  std::filesystem::copy_file(path, without, std::filesystem::copy_options::overwrite_existing);
  {
    std::fstream patched(without, std::ios::binary | std::ios::in | std::ios::out);
    for (const GgufTensor& tensor : file.tensors()) {
      if (!tensor.name.ends_with("residual_means") && !tensor.name.ends_with("residual_bias")) continue;
      patched.seekp(static_cast<std::streamoff>(tensor.offset));
      patched << std::string(tensor.bytes, '\0');
    }
  }
  const Engine engine = open_engine(must(Model::open(without)), reference_setup());
  CHECK(distance(logits(engine), logits(open_engine(plain.merged(1), reference_setup()))) < 2e-5);
  CHECK(distance(logits(engine, 0), logits(open_engine(plain.merged(0), reference_setup()))) < 2e-5);
}

TEST_CASE(
    "Residuals: the more columns are read the nearer the model, and bits depend neither on threads, nor on batches, nor on what streams") {
  const Model& model = residual().model;
  const std::vector<float> original = logits(open_engine(must(Model::open(residual().scratch / "model.gguf")), reference_setup()));
  const Engine engine = open_engine(model);
  double last = distance(logits(engine, 0), original);
  const double none = last;
  for (const float share : {0.1f, 0.3f, 1.0f}) {
    CAPTURE(share);
    const std::vector<float> got = logits(engine, share);
    CHECK(distance(got, original) < last);
    last = distance(got, original);
    EngineSetup setup;
    setup.threads = 3;
    setup.logit_rows = 1;
    CHECK(logits(open_engine(model, setup), share) == got);
    setup.logit_rows = 8;
    setup.host_bytes = smallest_budget(model, setup);
    CHECK(logits(open_engine(model, setup), share) == got);
  }
  CHECK(last < 0.2 * none);
  CHECK(must(plan_for(model, {})).host.breakdown.branches >= must(model.step_shape()).residual_bytes);
  CHECK(engine.memory().host.current.branches == engine.plan().host.breakdown.branches);
  // Any step of any size: each token chooses for itself.
  Session one = must(Session::open(engine)), by_one = must(Session::open(open_engine(model)));
  must(one.prefill(kTokens));
  for (const Token token : kTokens) must(by_one.step(token));
  CHECK(std::vector<float>(one.logits().begin(), one.logits().end()) == std::vector<float>(by_one.logits().begin(), by_one.logits().end()));
}

TEST_CASE("Residuals: what does not fit its matrix is refused by name") {
  const std::string path = residual().scratch / "small.gguf";
  std::vector<std::byte> bytes(std::filesystem::file_size(path));
  std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  for (const std::string part : {"_norms", "_means", "_bias", "_thresholds"}) {
    CAPTURE(part);
    std::vector<std::byte> changed = bytes;
    const std::string name = "blk.1.ffn_up.residual" + part;
    const auto text = std::as_bytes(std::span(name));
    const auto at = std::search(changed.begin(), changed.end(), text.begin(), text.end());
    REQUIRE(at != changed.end());
    *(at + static_cast<ptrdiff_t>(name.size()) - 1) = std::byte{'x'};
    write(residual().scratch / "spoiled.gguf", changed);
    Result<Model> model = Model::open(residual().scratch / "spoiled.gguf");
    const std::string reason = model.is_ok() ? model->step_shape().status().to_string() : model.status().to_string();
    CHECK(reason.find(name) != std::string::npos);
  }
}

TEST_CASE("Branches: a session's share changes between calls, and a fork has it too") {
  const Engine engine = [] {
    EngineSetup setup;
    setup.batch = 3;
    return open_engine(branched().model, setup);
  }();
  Session session = must(Session::open(engine));
  must(session.set_branch_share(0));
  must(session.prefill(kTokens));
  const std::vector<float> bare(session.logits().begin(), session.logits().end());
  Session fork = must(session.fork());
  must(session.truncate(0));
  must(session.set_branch_share(1));
  must(session.prefill(kTokens));
  CHECK(std::vector<float>(session.logits().begin(), session.logits().end()) != bare);
  must(fork.truncate(0));
  must(fork.prefill(kTokens));
  CHECK(std::vector<float>(fork.logits().begin(), fork.logits().end()) == bare);
  for (const float wrong : {-0.1f, 1.1f, NAN}) CHECK(session.set_branch_share(wrong).code() == StatusCode::kInvalidArgument);
  CHECK(Session::open(engine, {0, 2}).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE(
    "Branches: in a batch each text is the one that it has alone with that share, also where the host corrects what a device computes") {
  for (const Branched* made : {&branched(), &residual()}) {
    const Model& model = made->model;
    const EngineSetup setup{.batch = 3};
    const Plan host = must(plan_for(model, setup));
    const auto place_of = [](const MatrixShape& matrix) { return matrix.layer == 1 ? Place::kHost : Place::kDevice; };
    const Plan beside = placed_on_device(host, must(model.step_shape()), place_of, {.corrections_beside = true});
    for (const bool has_device : {false, true}) {
      const Engine engine = has_device ? open_on_device(model, beside, "emulated:memory=64MiB,link=10GB/s") : open_engine(model, setup);
      std::vector<std::vector<SeenText>> texts;
      for (const float share : {SessionOptions::kAsPlanned, 0.0f, 0.5f}) {
        CAPTURE(made == &branched(), has_device, share);
        BatchOptions options;
        options.branch_share = share;
        texts.push_back(together(engine, mixed_requests(5), options));
        CHECK(texts.back() == one_by_one(engine, mixed_requests(5), {0, share}));
      }
      CHECK(texts[0] != texts[1]);
    }
  }
}

TEST_CASE("Branches: a file whose factors do not fit their matrix is refused by name, and so is one that lacks one of them") {
  const GgufFile file = must(GgufFile::open(must(open_file(branched().scratch / "small.gguf"))));
  std::vector<std::byte> bytes(std::filesystem::file_size(branched().scratch / "small.gguf"));
  std::ifstream(branched().scratch / "small.gguf", std::ios::binary)
      .read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  const auto renamed = [&](const std::string& from, const std::string& to) {
    std::vector<std::byte> changed = bytes;
    const auto text = std::as_bytes(std::span(from));
    const auto at = std::search(changed.begin(), changed.end(), text.begin(), text.end());
    REQUIRE(at != changed.end());
    std::copy_n(std::as_bytes(std::span(to)).begin(), to.size(), at);
    write(branched().scratch / "spoiled.gguf", changed);
    return Model::open(branched().scratch / "spoiled.gguf");
  };
  const auto mentions = [](const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; };
  // The tensors' names are found in the header, where the list of own types has only weights.
  const auto reason = [&](const std::string& from, const std::string& to) {
    Result<Model> model = renamed(from, to);
    return model.is_ok() ? model->step_shape().status().to_string() : model.status().to_string();
  };
  CHECK(mentions(reason("blk.0.attn_q.branch_b", "blk.0.attn_q.branch_c"), "blk.0.attn_q.branch_b"));
  CHECK(mentions(reason("blk.0.attn_q.branch_a", "blk.0.attn_q.branch_x"), "branch_"));
  CHECK(mentions(reason("blk.1.ffn_down.branch_a", "blk.1.ffn_gone.branch_a"), "ffn_"));
}

}  // namespace
}  // namespace outrigger::testing
