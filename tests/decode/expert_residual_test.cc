// Residuals of experts: against a forward pass in float64 that chooses columns by the definition, and the same bits however a step comes
// about.
#include <outrigger/session.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "src/io/gguf.h"
#include "src/tensor/dequantize.h"
#include "tests/support/allocations.h"
#include "tests/support/batches.h"
#include "tests/support/corrected_mixture.h"
#include "tests/support/device_plans.h"
#include "tests/support/scratch_folder.h"

namespace outrigger::testing {
namespace {

using Vector = std::vector<double>;

constexpr uint64_t kWidth = CorrectedMixture::kWidth, kFfn = CorrectedMixture::kFfn, kExperts = CorrectedMixture::kExperts;
constexpr size_t kTokens = 17;

std::vector<Token> some_tokens() {
  std::vector<Token> tokens(kTokens);
  for (size_t i = 0; i < kTokens; ++i) tokens[i] = static_cast<Token>((7 + 31 * i) % CorrectedMixture::kVocabulary);
  return tokens;
}

/// Tokens that know nothing of each other, each by itself.
class Oracle {
 public:
  /// `share` is a whole number of the tables' steps. `is_gated`: whether what a token takes of an expert counts, as it is to.
  Oracle(const std::string& path, double share, bool is_gated)
      : file_(must(GgufFile::open(must(open_file(path))))), step_(static_cast<size_t>(share * 32)), is_gated_(is_gated) {}

  Vector logits(Token token) {
    const Vector embedding = values("token_embd.weight");
    Vector x(embedding.begin() + token * static_cast<ptrdiff_t>(kWidth), embedding.begin() + (token + 1) * static_cast<ptrdiff_t>(kWidth));
    for (uint32_t layer = 0; layer < CorrectedMixture::kLayers; ++layer) add_experts("blk." + std::to_string(layer) + ".", &x);
    return product(embedding, 0, CorrectedMixture::kVocabulary, normed(x, values("output_norm.weight")));
  }

  /// Of all columns that could have been.
  double read_share() const { return static_cast<double>(read_) / static_cast<double>(could_be_read_); }

 private:
  Vector values(const std::string& name) const {
    const GgufTensor* const tensor = file_.find_tensor(name);
    REQUIRE(tensor != nullptr);
    std::vector<std::byte> raw(tensor->bytes);
    must(file_.source().read(tensor->offset, raw));
    std::vector<float> floats(tensor->elements());
    must(dequantize(tensor->type, raw.data(), floats.data(), floats.size()));
    return {floats.begin(), floats.end()};
  }

  static Vector normed(const Vector& x, const Vector& norm) {
    const double square = std::inner_product(x.begin(), x.end(), x.begin(), 0.0) / kWidth;
    Vector y(kWidth);
    for (size_t k = 0; k < kWidth; ++k) y[k] = x[k] * norm[k] / std::sqrt(square + 1e-5);
    return y;
  }

  static Vector product(const Vector& matrix, size_t first_row, size_t rows, const Vector& x) {
    Vector y(rows);
    for (size_t row = 0; row < rows; ++row) {
      for (size_t k = 0; k < x.size(); ++k) y[row] += matrix[(first_row + row) * x.size() + k] * x[k];
    }
    return y;
  }

  Vector corrected(const std::string& stem, size_t expert, size_t rows, const Vector& x, double weight) {
    Vector y = product(values(stem + "weight"), expert * rows, rows, x);
    if (step_ == 0) return y;
    const Vector residual = values(stem + "residual"), norms = values(stem + "residual_norms"), means = values(stem + "residual_means"),
                 bias = values(stem + "residual_bias"), thresholds = values(stem + "residual_thresholds");
    for (size_t row = 0; row < rows; ++row) y[row] += bias[expert * rows + row];
    for (size_t k = 0; k < x.size(); ++k) {
      const size_t column = expert * x.size() + k;
      const double centred = x[k] - means[column];
      ++could_be_read_;
      if (!((is_gated_ ? weight : 1) * std::abs(centred) * norms[column] > thresholds[expert * 33 + step_])) continue;
      ++read_;
      for (size_t row = 0; row < rows; ++row) y[row] += residual[column * rows + row] * centred;
    }
    return y;
  }

