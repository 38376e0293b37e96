// Scenario: a made-up model file with its step's shape, and hand-made plans for it.
#ifndef OUTRIGGER_TESTS_MEMORY_SCENARIO_H_
#define OUTRIGGER_TESTS_MEMORY_SCENARIO_H_

#include <outrigger/plan.h>

#include <algorithm>
#include <random>
#include <vector>

#include "src/memory/residency.h"
#include "tests/support/fake_backend.h"
#include "tests/support/fake_source.h"

namespace outrigger {

struct Scenario {
  StepShape shape;
  std::vector<WeightSource> weights;
  std::vector<std::byte> file{4096 + 160};  ///< something stands before the first matrix
  std::mt19937 random{1};

  Scenario() {
    shape.fixed_bytes = 1000;
    shape.kv_bytes_per_token = 96;
    shape.context_tokens = 256;
    shape.activations = {{1, 50'000}, {16, 300'000}};
    shape.activation_bytes_per_thread = 5000;
    shape.logits_row_bytes = 4000;
  }

  void add(DType type, uint64_t rows, uint64_t columns, MatrixUse use = MatrixUse::kEveryToken, bool also_rows = false) {
    WeightSource weight{type, *packed_kind(type), rows, columns, file.size(), *row_bytes(type, columns)};
    MatrixShape matrix;
    matrix.name = "matrix" + std::to_string(weights.size());
    matrix.rows = rows;
    matrix.columns = columns;
    matrix.file_bytes = rows * weight.row_bytes;
    matrix.packed_bytes = packed_bytes(weight.kind, rows, columns);
    matrix.row_block_bytes = packed_block_bytes(weight.kind, columns);
    matrix.row_block_file_bytes = kPackRows * weight.row_bytes;
    matrix.row_file_bytes = weight.row_bytes;
    matrix.use = use;
    matrix.also_rows = also_rows;
    // Without bit 6 no 16 or 32 bits are an infinity or a NaN, so that values can be compared.
    for (uint64_t i = 0; i < matrix.file_bytes; ++i) file.push_back(static_cast<std::byte>(random() & 0xbf));
    file.resize((file.size() + 31) / 32 * 32);
    shape.matrices.push_back(matrix);
    weights.push_back(weight);
  }

  /// Layers of mixed types and odd sizes, a head, and sometimes an embedding of its own.
  void add_random_model(uint32_t most_matrices) {
    constexpr DType kTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0, DType::kQ4_0,
                                DType::kQ4_1, DType::kQ5_0, DType::kQ2_K, DType::kQ6_K, DType::kMXFP4};
    const auto add_one = [&](MatrixUse use, bool also_rows) {
      const DType type = kTypes[random() % std::size(kTypes)];
      const uint64_t granule = traits(type).block_elements;
      add(type, 1 + random() % 150, granule * (1 + random() % std::max<uint64_t>(1, 200 / granule)), use, also_rows);
    };
    const bool has_embedding = random() % 2 == 0;
    if (has_embedding) add_one(MatrixUse::kRowLookup, false);
    for (uint32_t n = random() % (most_matrices + 1); n > 0; --n) add_one(MatrixUse::kEveryToken, false);
    if (random() % 8 != 0) add_one(MatrixUse::kLogits, !has_embedding);
  }

  /// The same weights in a file of which these matrices are packed, at multiples of 4096.
  Scenario as_packed_file(const std::vector<bool>& which) const {
    Scenario other = *this;
    for (uint32_t i = 0; i < weights.size(); ++i) {
      if (!which[i]) continue;
      WeightSource& weight = other.weights[i];
      MatrixShape& matrix = other.shape.matrices[i];
      weight.is_packed = matrix.is_packed = true;
      weight.row_bytes = matrix.row_file_bytes = matrix.row_block_file_bytes = matrix.row_block_bytes;
      matrix.file_bytes = matrix.packed_bytes;
      other.file.insert(other.file.end(), (4096 - other.file.size() % 4096) % 4096, std::byte{0});
      weight.file_offset = other.file.size();
      const std::vector<std::byte> bytes = packed(i);
      other.file.insert(other.file.end(), bytes.begin(), bytes.end());
    }
    return other;
  }

