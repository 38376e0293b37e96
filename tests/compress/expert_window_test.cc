// ExpertWindow: against a forward pass in float64 that is written here from the tensors alone.
#include "src/compress/expert_window.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <numeric>

#include "src/compress/expert_residual.h"
#include "src/forward/float_matrix.h"
#include "src/model/fixed_tensors.h"
#include "src/tensor/dequantize.h"
#include "tests/support/engines.h"
#include "tests/support/random_mixture.h"
#include "tests/support/scratch_folder.h"

namespace outrigger::testing {
namespace {

constexpr size_t kTokens = 150, kWidth = 64, kFfn = 128, kExperts = 5, kUsed = 2;

using Rows = std::vector<std::vector<double>>;

/// Tensors by name, as numbers.
class Tensors {
 public:
  explicit Tensors(const std::string& path) : file_(must(GgufFile::open(must(open_file(path))))) {}

  std::vector<double> operator()(const std::string& name) const {
    const GgufTensor* const tensor = file_.find_tensor(name);
    REQUIRE(tensor != nullptr);
    std::vector<std::byte> raw(tensor->bytes);
    must(file_.source().read(tensor->offset, raw));
    std::vector<float> values(tensor->elements());
    must(dequantize(tensor->type, raw.data(), values.data(), values.size()));
    return {values.begin(), values.end()};
  }

 private:
  const GgufFile file_;
};

std::vector<double> product(const std::vector<double>& matrix, size_t first_row, size_t rows, const std::vector<double>& x) {
  std::vector<double> y(rows);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t k = 0; k < x.size(); ++k) y[row] += matrix[(first_row + row) * x.size() + k] * x[k];
  }
  return y;
}

/// The first layer of a model whose attention adds nothing, so that its experts are given the normed vectors of the tokens.
struct Oracle {
  explicit Oracle(const Tensors& tensors) : gate(tensors("blk.0.ffn_gate_exps.weight")), up(tensors("blk.0.ffn_up_exps.weight")) {
    const std::vector<double> embedding = tensors("token_embd.weight"), norm = tensors("blk.0.ffn_norm.weight"),
                              router = tensors("blk.0.ffn_gate_inp.weight");
    for (size_t token = 0; token < kTokens; ++token) {
      std::vector<double> x(embedding.begin() + static_cast<ptrdiff_t>(token * kWidth),
                            embedding.begin() + static_cast<ptrdiff_t>((token + 1) * kWidth));
      double square = 0;
      for (const double value : x) square += value * value / kWidth;
      for (size_t k = 0; k < kWidth; ++k) x[k] *= norm[k] / std::sqrt(square + 1e-5);
      const std::vector<double> logits = product(router, 0, kExperts, x);
      std::vector<size_t> order(kExperts);
      std::iota(order.begin(), order.end(), 0);
      std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
      const double sum = std::exp(logits[order[0]]) + std::exp(logits[order[1]]);
      for (size_t i = 0; i < kUsed; ++i) taken[order[i]][token] = std::exp(logits[order[i]]) / sum;
      inputs.push_back(std::move(x));
    }
  }

  std::vector<double> activations(size_t expert, size_t token) const {
    std::vector<double> g = product(gate, expert * kFfn, kFfn, inputs[token]);
    const std::vector<double> u = product(up, expert * kFfn, kFfn, inputs[token]);
    for (size_t i = 0; i < kFfn; ++i) g[i] = g[i] / (1 + std::exp(-g[i])) * u[i];
    return g;
  }

  Rows inputs;
  std::map<size_t, double> taken[kExperts];  // by expert: tokens, and with what weight
  const std::vector<double> gate, up;
};

// Of `own` rows, and as if `counted` more had been the mean of `pool`.
Rows pooled_gram(const Rows& own, const Rows& pool, size_t counted) {
  const size_t width = pool.front().size();
  Rows gram(width, std::vector<double>(width));
  const auto add = [&](const Rows& rows, double weight) {
    for (const std::vector<double>& x : rows) {
      for (size_t i = 0; i < width; ++i) {
        for (size_t j = 0; j < width; ++j) gram[i][j] += weight * x[i] * x[j];
      }
    }
  };
  const auto all = static_cast<double>(own.size() + counted);
  add(own, 1 / all);
  add(pool, static_cast<double>(counted) / static_cast<double>(pool.size()) / all);
  return gram;
}

