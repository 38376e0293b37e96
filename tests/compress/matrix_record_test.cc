// MatrixRecord: all of a matrix comes back, and nothing that its plan could not have made is taken for one.
#include "src/compress/matrix_record.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "src/compress/factor_codes.h"
#include "src/compress/plan_record.h"
#include "src/tensor/encode_own.h"
#include "tests/support/catch.h"

namespace outrigger::testing {
namespace {

constexpr int kFactorBits = 4;

WeightSource weight() {
  WeightSource weight;
  weight.rows = 32;
  weight.columns = 64;
  return weight;
}

template <typename T, typename Values = LeasedVector<T>>
Values some(size_t count, std::mt19937& random) {
  Values values(count);
  for (T& value : values) value = static_cast<T>(random() % 200);
  return values;
}

// As compressing would make it by the plan.
CompressedMatrix regular(const MatrixPlan& plan) {
  std::mt19937 random(3);
  const WeightSource source = weight();
  CompressedMatrix made;
  made.backbone = {*own_type(plan.bits), source.rows, source.columns,
                   some<std::byte>(source.rows * *row_bytes(*own_type(plan.bits), source.columns), random)};
  if (plan.rank > 0) {
    const DType type = factor_type(kFactorBits);
    made.branch = {source.rows,
                   source.columns,
                   plan.rank,
                   type,
                   some<std::byte>(plan.rank * *row_bytes(type, source.columns), random),
                   some<std::byte>(source.rows * *row_bytes(type, plan.rank), random),
                   some<float>(source.columns, random),
                   some<double, std::vector<double>>(plan.rank, random),
                   5,
                   3};
  }
  if (plan.share > 0) {
    made.residual.columns = {DType::kQ4_0,
                             source.rows,
                             source.columns,
                             some<std::byte>(residual_bytes(source.rows, source.columns), random),
                             some<float>(source.columns, random),
                             some<float>(source.rows, random)};
    made.residual.means = some<float>(source.columns, random);
    made.residual.share = plan.share;
    made.residual.thresholds.emplace_back().at[7] = 9;
  }
  made.curve.restored[64] = 0.5;
  made.lost = {some<double, std::vector<double>>(11, random), 2};
  made.loss = 0.25;
  made.loss_left = 0.125;
  return made;
}

LeasedVector<std::byte> record_of(const CompressedMatrix& made) {
  LeasedVector<std::byte> record;
  append_matrix_record(made, &record);
  return record;
}

const MatrixPlan kPlans[] = {{3}, {2, 32}, {4, 0, 0.25}};

TEST_CASE("MatrixRecord: what was written is read, one after the other") {
  LeasedVector<std::byte> record;
  for (const MatrixPlan& plan : kPlans) append_matrix_record(regular(plan), &record);
  std::span<const std::byte> rest = record;
  for (const MatrixPlan& plan : kPlans) {
    auto read = take_matrix_record(plan, weight(), kFactorBits, &rest);
    REQUIRE(read.is_ok());
    CHECK(record_of(read.value()) == record_of(regular(plan)));
    CHECK(read->backbone.type == *own_type(plan.bits));
    CHECK((read->branch.rank == plan.rank && read->residual.share == plan.share));
    CHECK((read->loss == 0.25 && read->loss_left == 0.125 && read->lost.all == 2 && read->curve.restored[64] == 0.5));
  }
  CHECK(rest.empty());
}

TEST_CASE("MatrixRecord: cut off anywhere, of another plan or another matrix it is refused") {
  for (const MatrixPlan& plan : kPlans) {
    const LeasedVector<std::byte> record = record_of(regular(plan));
    for (size_t bytes = 0; bytes < record.size(); ++bytes) {
      std::span<const std::byte> rest = std::span(record).first(bytes);
      REQUIRE(take_matrix_record(plan, weight(), kFactorBits, &rest).status().code() == StatusCode::kCorruptFile);
    }
    for (const MatrixPlan& other : kPlans) {
      std::span<const std::byte> rest = record;
      CHECK(take_matrix_record(other, weight(), kFactorBits, &rest).is_ok() == (other.bits == plan.bits));
    }
    WeightSource other = weight();
    other.columns = 128;
    std::span<const std::byte> rest = record;
    CHECK(take_matrix_record(plan, other, kFactorBits, &rest).status().code() == StatusCode::kCorruptFile);
  }
}

TEST_CASE("MatrixRecord: sizes that are not those of the plan take no memory and are refused, wherever they stand") {
  std::mt19937 random(1);
  for (const MatrixPlan& plan : kPlans) {
    const LeasedVector<std::byte> record = record_of(regular(plan));
    for (size_t i = 0; i + 8 <= record.size(); i += 4) {
      LeasedVector<std::byte> changed = record;
      const uint64_t huge = random() % 2 == 0 ? ~uint64_t{0} : uint64_t{1} << 40;
      std::memcpy(changed.data() + i, &huge, sizeof huge);
      std::span<const std::byte> rest = changed;
      auto read = take_matrix_record(plan, weight(), kFactorBits, &rest);
      if (read.is_ok()) CHECK(record_of(read.value()) == changed);  // a number, not a size
    }
  }
}

TEST_CASE("PlanRecord: a plan comes back with its survey, and none that its matrices could not have is taken") {
  ModelLayout layout;
  layout.config.layers = 1;
  layout.layers.resize(1);
  layout.layers[0].q = 0, layout.layers[0].k = 1, layout.layers[0].v = 2, layout.layers[0].output = 3;
  layout.layers[0].ffn.gate = 4, layout.layers[0].ffn.up = 5, layout.layers[0].ffn.down = 6;
  layout.weights.assign(7, weight());
  layout.shape.matrices.resize(7);
  ModelPlan plan{std::vector<MatrixPlan>(7, {3, 32, 0.25, 0.5, 0.75}), {0.125, {1, 2, 3, 4, 5, 6, 7}, {8}, {{0, 0}, {100, 0.5}}}};
  const std::vector<std::byte> record = write_plan(plan, layout);
  REQUIRE(record.size() == plan_record_bytes(layout));
  const auto read = read_plan(record, layout);
  REQUIRE(read);
  CHECK(write_plan(*read, layout) == record);
  CHECK((read->survey.curve.size() == 2 && read->survey.curve[1].restored == 0.5 && read->survey.kl_by_layer[0] == 8));
  for (size_t bytes = 0; bytes < record.size(); ++bytes) CHECK(!read_plan(std::span(record).first(bytes), layout));
  for (const MatrixPlan& wrong :
       {MatrixPlan{5, 32}, MatrixPlan{0, 32}, MatrixPlan{3, 31}, MatrixPlan{3, 64}, MatrixPlan{3, 0, 1.5}, MatrixPlan{3, 0, -1},
        MatrixPlan{3, 0, std::nan("")}, MatrixPlan{3, 0, 0, 0, 0, {false, 32}}, MatrixPlan{3, 0, 0, 0, 0, {true, 128}}}) {
    ModelPlan changed = plan;
    changed.matrices[4] = wrong;
    CHECK(!read_plan(write_plan(changed, layout), layout));
  }
  layout.shape.matrices[4].use = MatrixUse::kRouted;  // experts have residuals, and no branches
  CHECK(!read_plan(record, layout));
  plan.matrices[4] = {3, 0, 0.5};
  CHECK(read_plan(write_plan(plan, layout), layout)->matrices[4].share == 0.5);
  plan.matrices[4] = {3, 0, 0, 0, 0, {true, 64}};
  const auto with_table = read_plan(write_plan(plan, layout), layout);
  REQUIRE(with_table);
  CHECK(with_table->matrices[4].type() == DType::kN3);
  for (const double points : {-1.0, 66.0, 1e300, std::nan("")}) {
    std::vector<std::byte> changed = record;
    std::memcpy(changed.data() + record.size() - (1 + 2 * kCurvePoints) * sizeof points, &points, sizeof points);
    CHECK(!read_plan(changed, layout));
  }
}

}  // namespace
}  // namespace outrigger::testing
