// Allocation: budgets are kept, what is worth most comes first, and distances are those of the engine's own logits.
#include "src/compress/allocation.h"

#include <outrigger/compress.h>

#include <cmath>
#include <map>
#include <set>

#include "src/compress/survey.h"
#include "src/tensor/dequantize.h"
#include "tests/support/engines.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/support/scratch_folder.h"

namespace outrigger::testing {
namespace {

constexpr uint32_t kChunkTokens = 32;

std::vector<Token> text(size_t tokens) {
  std::vector<Token> all(tokens);
  for (size_t i = 0; i < tokens; ++i) all[i] = static_cast<Token>((i * i * 31 + i * 7) % 200);
  return all;
}

MatrixReader reader_of(const Model& model) {
  return [&model](uint32_t matrix) { return read_matrix(model.impl()->file.source(), model.impl()->layout->weights[matrix]); };
}

/// KL of what float32 engines say after each token of each chunk.
double kl_by_engines(const Model& wanted, const Model& got, const std::vector<Token>& tokens) {
  double sum = 0;
  const Engine engine_p = open_engine(wanted, reference_setup()), engine_q = open_engine(got, reference_setup());
  for (size_t first = 0; first < tokens.size(); first += kChunkTokens) {
    std::vector<std::vector<float>> p, q;
    for (const auto& [engine, rows] : {std::pair{&engine_p, &p}, {&engine_q, &q}}) {
      Session session = must(Session::open(*engine));
      must(session.evaluate(std::span(tokens).subspan(first, kChunkTokens),
                            [rows = rows](size_t, std::span<const float> row) { rows->emplace_back(row.begin(), row.end()); }));
    }
    for (size_t t = 0; t < p.size(); ++t) {
      const auto log_sum = [](const std::vector<float>& row) {
        double total = 0;
        for (const float value : row) total += std::exp(double{value});
        return std::log(total);
      };
      const double p_sum = log_sum(p[t]), q_sum = log_sum(q[t]);
      for (size_t i = 0; i < p[t].size(); ++i) sum += std::exp(p[t][i] - p_sum) * ((p[t][i] - p_sum) - (q[t][i] - q_sum));
    }
  }
  return sum / static_cast<double>(tokens.size());
}

TEST_CASE("KlMeter: a distance is that of the engine's logits, from any layer on, and zero for the model itself") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  CompressOptions options;
  options.bits = 3;
  options.chunk_tokens = kChunkTokens;
  must(compress_model(model, text(400), scratch / "small.gguf", options));
  const Model small = must(Model::open(scratch / "small.gguf"));
  const auto team = must(ThreadTeam::create(2));
  const std::vector<Token> tokens = text(3 * kChunkTokens);
  const auto meter = must(KlMeter::create(*model.impl(), tokens, kChunkTokens, *team));
  CHECK(std::abs(must(meter->measure(reader_of(model)))) < 1e-9);
  const double all = must(meter->begin(reader_of(small)));
  CHECK(all == Approx(kl_by_engines(model, small, tokens)).epsilon(1e-3));
  CHECK(must(meter->measure(reader_of(small))) == all);
  CHECK(must(meter->measure_from(reader_of(small), 2)) == all);
  // The last layer put right, from it on and from the start.
  const uint32_t first = model.impl()->layout->layers[2].q;
  const MatrixReader mended = [&](uint32_t matrix) { return matrix >= first ? reader_of(model)(matrix) : reader_of(small)(matrix); };
  const double from_there = must(meter->measure_from(mended, 2));
  CHECK(from_there == must(meter->measure(mended)));
  CHECK(from_there < all);
}

TEST_CASE("Survey: the layer that loses something is worth all of it, and the watch can stop it") {
  const ScratchFolder scratch;
  // The other layers' weights have four values, which two bits hold.
  const Model model =
      write_and_open(scratch, random_dense([](const std::string& name, std::vector<float>& values) {
                       if (!name.starts_with("blk.") || name.starts_with("blk.1.") || name.find("norm") != std::string::npos) return;
                       for (float& value : values) value = (value > 0 ? 1.0f : -1.0f) * (std::abs(value) > 0.1f ? 0.1875f : 0.0625f);
                     }));
  CompressOptions options;
  options.bits = 2;
  options.chunk_tokens = kChunkTokens;
  double last = 0;
  const auto surveyed = must(survey_model(*model.impl(), text(400), options, 32, true, nullptr, [&](double share) {
    CHECK(share >= last);
    last = share;
    return Status();
  }));
  CHECK(last == 1);
  const std::vector<MatrixLoss>& losses = surveyed.losses;
  REQUIRE(losses.size() == 21);
  CHECK(surveyed.measured.kl > 0);
  REQUIRE((surveyed.measured.kl_by_kind.size() == 7 && surveyed.measured.kl_by_layer.size() == 3));
  CHECK(surveyed.measured.kl_by_layer[1] > 20 * surveyed.measured.kl_by_layer[0]);
  double of_layer[3] = {};
  for (const MatrixLoss& loss : losses) {
    of_layer[model.impl()->layout->shape.matrices[loss.matrix].layer] += loss.kl;
    CHECK(loss.kl >= 0);
    REQUIRE(loss.spectrum.size() == 32);
    double part = 0;
    for (const double worth : loss.spectrum) part += worth;
    CHECK(part <= loss.all * 1.001);
    CHECK(std::is_sorted(loss.spectrum.rbegin(), loss.spectrum.rend()));
    CHECK(std::is_sorted(loss.curve.restored.begin(), loss.curve.restored.end()));
    if (model.impl()->layout->shape.matrices[loss.matrix].layer != 1) continue;
    CHECK(loss.curve.restored[32] > 0.5);
    CHECK(loss.curve.restored[64] == Approx(1));
  }
  CHECK(of_layer[1] > 20 * of_layer[0]);
  CHECK(of_layer[1] > 20 * of_layer[2]);
  const auto stopped = survey_model(*model.impl(), text(400), options, 0, false, nullptr,
                                    [](double share) { return share > 0.7 ? Status(StatusCode::kCancelled, "enough") : Status(); });
  CHECK(stopped.status().code() == StatusCode::kCancelled);
}

TEST_CASE("Survey: stopped after any measurement, the next one has those that were made, and finds the same") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const ModelLayout& layout = *model.impl()->layout;
  CompressOptions options;
  options.bits = 2;
  options.chunk_tokens = kChunkTokens;
  const std::vector<Token> tokens = text(128);
  const auto survey = [&](SavedWork* saved, double most) {
    return survey_model(*model.impl(), tokens, options, 0, false, saved,
                        [most](double share) { return share > most ? Status(StatusCode::kCancelled, "enough") : Status(); });
  };
  const SurveyResult expected = must(survey(nullptr, 1));
  std::vector<MatrixPlan> plans(layout.weights.size());
  for (const uint32_t matrix : matrices_of_layers(layout)) plans[matrix].bits = 2;
  constexpr uint32_t kMeasurements = 7 + 1 + 3;
  for (uint32_t made = 1; made <= kMeasurements; ++made) {
    CAPTURE(made);
    std::unique_ptr<SavedWork> saved = must(SavedWork::open(*model.impl(), tokens, options, scratch / "out"));
    REQUIRE(saved);
    CHECK(!survey(saved.get(), 0.6 + 0.4 * (made - 0.5) / kMeasurements).is_ok());
    saved.reset();
    saved = must(SavedWork::open(*model.impl(), tokens, options, scratch / "out"));
    must(saved->begin(SavedWork::Pass::kSurvey, plans));
    CHECK((saved->windows() == 12 && saved->numbers() == made));
    const SurveyResult found = must(survey(saved.get(), 1));
    CHECK(found.measured.kl == expected.measured.kl);
    CHECK((found.measured.kl_by_kind == expected.measured.kl_by_kind && found.measured.kl_by_layer == expected.measured.kl_by_layer));
    CHECK(std::equal(found.losses.begin(), found.losses.end(), expected.losses.begin(),
                     [](const MatrixLoss& a, const MatrixLoss& b) { return a.kl == b.kl; }));
    CHECK(saved->numbers() == kMeasurements);
    saved->remove();
  }
}