double difference(const Gram& gram, const Rows& expected) {
  double most = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    for (size_t j = 0; j < expected.size(); ++j) {
      most = std::max(most, std::abs(gram.mean(i, j) - expected[i][j]));
      size = std::max(size, std::abs(expected[i][j]));
    }
  }
  return most / size;
}

/// The model's first layer, ready for its experts.
struct Bench {
  explicit Bench(size_t threads = 2) : team(must(ThreadTeam::create(threads))) {
    const std::vector<std::byte> bytes = random_mixture(MixtureKind::kMixtral, [](const std::string& name, std::vector<float>& values) {
      if (name == "blk.0.attn_output.weight") std::fill(values.begin(), values.end(), 0.0f);
      if (name != "blk.0.ffn_gate_inp.weight") return;
      // Where the first expert is taken the third is too, so that the second, whose score is near nothing, and the others have what is
      // left.
      for (size_t k = 0; k < kWidth; ++k)
        values[k] *= 20, values[kWidth + k] = 0.1f * values[kWidth + k], values[2 * kWidth + k] = 0.9f * values[k];
    });
    write_test_file(path(), bytes);
    model.emplace(must(Model::open(path())));
    fixed.resize(layout().shape.fixed_bytes / sizeof(float));
    must(load_fixed_tensors(model->impl()->file, layout(), fixed.data()));
    forward.emplace(layout(), fixed.data(), kTokens, *team);
    std::vector<Token> tokens(kTokens);
    std::iota(tokens.begin(), tokens.end(), 0);
    residual = must(embed_tokens(*model->impl(), tokens));
    inputs.resize(residual.size());
    forward->ffn_input(0, residual, inputs);
    rows = must(route_tokens(*model->impl(), 0, inputs, *team));
  }

  std::string path() const { return scratch / "model.gguf"; }
  const ModelLayout& layout() const { return *model->impl()->layout; }
  ExpertWindow window() const { return ExpertWindow(*model->impl(), 0, *forward, inputs, rows, *team, options, wishes); }
  PackedMatrix packed(uint32_t matrix, uint32_t expert) const {
    const WeightSource& weight = layout().weights[matrix];
    return PackedMatrix(must(read_matrix(model->impl()->file.source(), weight, expert)), weight.rows, weight.columns);
  }
  const FfnLayout& stacks() const { return layout().layers[0].ffn; }
  std::vector<MatrixPlan> plans(int bits) const {
    std::vector<MatrixPlan> all(layout().weights.size());
    for (MatrixPlan& plan : all) plan.bits = bits;
    return all;
  }

  const CompressOptions options;
  SurveyWishes wishes;
  ScratchFolder scratch;
  std::unique_ptr<ThreadTeam> team;
  std::optional<Model> model;
  LeasedVector<float> fixed, residual, inputs;
  std::optional<LayerForward> forward;
  std::vector<ExpertRows> rows;
};

TEST_CASE("ExpertWindow: tokens, weights and Gram matrices of every expert are those of a forward pass in float64") {
  const Bench bench;
  const Oracle oracle{Tensors(bench.path())};
  ExpertWindow window = bench.window();
  size_t few = 0, many = 0;
  for (uint32_t expert = 0; expert < kExperts; ++expert) {
    CAPTURE(expert);
    Rows own, own_activations, spread;
    size_t i = 0;
    REQUIRE(bench.rows[expert].tokens.size() == oracle.taken[expert].size());
    for (const auto& [token, weight] : oracle.taken[expert]) {
      REQUIRE(bench.rows[expert].tokens[i] == token);
      REQUIRE(bench.rows[expert].weights[i++] == Approx(weight).margin(1e-5));
      own.push_back(oracle.inputs[token]);
      own_activations.push_back(oracle.activations(expert, token));
    }
    CHECK(difference(window.input_gram(expert), pooled_gram(own, oracle.inputs, kWidth / 8)) < 1e-5);
    const size_t others = std::max(kFfn / 8, kFfn - std::min(kFfn, own.size()));
    for (size_t k = 0; k < others; ++k) spread.push_back(oracle.activations(expert, k * kTokens / others));
    const Gram gram =
        must(window.activation_gram(expert, bench.packed(bench.stacks().gate, expert), bench.packed(bench.stacks().up, expert)));
    CHECK(difference(gram, pooled_gram(own_activations, spread, kFfn / 8)) < 1e-5);
    few += own.size() < 50;
    many += own.size() > kFfn / 2;
  }
  CHECK((few > 0 && many > 0));
}