  /// All that the packed matrix should be.
  std::vector<std::byte> packed(uint32_t matrix) const {
    const WeightSource& weight = weights[matrix];
    std::vector<std::byte> bytes(shape.matrices[matrix].packed_bytes);
    if (weight.is_packed) {
      std::copy_n(file.begin() + static_cast<ptrdiff_t>(weight.file_offset), bytes.size(), bytes.begin());
      return bytes;
    }
    pack_rows(weight.type, file.data() + weight.file_offset, weight.rows, weight.columns, bytes.data());
    return bytes;
  }

  static uint64_t pages(uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

  /// A plan with these matrices streamed through `slots` slots that are `spare_pages` larger than they need to be.
  Plan plan(const std::vector<bool>& streamed, uint32_t slots = 2, uint64_t spare_pages = 0) const {
    Plan plan;
    plan.threads = 2;
    plan.context_tokens = 100;
    plan.logit_rows = 2;
    plan.step_tokens = 16;
    plan.decode.tokens = 1;
    plan.prefill.tokens = 16;
    plan.binding_lane = "disk";
    uint64_t weights_bytes = shape.fixed_bytes, row_bytes = 0, stream_bytes = 0;
    for (size_t i = 0; i < shape.matrices.size(); ++i) {
      const MatrixShape& matrix = shape.matrices[i];
      plan.tensors.push_back({matrix.name, matrix.packed_bytes, matrix.file_bytes});
      if (!streamed[i]) {
        weights_bytes += matrix.packed_bytes;
        continue;
      }
      plan.tensors[i].mode = Residence::kStreamed;
      if (matrix.use != MatrixUse::kRowLookup) {
        plan.stream_slots = slots;
        plan.slot_bytes = std::max(plan.slot_bytes, pages(matrix.row_block_file_bytes + 4096) + spare_pages * 4096);
        stream_bytes += matrix.file_bytes;
      }
      if (matrix.use == MatrixUse::kRowLookup || matrix.also_rows) {
        plan.row_buffer_bytes = std::max(plan.row_buffer_bytes, (matrix.row_file_bytes + 63) / 64 * 64);
        row_bytes += matrix.row_file_bytes;
      }
    }
    if (plan.slot_bytes > 0) plan.reads = std::min(4u, slots - 1);
    uint64_t row_block = std::min<uint64_t>(128 << 10, plan.slot_bytes);
    for (const MatrixShape& matrix : shape.matrices)
      row_block = std::max(row_block, matrix.use == MatrixUse::kRowLookup ? 0 : matrix.row_block_bytes);
    if (plan.slot_bytes > 0) plan.staging_bytes = plan.threads * pages(row_block);
    plan.decode.streamed_bytes = stream_bytes + row_bytes;
    plan.prefill.streamed_bytes = stream_bytes + 16 * row_bytes;
    TierBreakdown& parts = plan.host.breakdown;
    parts.weights_resident = pages(weights_bytes);
    parts.stream_slots = plan.stream_slots * plan.slot_bytes + plan.staging_bytes + pages(plan.row_buffer_bytes);
    parts.kv_cache = pages(112 * shape.kv_bytes_per_token);
    parts.activations = pages(300'000 + 2 * 5000 + 2 * 4000);
    plan.host.planned_bytes = plan.host.budget_bytes = parts.total();
    return plan;
  }

  std::vector<bool> all(bool streamed) const { return std::vector<bool>(weights.size(), streamed); }
  std::vector<bool> some() {
    std::vector<bool> streamed(weights.size());
    for (size_t i = 0; i < streamed.size(); ++i) streamed[i] = random() % 2 == 0;
    return streamed;
  }
  std::shared_ptr<FakeSource> source() const { return std::make_shared<FakeSource>(file); }
};

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_MEMORY_SCENARIO_H_
