// Survey: one pass of the compressor, then the meter.
#include "src/compress/survey.h"

#include <algorithm>
#include <memory>
#include <new>

#include "src/base/macros.h"
#include "src/base/thread_team.h"
#include "src/compress/compressor.h"
#include "src/compress/planning.h"
#include "src/tensor/dequantize.h"

namespace outrigger {
namespace {

constexpr size_t kMeasuredChunks = 2;
constexpr double kShareOfCompressing = 0.6;  // of a survey's time

// Chunks from all over the text, so that each of several kinds has a chance.
std::vector<Token> measured_chunks(std::span<const Token> tokens, size_t chunk_tokens) {
  const size_t there = tokens.size() / chunk_tokens, used = std::min(there, kMeasuredChunks);
  std::vector<Token> chosen;
  for (size_t i = 0; i < used; ++i) {
    const auto chunk = tokens.subspan(i * there / used * chunk_tokens, chunk_tokens);
    chosen.insert(chosen.end(), chunk.begin(), chunk.end());
  }
  return chosen;
}

}  // namespace

Result<SurveyResult> survey_model(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options,
                                  uint32_t most_rank, bool columns, SavedWork* saved,
                                  const std::function<Status(double share)>& watch) try {
  const ModelLayout& layout = *model.layout;
  std::vector<MatrixPlan> plans(layout.weights.size());
  for (const uint32_t matrix : matrices_of_layers(layout)) plans[matrix].bits = base_bits(options), plans[matrix].form = form_of(options);
  std::vector<LowBitMatrix> backbone(layout.weights.size());
  std::vector<MatrixLoss> losses;
  OTR_ASSIGN(std::unique_ptr<Compressor> compressor, Compressor::create(model, tokens, options));
  compressor->survey_components(most_rank);
  if (columns) compressor->survey_columns();
  if (saved != nullptr) {
    OTR_TRY(saved->begin(SavedWork::Pass::kSurvey, plans));
    compressor->keep_in(saved);
  }
  const auto sink = [&](uint32_t matrix, CompressedMatrix made) {
    losses.push_back({matrix, 0, std::move(made.lost.worth), made.lost.all, made.curve});
    backbone[matrix] = std::move(made.backbone);
    return Status();
  };
  OTR_TRY(compressor->run(plans, sink, [&](uint32_t done, uint32_t all) { return watch(kShareOfCompressing * done / all); }));

  compressor.reset();
  OTR_ASSIGN(const std::unique_ptr<ThreadTeam> team, ThreadTeam::create(options.threads > 0 ? options.threads : usable_cores()));
  OTR_ASSIGN(const std::unique_ptr<KlMeter> meter,
             KlMeter::create(model, measured_chunks(tokens, options.chunk_tokens), options.chunk_tokens, *team));
  const MatrixReader exact = [&](MatrixIndex part) { return read_matrix(model.file.source(), layout.weights[part.matrix], part.expert); };
  const MatrixReader lossy = [&](MatrixIndex part) -> Result<LeasedVector<float>> {
    const WeightSource& weight = layout.weights[part.matrix];
    const LowBitMatrix& stack = backbone[part.matrix];
    LeasedVector<float> values(weight.rows * weight.columns);
    const std::byte* const bytes = stack.bytes.data() + part.expert * weight.rows * *row_bytes(stack.type, weight.columns);
    OTR_TRY(dequantize(stack.type, bytes, values.data(), values.size()));
    return values;
  };
  const auto measuring = [&](uint32_t done, uint32_t all) { return watch(kShareOfCompressing + (1 - kShareOfCompressing) * done / all); };
  OTR_ASSIGN(CompressSurvey measured, measure_losses(layout, *meter, lossy, exact, measuring, &losses, saved));
  return SurveyResult{std::move(losses), std::move(measured)};
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