TEST_CASE("ExpertWindow: an expert that no token takes is quantised by what the layer's tokens are") {
  Bench bench;
  bench.rows[3] = {};
  const std::vector<CompressedMatrix> made = must(bench.window().compress(3, bench.plans(3)));
  REQUIRE(made.size() == 3);
  const auto quantised = [&](uint32_t matrix, const Gram& gram) {
    std::vector<float> diagonal;
    for (size_t i = 0; i < gram.width(); ++i) diagonal.push_back(static_cast<float>(gram.mean(i, i)));
    const LeasedVector<float> feedback = must(feedback_factor(gram, feedback_damping(3), *bench.team)),
                             values = must(read_matrix(bench.model->impl()->file.source(), bench.layout().weights[matrix], 3));
    return must(quantise_matrix(values, values.size() / gram.width(), gram.width(), {diagonal, feedback}, {3, true}, *bench.team)).bytes;
  };
  Gram pool(kWidth);
  pool.add(bench.inputs, *bench.team);
  CHECK((made[0].backbone.bytes == quantised(bench.stacks().gate, pool)));
  CHECK((made[1].backbone.bytes == quantised(bench.stacks().up, pool)));
  const auto restored = [](const LowBitMatrix& matrix) {
    std::vector<float> values(matrix.rows * matrix.columns);
    must(dequantize(matrix.type, matrix.bytes.data(), values.data(), values.size()));
    return PackedMatrix(values, matrix.rows, matrix.columns);
  };
  const Gram behind = must(bench.window().activation_gram(3, restored(made[0].backbone), restored(made[1].backbone)));
  CHECK(behind.tokens() == kFfn / 8);
  CHECK((made[2].backbone.bytes == quantised(bench.stacks().down, behind)));
  for (const CompressedMatrix& one : made) CHECK((one.loss > 0 && one.loss < 0.2 && one.tokens == 0));
}

TEST_CASE("ExpertWindow: what an expert adds to its tokens is that of a forward pass in float64, and nothing else changes") {
  const Bench bench;
  const Tensors tensors(bench.path());
  const Oracle oracle(tensors);
  const std::vector<double> down = tensors("blk.0.ffn_down_exps.weight");
  ExpertForward forward(bench.layout().config, *bench.forward, bench.inputs, *bench.team);
  for (uint32_t expert = 0; expert < kExperts; ++expert) {
    CAPTURE(expert);
    LeasedVector<float> residual = bench.residual;
    forward.add_expert(
        {bench.packed(bench.stacks().gate, expert), bench.packed(bench.stacks().up, expert), bench.packed(bench.stacks().down, expert)},
        bench.rows[expert], residual);
    for (size_t token = 0; token < kTokens; ++token) {
      const auto taken = oracle.taken[expert].find(token);
      const std::vector<double> result = product(down, expert * kWidth, kWidth, oracle.activations(expert, token));
      for (size_t k = 0; k < kWidth; ++k) {
        const double before = bench.residual[token * kWidth + k],
                     added = taken == oracle.taken[expert].end() ? 0 : taken->second * result[k];
        REQUIRE(residual[token * kWidth + k] == Approx(before + added).margin(1e-3));
      }
    }
  }
}

/// What a residual is as numbers.
struct Lost {
  explicit Lost(const SelectiveResidual& residual) : of(residual), values(residual.columns.rows * residual.columns.columns) {
    must(dequantize(residual.columns.type, residual.columns.bytes.data(), values.data(), values.size()));
  }