/// Losses of every matrix of the random model: `kl` and a falling spectrum by the matrix's number.
std::vector<MatrixLoss> made_up_losses(const ModelLayout& layout) {
  std::vector<MatrixLoss> losses;
  for (const uint32_t matrix : matrices_of_layers(layout)) {
    MatrixLoss loss{matrix, 0.001 * (1 + matrix * 7 % 13), {}, 1};
    const uint64_t most = std::min(layout.weights[matrix].rows, layout.weights[matrix].columns) / 32 * 32;
    for (uint64_t j = 0; j < most; ++j) loss.spectrum.push_back(0.9 / static_cast<double>(most) * (j < 32 ? 1.3 : 0.7));
    losses.push_back(loss);
  }
  return losses;
}

TEST_CASE("allocate_bits: the mean is kept, and no matrix that loses less has more bits than one of its size that loses more") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const ModelLayout& layout = *model.impl()->layout;
  const std::vector<MatrixLoss> losses = made_up_losses(layout);
  for (const double mean : {2.0, 2.3, 3.0, 3.6, 4.0}) {
    CAPTURE(mean);
    std::vector<MatrixPlan> plans(layout.weights.size());
    for (const MatrixLoss& loss : losses) plans[loss.matrix].bits = 2;
    allocate_bits(layout, losses, mean, &plans);
    double bits = 0, weights = 0;
    std::set<int> used;
    for (const MatrixLoss& loss : losses) {
      const WeightSource& weight = layout.weights[loss.matrix];
      bits += plans[loss.matrix].bits * static_cast<double>(weight.rows * weight.columns);
      weights += static_cast<double>(weight.rows * weight.columns);
      used.insert(plans[loss.matrix].bits);
      for (const MatrixLoss& other : losses) {
        const WeightSource& theirs = layout.weights[other.matrix];
        if (weight.rows * weight.columns == theirs.rows * theirs.columns && loss.kl < other.kl)
          CHECK(plans[loss.matrix].bits <= plans[other.matrix].bits);
      }
    }
    CHECK(bits / weights <= mean + 1e-9);
    CHECK(bits / weights > mean - 0.1);
    if (mean == 3.0) CHECK(used.size() > 1);
  }
}

TEST_CASE("plan_uniform_ranks: the largest rank that fits, and small matrices have as much as they can") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const ModelLayout& layout = *model.impl()->layout;
  const auto bytes_at = [&](uint64_t budget) {
    std::vector<MatrixPlan> plans(layout.weights.size());
    plan_uniform_ranks(layout, budget, 8, &plans);
    uint64_t bytes = 0;
    for (const uint32_t matrix : matrices_of_layers(layout))
      bytes += branch_bytes(layout.weights[matrix].rows, layout.weights[matrix].columns, plans[matrix].rank, 8);
    return bytes;
  };
  const uint64_t all = bytes_at(UINT64_MAX), least = bytes_at(all - 1);
  CHECK(least < all);
  CHECK(least > 0);
  CHECK(bytes_at(least) == least);
  CHECK(bytes_at(least - 1) == 0);
  CHECK(bytes_at(0) == 0);
}

}  // namespace
}  // namespace outrigger::testing