  void add_experts(const std::string& part, Vector* x) {
    const Vector input = normed(*x, values(part + "ffn_norm.weight")),
                 scores = product(values(part + "ffn_gate_inp.weight"), 0, kExperts, input);
    std::vector<size_t> order(kExperts);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
    const double sum = std::exp(scores[order[0]]) + std::exp(scores[order[1]]);
    for (size_t i = 0; i < CorrectedMixture::kUsed; ++i) {
      const double weight = std::exp(scores[order[i]]) / sum;
      Vector gate = corrected(part + "ffn_gate_exps.", order[i], kFfn, input, weight);
      const Vector up = corrected(part + "ffn_up_exps.", order[i], kFfn, input, weight);
      for (size_t k = 0; k < kFfn; ++k) gate[k] = gate[k] / (1 + std::exp(-gate[k])) * up[k];
      const Vector result = corrected(part + "ffn_down_exps.", order[i], kWidth, gate, weight);
      for (size_t k = 0; k < kWidth; ++k) (*x)[k] += weight * result[k];
    }
  }

  const GgufFile file_;
  const size_t step_;
  const bool is_gated_;
  size_t read_ = 0, could_be_read_ = 0;
};

Model write_and_open(const ScratchFolder& scratch, const CorrectedMixture& shape) {
  write_test_file(scratch / "model.gguf", corrected_mixture(shape));
  return must(Model::open(scratch / "model.gguf"));
}

/// Of every token, steps having `chunk` of them.
std::vector<float> logits(const Engine& engine, float share = 1, size_t chunk = kTokens) {
  Session session = must(Session::open(engine, {0, share}));
  const std::vector<Token> tokens = some_tokens();
  std::vector<float> all;
  for (size_t first = 0; first < kTokens; first += chunk) {
    must(session.evaluate(std::span(tokens).subspan(first, std::min(chunk, kTokens - first)),
                          [&](size_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); }));
  }
  return all;
}

template <typename Numbers>
double distance(const std::vector<float>& got, const Numbers& expected) {
  REQUIRE(got.size() == expected.size());
  double error = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) error += std::pow(got[i] - expected[i], 2), size += std::pow(expected[i], 2);
  return std::sqrt(error / size);
}

TEST_CASE(
    "Expert residuals: a step is a forward pass in float64 that reads the columns of the definition, for none, some and all of the share") {
  for (const DType type : {DType::kQ4_0, DType::kIQ4_NL}) {
    const ScratchFolder scratch;
    const Model model = write_and_open(scratch, {.type = type, .attends = false});
    double last = 0;
    for (const float share : {0.0f, 0.25f, 0.5f, 1.0f}) {
      CAPTURE(static_cast<int>(type), share);
      Oracle oracle(scratch / "model.gguf", share, true), ungated(scratch / "model.gguf", share, false);
      Vector expected, without_gate;
      for (const Token token : some_tokens()) {
        for (const double value : oracle.logits(token)) expected.push_back(value);
        for (const double value : ungated.logits(token)) without_gate.push_back(value);
      }
      for (const uint32_t threads : {1u, 2u}) {
        EngineSetup setup = reference_setup();
        setup.threads = threads;
        const Engine engine = open_engine(model, setup);
        for (const size_t chunk : {size_t{1}, size_t{3}, kTokens}) {
          CAPTURE(threads, chunk);
          const std::vector<float> got = logits(engine, share, chunk);
          CHECK(distance(got, expected) < 1e-5);
          if (share > 0) CHECK(distance(got, without_gate) > 0.01);
        }
      }
      if (share == 0) continue;
      CHECK(oracle.read_share() > last);
      last = oracle.read_share();
    }
    CHECK((last > 0.3 && last < 0.95));
  }
}

