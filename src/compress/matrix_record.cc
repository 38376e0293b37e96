// MatrixRecord: numbers as they stand in memory, since the file never leaves the machine; before each array its size.
#include "src/compress/matrix_record.h"

#include <cstring>

#include "src/compress/factor_codes.h"

namespace outrigger {
namespace {

class Writer {
 public:
  explicit Writer(LeasedVector<std::byte>* record) : record_(*record) {}

  template <typename T>
  void number(const T& value) {
    add(std::as_bytes(std::span(&value, 1)));
  }
  template <typename Vector>
  void array(const Vector& values) {
    number(static_cast<uint64_t>(values.size()));
    add(std::as_bytes(std::span(values)));
  }

 private:
  void add(std::span<const std::byte> bytes) { record_.insert(record_.end(), bytes.begin(), bytes.end()); }

  LeasedVector<std::byte>& record_;
};

// After something that cannot be, everything reads as nothing.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> record) : rest_(record) {}

  template <typename T>
  T number() {
    T value{};
    take(&value, sizeof value);
    return value;
  }
  /// `values`: of `expected` elements.
  template <typename Vector>
  void array(uint64_t expected, Vector* values) {
    constexpr size_t kElement = sizeof(typename Vector::value_type);
    if (number<uint64_t>() != expected || expected > rest_.size() / kElement) is_good_ = false;
    values->resize(is_good_ ? expected : 0);
    take(values->data(), values->size() * kElement);
  }
  /// Of `expected` elements, or none.
  template <typename Vector>
  void array_or_none(uint64_t expected, Vector* values) {
    uint64_t size = 0;
    if (rest_.size() >= sizeof size) std::memcpy(&size, rest_.data(), sizeof size);
    array(size == 0 ? 0 : expected, values);
  }
  void require(bool holds) { is_good_ = is_good_ && holds; }
  bool is_good() const { return is_good_; }
  std::span<const std::byte> rest() const { return rest_; }

 private:
  void take(void* dst, size_t bytes) {
    is_good_ = is_good_ && bytes <= rest_.size();
    if (!is_good_ || bytes == 0) return;
    std::memcpy(dst, rest_.data(), bytes);
    rest_ = rest_.subspan(bytes);
  }

  std::span<const std::byte> rest_;
  bool is_good_ = true;
};

void write_branch(const LowRankBranch& branch, Writer* writer) {
  writer->array(branch.a);
  writer->array(branch.b);
  writer->array(branch.importance);
  writer->array(branch.worth);
  writer->number(branch.residual_loss);
  writer->number(branch.remaining_loss);
}

LowRankBranch read_branch(const MatrixPlan& plan, const WeightSource& weight, int factor_bits, Reader* reader) {
  LowRankBranch branch;
  branch.rows = weight.rows;
  branch.columns = weight.columns;
  branch.rank = plan.rank;
  branch.type = factor_type(factor_bits);
  reader->array(plan.rank * *row_bytes(branch.type, weight.columns), &branch.a);
  reader->array(weight.rows * *row_bytes(branch.type, plan.rank), &branch.b);
  reader->array(weight.columns, &branch.importance);
  reader->array_or_none(plan.rank, &branch.worth);
  branch.residual_loss = reader->number<double>();
  branch.remaining_loss = reader->number<double>();
  return branch;
}

void write_residual(const SelectiveResidual& residual, Writer* writer) {
  writer->array(residual.columns.bytes);
  writer->array(residual.columns.norms);
  writer->array(residual.columns.bias);
  writer->array(residual.means);
  writer->number(residual.thresholds.front().at);
}

SelectiveResidual read_residual(const MatrixPlan& plan, const WeightSource& weight, Reader* reader) {
  SelectiveResidual residual;
  residual.share = plan.share;
  residual.columns.rows = weight.rows;
  residual.columns.columns = weight.columns;
  reader->array(residual_bytes(weight.rows, weight.columns), &residual.columns.bytes);
  reader->array(weight.columns, &residual.columns.norms);
  reader->array(weight.rows, &residual.columns.bias);
  reader->array(weight.columns, &residual.means);
  residual.thresholds.push_back(reader->number<ThresholdTable>());
  return residual;
}

}  // namespace

void append_matrix_record(const CompressedMatrix& made, LeasedVector<std::byte>* record) {
  Writer writer(record);
  writer.array(made.backbone.bytes);
  if (made.branch.rank > 0) write_branch(made.branch, &writer);
  if (made.residual.share > 0) write_residual(made.residual, &writer);
  writer.number(made.loss);
  writer.number(made.loss_left);
  writer.number(made.curve.restored);
  writer.number(static_cast<uint32_t>(made.lost.worth.size()));
  writer.array(made.lost.worth);
  writer.number(made.lost.all);
  writer.number(made.tokens);
}

Result<CompressedMatrix> take_matrix_record(const MatrixPlan& plan, const WeightSource& weight, int factor_bits,
                                            std::span<const std::byte>* record) {
  Reader reader(*record);
  CompressedMatrix made;
  made.backbone.type = plan.type();
  made.backbone.rows = weight.rows;
  made.backbone.columns = weight.columns;
  reader.array(weight.rows * *row_bytes(made.backbone.type, weight.columns), &made.backbone.bytes);
  if (plan.rank > 0) made.branch = read_branch(plan, weight, factor_bits, &reader);
  if (plan.share > 0) made.residual = read_residual(plan, weight, &reader);
  made.loss = reader.number<double>();
  made.loss_left = reader.number<double>();
  made.curve.restored = reader.number<decltype(made.curve.restored)>();
  const auto surveyed = reader.number<uint32_t>();
  reader.require(surveyed <= std::min(weight.rows, weight.columns));
  reader.array(surveyed, &made.lost.worth);
  made.lost.all = reader.number<double>();
  made.tokens = reader.number<uint64_t>();
  if (!reader.is_good()) return Status(StatusCode::kCorruptFile, "a kept matrix is not what its plan makes");
  *record = reader.rest();
  return made;
}

}  // namespace outrigger