  /// Adds to `y` what is read for `x` by a token that takes so much of the result; `*read` counts columns.
  void add(const std::vector<double>& x, double weight, std::vector<double>* y, size_t* read) const {
    const float threshold = of.thresholds.front().at.back();
    for (size_t row = 0; row < y->size(); ++row) (*y)[row] += of.columns.bias[row];
    for (size_t k = 0; k < x.size(); ++k) {
      const double centred = x[k] - of.means[k];
      if (!(weight * std::abs(centred) * of.columns.norms[k] > threshold)) continue;
      ++*read;
      for (size_t row = 0; row < y->size(); ++row) (*y)[row] += values[k * y->size() + row] * centred;
    }
  }

  const SelectiveResidual& of;
  std::vector<float> values;
};

TEST_CASE(
    "ExpertWindow: with residuals an expert's tokens read the planned share, the more the more they take of it, and what goes on is "
    "corrected") {
  const Bench bench;
  const Oracle oracle{Tensors(bench.path())};
  ExpertWindow window = bench.window();
  std::vector<MatrixPlan> plans = bench.plans(2);
  for (MatrixPlan& plan : plans) plan.share = 0.3;
  for (uint32_t expert = 0; expert < kExperts; ++expert) {
    CAPTURE(expert);
    const std::vector<CompressedMatrix> made = must(window.compress(expert, plans));
    const auto backbone = [](const CompressedMatrix& one) {
      LeasedVector<float> values(one.backbone.rows * one.backbone.columns);
      must(dequantize(one.backbone.type, one.backbone.bytes.data(), values.data(), values.size()));
      return std::vector<double>(values.begin(), values.end());
    };
    const std::vector<double> coded[] = {backbone(made[0]), backbone(made[1]), backbone(made[2])};
    const Lost lost[] = {Lost(made[0].residual), Lost(made[1].residual), Lost(made[2].residual)};
    size_t read[3] = {};
    Rows corrected_activations;
    std::map<size_t, size_t> read_by_token;
    LeasedVector<float> residual = bench.residual;
    window.add_to(expert, made, residual);
    for (const auto& [token, weight] : oracle.taken[expert]) {
      const std::vector<double>& x = oracle.inputs[token];
      std::vector<double> gate = product(coded[0], 0, kFfn, x), up = product(coded[1], 0, kFfn, x);
      const size_t before = read[0] + read[1] + read[2];
      lost[0].add(x, weight, &gate, &read[0]);
      lost[1].add(x, weight, &up, &read[1]);
      for (size_t i = 0; i < kFfn; ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
      std::vector<double> result = product(coded[2], 0, kWidth, gate);
      lost[2].add(gate, weight, &result, &read[2]);
      read_by_token[token] = read[0] + read[1] + read[2] - before;
      for (size_t k = 0; k < kWidth; ++k) {
        REQUIRE(residual[token * kWidth + k] == Approx(bench.residual[token * kWidth + k] + weight * result[k]).margin(1e-3));
      }
      corrected_activations.push_back(std::move(gate));
    }
    const auto tokens = static_cast<double>(oracle.taken[expert].size());
    CHECK(static_cast<double>(read[0]) / (tokens * kWidth) == Approx(0.3).margin(0.05));
    CHECK(static_cast<double>(read[1]) / (tokens * kWidth) == Approx(0.3).margin(0.05));
    CHECK(static_cast<double>(read[2]) / (tokens * kFfn) == Approx(0.3).margin(0.05));
    // Tokens that take little of the expert read less than those that take much.
    std::vector<std::pair<double, double>> order;
    for (const auto& [token, weight] : oracle.taken[expert]) order.emplace_back(weight, read_by_token[token]);
    std::sort(order.begin(), order.end());
    double low = 0, high = 0;
    for (size_t i = 0; i < order.size() / 2; ++i) low += order[i].second, high += order[order.size() - 1 - i].second;
    if (order.size() > 20) CHECK(low < 0.8 * high);
  }
}

TEST_CASE("ExpertWindow: the second moment of what down is given is that of activations behind corrected gate and up") {
  const Bench bench;
  ExpertWindow window = bench.window();
  std::vector<MatrixPlan> plans = bench.plans(2);
  const std::vector<CompressedMatrix> bare = must(window.compress(0, plans));
  for (MatrixPlan& plan : plans) plan.share = 1;
  const std::vector<CompressedMatrix> made = must(window.compress(0, plans));
  CHECK((bare[0].backbone.bytes == made[0].backbone.bytes));
  CHECK((bare[2].backbone.bytes != made[2].backbone.bytes));
  const auto packed = [](const CompressedMatrix& one) {
    std::vector<float> values(one.backbone.rows * one.backbone.columns);
    must(dequantize(one.backbone.type, one.backbone.bytes.data(), values.data(), values.size()));
    return PackedMatrix(values, one.backbone.rows, one.backbone.columns);
  };
  const Gram exact = must(window.activation_gram(0, bench.packed(bench.stacks().gate, 0), bench.packed(bench.stacks().up, 0))),
             uncorrected = must(window.activation_gram(0, packed(made[0]), packed(made[1]))),
             corrected = must(window.activation_gram(0, packed(made[0]), packed(made[1]), corrections_of(made, *bench.team)));
  const auto difference_of = [&](const Gram& gram) {
    double sum = 0;
    for (size_t i = 0; i < kFfn; ++i) sum += std::abs(gram.mean(i, i) - exact.mean(i, i));
    return sum;
  };
  CHECK(difference_of(corrected) < 0.3 * difference_of(uncorrected));
}

TEST_CASE(
    "ExpertWindow: an expert that no token takes has the residual of what the layer's tokens would read, taking as much as tokens do") {
  Bench bench;
  std::vector<MatrixPlan> plans = bench.plans(2);
  for (MatrixPlan& plan : plans) plan.share = 0.25;
  bench.rows[3] = {};
  double taken = 0;
  for (const ExpertRows& rows : bench.rows) taken = std::accumulate(rows.weights.begin(), rows.weights.end(), taken);
  const double weight = taken / (kTokens * kUsed);
  const std::vector<CompressedMatrix> made = must(bench.window().compress(3, plans));
  for (const CompressedMatrix& one : made) CHECK((one.residual.share == 0.25 && one.residual.thresholds.size() == 1));
  const Lost lost(made[0].residual);
  size_t read = 0;
  std::vector<double> ignored(kFfn);
  for (size_t token = 0; token < kTokens; ++token) {
    const auto row = bench.inputs.begin() + static_cast<ptrdiff_t>(token * kWidth);
    lost.add({row, row + kWidth}, weight, &ignored, &read);
  }
  CHECK(static_cast<double>(read) / (kTokens * kWidth) == Approx(0.25).margin(0.1));
}

TEST_CASE("ExpertWindow: what is read by what a token takes of a result restores more of it than as much read by everyone alike") {
  const Bench bench;
  const Oracle oracle{Tensors(bench.path())};
  ExpertWindow window = bench.window();
  std::vector<MatrixPlan> plans = bench.plans(2);
  for (MatrixPlan& plan : plans) plan.share = 0.25;
  double with_gate = 0, without = 0;
  for (uint32_t expert = 0; expert < kExperts; ++expert) {
    const std::vector<CompressedMatrix> made = must(window.compress(expert, plans));
    const SelectiveResidual& residual = made[2].residual;
    const ExpertRows& rows = bench.rows[expert];
    const size_t tokens = rows.tokens.size();
    LeasedVector<float> inputs;
    for (const uint32_t token : rows.tokens) {
      const std::vector<double> x = oracle.activations(expert, token);
      inputs.insert(inputs.end(), x.begin(), x.end());
    }
    // The same columns, with a threshold by which as many are read.
    ThresholdCounter counter(residual.columns.norms);
    LeasedVector<float> centred = inputs;
    for (size_t i = 0; i < centred.size(); ++i) centred[i] -= residual.means[i % kFfn];
    must(counter.add(centred));
    SelectiveResidual alike = residual, whole = residual;
    const auto outputs = [&](const SelectiveResidual& one, std::span<const float> weights) {
      LeasedVector<float> sums(tokens * kWidth);
      one.add_to(inputs, tokens, sums.data(), kWidth, *bench.team, weights);
      return sums;
    };
    whole.thresholds.front().at.fill(-1);
    alike.thresholds.front().at.fill(must(counter.finish()).threshold(0.25));
    const LeasedVector<float> all = outputs(whole, {}), gated = outputs(residual, rows.weights), even = outputs(alike, {});
    for (size_t i = 0; i < all.size(); ++i) {
      const double weight = rows.weights[i / kWidth];
      with_gate += std::pow(weight * (all[i] - gated[i]), 2);
      without += std::pow(weight * (all[i] - even[i]), 2);
    }
  }
  CAPTURE(with_gate, without);
  CHECK(with_gate < 0.9 * without);
}

TEST_CASE("ExpertStacks: residuals of the experts stand one after the other, and curves are means over the tokens that took one") {
  Bench bench;
  bench.wishes.columns = true;
  ExpertWindow window = bench.window();
  std::vector<MatrixPlan> plans = bench.plans(2);
  for (MatrixPlan& plan : plans) plan.share = 0.5;
  ExpertStacks stacks(kExperts);
  std::vector<CompressedMatrix> downs;
  double restored = 0;
  for (uint32_t expert = 0; expert < kExperts; ++expert) {
    std::vector<CompressedMatrix> made = must(window.compress(expert, plans));
    CHECK((made[2].curve.restored[32] > 0.5 && made[2].curve.restored[64] == Approx(1)));
    restored += made[2].curve.restored[8] * static_cast<double>(made[2].tokens) / (kTokens * kUsed);
    downs.push_back(made[2]);
    stacks.add(std::move(made));
  }
  const CompressedMatrix stack = std::move(stacks.finish()[2]);
  CHECK(stack.curve.restored[8] == Approx(restored));
  REQUIRE(stack.residual.thresholds.size() == kExperts);
  const auto is_part = [&](const auto& all, const auto& one, size_t expert) {
    return all.size() == kExperts * one.size() &&
           std::equal(one.begin(), one.end(), all.begin() + static_cast<ptrdiff_t>(expert * one.size()));
  };
  for (size_t expert = 0; expert < kExperts; ++expert) {
    const SelectiveResidual& one = downs[expert].residual;
    CHECK(is_part(stack.residual.columns.bytes, one.columns.bytes, expert));
    CHECK(is_part(stack.residual.columns.norms, one.columns.norms, expert));
    CHECK(is_part(stack.residual.columns.bias, one.columns.bias, expert));
    CHECK(is_part(stack.residual.means, one.means, expert));
    CHECK(stack.residual.thresholds[expert].at == one.thresholds.front().at);
  }
}

TEST_CASE("ExpertWindow: bits do not depend on the number of threads, and stacks have the experts one after the other") {
  const Bench one(1), three(3);
  ExpertWindow of_one = one.window(), of_three = three.window();
  ExpertStacks stacks(kExperts);
  LeasedVector<std::byte> gates;
  double loss = 0;
  for (uint32_t expert = 0; expert < kExperts; ++expert) {
    std::vector<CompressedMatrix> made = must(of_one.compress(expert, one.plans(2)));
    const std::vector<CompressedMatrix> other = must(of_three.compress(expert, three.plans(2)));
    for (size_t i = 0; i < made.size(); ++i) CHECK((made[i].backbone.bytes == other[i].backbone.bytes));
    gates.insert(gates.end(), made[0].backbone.bytes.begin(), made[0].backbone.bytes.end());
    loss += made[0].loss * static_cast<double>(one.rows[expert].tokens.size()) / (kTokens * kUsed);
    stacks.add(std::move(made));
  }
  const std::vector<CompressedMatrix> all = stacks.finish();
  REQUIRE(all.size() == 3);
  CHECK((all[0].backbone.bytes == gates));
  CHECK((all[0].backbone.rows == kExperts * kFfn && all[2].backbone.rows == kExperts * kWidth && all[2].backbone.columns == kFfn));
  CHECK(all[0].loss == Approx(loss));
  CHECK(all[0].tokens == kTokens * kUsed);
}

}  // namespace
}  // namespace outrigger::testing