TEST_CASE("Expert residuals: bits depend neither on threads, nor on a step's tokens, nor on the wave in which an expert comes") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, {});
  uint32_t cached = 0;
  for (const float share : {0.0f, 0.5f, 1.0f}) {
    const std::vector<float> expected = logits(open_engine(model), share);
    for (const uint32_t threads : {1u, 2u, 3u}) {
      for (const uint64_t extra : {uint64_t{0}, uint64_t{200'000}, Budgets::kUnlimited}) {
        EngineSetup setup{.threads = threads};
        if (extra != Budgets::kUnlimited) setup.host_bytes = smallest_budget(model, setup) + extra;
        const Engine engine = open_engine(model, setup);
        cached += engine.plan().expert_slots > 0;
        for (const size_t chunk : {size_t{1}, size_t{3}, kTokens}) {
          CAPTURE(share, threads, extra, engine.plan().expert_slots, chunk);
          CHECK(logits(engine, share, chunk) == expected);
        }
      }
    }
  }
  CHECK(cached >= 9);
}

TEST_CASE("Expert residuals: without a share of them a session is one of the model that has none, and a share changes between calls") {
  const ScratchFolder scratch, other;
  const Model model = write_and_open(scratch, {}), bare = write_and_open(other, {.has_residuals = false});
  CHECK(must(bare.step_shape()).residual_bytes == 0);
  const Engine engine = open_engine(model);
  const std::vector<float> expected = logits(open_engine(bare));
  CHECK(logits(engine, 0) == expected);
  CHECK(distance(logits(engine), expected) > 0.05);
  Session session = must(Session::open(engine));
  must(session.prefill(some_tokens()));
  const std::vector<float> all(session.logits().begin(), session.logits().end());
  must(session.truncate(0));
  must(session.set_branch_share(0));
  must(session.prefill(some_tokens()));
  CHECK(std::equal(session.logits().begin(), session.logits().end(), expected.end() - CorrectedMixture::kVocabulary));
  must(session.truncate(0));
  must(session.set_branch_share(1));
  must(session.prefill(some_tokens()));
  CHECK(std::equal(session.logits().begin(), session.logits().end(), all.begin()));
}

TEST_CASE("Expert residuals: in a batch each text is the one that it has alone with that share") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, {});
  const EngineSetup roomy{.batch = 3};
  for (const uint64_t host_bytes : {Budgets::kUnlimited, smallest_budget(model, roomy)}) {
    EngineSetup setup = roomy;
    setup.host_bytes = host_bytes;
    const Engine engine = open_engine(model, setup);
    std::vector<std::vector<SeenText>> texts;
    for (const float share : {1.0f, 0.0f, 0.5f}) {
      CAPTURE(host_bytes, share);
      BatchOptions options;
      options.branch_share = share;
      texts.push_back(together(engine, mixed_requests(5), options));
      CHECK(texts.back() == one_by_one(engine, mixed_requests(5), {0, share}));
    }
    CHECK(texts[0] != texts[1]);
  }
}

TEST_CASE("Expert residuals: a model that drafts for itself without them says what it says without drafts") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, {});
  const Engine engine = open_engine(model);
  GenerateOptions options;
  options.max_tokens = 30;
  options.ignore_eos = true;
  const auto said = [&](DraftKind kind) {
    options.draft.kind = kind;
    Session session = must(Session::open(engine));
    return must(session.generate(some_tokens(), options));
  };
  const GenerateResult plain = said(DraftKind::kNone), drafted = said(DraftKind::kSelf);
  CHECK(drafted.tokens == plain.tokens);
  CHECK(drafted.speculation.drafted > 0);
}

TEST_CASE("Expert residuals: where attention is a device's, the experts and their residuals are the host's, with its bits") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, {});
  const StepShape shape = must(model.step_shape());
  const Plan host = must(plan_for(model, {}));
  for (const Place place : {Place::kDevice, Place::kStreamed}) {
    for (const bool is_beside : {false, true}) {
      const Plan plan = placed_on_device(host, shape, [&](const MatrixShape&) { return place; }, {.corrections_beside = is_beside});
      const Engine engine = open_on_device(model, plan, "emulated:memory=64MiB,link=10GB/s");
      for (const float share : {0.0f, 0.5f, 1.0f}) {
        CAPTURE(static_cast<int>(place), is_beside, share);
        CHECK(logits(engine, share) == logits(open_engine(model), share));
      }
    }
  }
  Plan wrong = host;
  for (TensorPlacement& tensor : wrong.tensors)
    tensor.tier = tensor.compute = tensor.name == "blk.0.ffn_up_exps.weight" ? Tier::kDevice : tensor.tier;
  CHECK(check_plan(wrong, shape).to_string().find("blk.0.ffn_up_exps.weight") != std::string::npos);
}

