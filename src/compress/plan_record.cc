// PlanRecord: matrices, then the survey's numbers in a row.
#include "src/compress/plan_record.h"

#include <algorithm>
#include <cstring>
#include <utility>


namespace outrigger {
namespace {

/// Of one matrix of the layout.
struct SavedPlan {
  int32_t bits = 0;
  uint32_t rank = 0;
  double share = 0, kl = 0, restored = 0;
  uint32_t has_codebook = 0, block = 64;

  OwnForm form() const { return {has_codebook != 0, block}; }
};

/// A survey's numbers, in a row: its distance, those by kind and by layer, the number of points, and the points.
size_t survey_numbers(const ModelLayout& layout) { return 1 + kinds_of(layout).size() + layout.config.layers + 1 + 2 * kCurvePoints; }

std::vector<double> numbers_of(const CompressSurvey& survey, const ModelLayout& layout) {
  std::vector<double> numbers = {survey.kl};
  numbers.insert(numbers.end(), survey.kl_by_kind.begin(), survey.kl_by_kind.end());
  numbers.insert(numbers.end(), survey.kl_by_layer.begin(), survey.kl_by_layer.end());
  numbers.push_back(static_cast<double>(survey.curve.size()));
  for (const CompressSurvey::Point& point : survey.curve) numbers.insert(numbers.end(), {point.bytes, point.restored});
  numbers.resize(survey_numbers(layout));
  return numbers;
}

std::optional<CompressSurvey> survey_of(std::span<const double> numbers, const ModelLayout& layout) {
  const size_t kind_count = kinds_of(layout).size();
  const auto kinds = numbers.subspan(1, kind_count), layers = numbers.subspan(1 + kind_count, layout.config.layers),
             rest = numbers.subspan(1 + kind_count + layout.config.layers);
  if (!(rest[0] >= 0 && rest[0] <= kCurvePoints)) return std::nullopt;
  CompressSurvey survey{numbers[0], {kinds.begin(), kinds.end()}, {layers.begin(), layers.end()}, {}};
  for (size_t i = 0; i < static_cast<size_t>(rest[0]); ++i) survey.curve.push_back({rest[1 + 2 * i], rest[2 + 2 * i]});
  return survey;
}

bool can_be(const SavedPlan& plan, const WeightSource& weight) {
  const bool has_type = plan.has_codebook <= 1 && own_type(plan.bits, plan.form()) && weight.columns % plan.block == 0;
  return has_type && plan.rank % 32 == 0 && plan.rank <= std::min(weight.rows, weight.columns) && plan.share >= 0 &&
         plan.share <= 1;
}

}  // namespace

uint64_t plan_record_bytes(const ModelLayout& layout) {
  return layout.weights.size() * sizeof(SavedPlan) + survey_numbers(layout) * sizeof(double);
}

std::vector<std::byte> write_plan(const ModelPlan& plan, const ModelLayout& layout) {
  std::vector<SavedPlan> saved;
  for (const MatrixPlan& one : plan.matrices)
    saved.push_back({one.bits, one.rank, one.share, one.kl, one.restored, one.form.has_codebook, one.form.block});
  const std::vector<double> numbers = numbers_of(plan.survey, layout);
  std::vector<std::byte> record;
  for (const auto bytes : {std::as_bytes(std::span(saved)), std::as_bytes(std::span(numbers))})
    record.insert(record.end(), bytes.begin(), bytes.end());
  return record;
}

std::optional<ModelPlan> read_plan(std::span<const std::byte> record, const ModelLayout& layout) {
  if (record.size() != plan_record_bytes(layout)) return std::nullopt;
  std::vector<SavedPlan> saved(layout.weights.size());
  std::memcpy(saved.data(), record.data(), saved.size() * sizeof(SavedPlan));
  std::vector<double> numbers(survey_numbers(layout));
  std::memcpy(numbers.data(), record.data() + saved.size() * sizeof(SavedPlan), numbers.size() * sizeof(double));
  std::optional<CompressSurvey> survey = survey_of(numbers, layout);
  if (!survey) return std::nullopt;
  ModelPlan plan{std::vector<MatrixPlan>(saved.size()), std::move(*survey)};
  for (const uint32_t matrix : matrices_of_layers(layout)) {
    const SavedPlan& one = saved[matrix];
    if (!can_be(one, layout.weights[matrix]) || (one.rank > 0 && is_stack(layout, matrix))) return std::nullopt;
    plan.matrices[matrix] = {one.bits, one.rank, one.share, one.kl, one.restored, one.form()};
  }
  return plan;
}

}  // namespace outrigger