TEST_CASE(
    "Expert residuals: they are planned and held as they are in the file, a token reads those of its experts, and a step allocates "
    "nothing") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, {});
  const StepShape shape = must(model.step_shape());
  const uint64_t one = 3 * kWidth * kFfn * 18 / 32, all = CorrectedMixture::kLayers * kExperts * one;
  CHECK(shape.residual_bytes == all);
  CHECK(shape.residual_read_bytes_per_token == CorrectedMixture::kLayers * CorrectedMixture::kUsed * one);
  uint64_t of_matrices = 0;
  for (const MatrixShape& matrix : shape.matrices) of_matrices += matrix.residual_read_bytes;
  CHECK(of_matrices == shape.residual_read_bytes_per_token);
  const Engine engine = open_engine(model, {.host_bytes = smallest_budget(model, {})});
  REQUIRE(engine.plan().expert_slots > 0);
  CHECK(engine.plan().host.breakdown.branches >= all);
  CHECK(engine.memory().host.current.branches == engine.plan().host.breakdown.branches);
  Session session = must(Session::open(engine));
  must(session.prefill(some_tokens()));
  CHECK(allocations_of_steps(session, some_tokens()) == 0);
}

TEST_CASE("Expert residuals: a tensor of another shape or type, or one that is missing, is refused by name") {
  const ScratchFolder scratch;
  const std::string stem = "blk.1.ffn_down_exps.residual";
  using Written = CorrectedMixture::Written;
  const auto refusal = [&](const std::string& name, const std::function<void(Written&)>& change) {
    write_test_file(scratch / "bad.gguf", corrected_mixture({.spoil = [&](Written& written) {
                      if (written.name == name) change(written);
                    }}));
    Result<Model> model = Model::open(scratch / "bad.gguf");
    return model.is_ok() ? model->step_shape().status() : model.status();
  };
  must(refusal("", [](Written&) {}));
  for (const char* const kind : {"", "_norms", "_means", "_bias", "_thresholds"}) {
    const std::string name = stem + kind;
    CAPTURE(name);
    const std::pair<const char*, std::function<void(Written&)>> kChanges[] = {
        {"an expert less", [](Written& written) { --written.dims.back(); }},
        {"shorter", [](Written& written) { written.dims.front() -= 32; }},
        {"flat", [](Written& written) { written.dims[written.dims.size() - 2] *= written.dims.back(), written.dims.pop_back(); }},
        {"renamed", [](Written& written) { written.name += "x"; }},
    };
    for (const auto& [what, change] : kChanges) {
      CAPTURE(what);
      const Status status = refusal(name, change);
      CHECK(!status.is_ok());
      CHECK(status.to_string().find(name) != std::string::npos);
    }
    if (*kind == '\0') continue;
    const Status missing = refusal(name, [](Written& written) { written.is_left_out = true; });
    CHECK(missing.code() == StatusCode::kCorruptFile);
    CHECK(missing.subject() == name);
  }
  const Status swapped = refusal(stem, [](Written& written) { std::swap(written.dims[0], written.dims[1]); });
  CHECK((swapped.code() == StatusCode::kCorruptFile && swapped.subject() == stem));
  const Status type = refusal(stem, [](Written& written) {
    written.type = DType::kQ4_1, written.dims = {64, CorrectedMixture::kFfn, kExperts};
  });
  CHECK(!type.is_ok());
  const Status branch = refusal(stem + "_bias", [](Written& written) { written.name = "blk.1.ffn_down_exps.branch_a"; });
  CHECK(!branch.is_ok());
}

}  // namespace
}  // namespace outrigger::testing
