// Quantiser: thirty-two rows at a time, column by column, each error handed on to the columns behind it.
#include "src/compress/quantiser.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <new>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/tensor/encode_own.h"
#include "src/tensor/half.h"
#include "src/tensor/scale_search.h"

namespace outrigger {
namespace {

// What one thread works in: the rows it has, turned so that a column's are neighbours.
class RowStrip {
 public:
  RowStrip(std::span<const float> weights, uint64_t rows, uint64_t columns, const InputStatistics& inputs, const QuantiserOptions& options)
      : weights_(weights),
        rows_(rows),
        columns_(columns),
        inputs_(inputs),
        options_(options),
        levels_(options.bits, options.form.has_codebook),
        block_(options.form.block),
        groups_(columns, inputs.group_columns),
        turned_(columns * kScaleLanes),
        codes_(columns * kScaleLanes) {}

  // Rows from `first_row` on, as far as there are, to their places in `bytes`.
  void quantise(uint64_t first_row, LowBitMatrix* out) {
    const uint64_t live = std::min<uint64_t>(kScaleLanes, rows_ - first_row);
    take(first_row, live);
    for (uint64_t block = 0; block < columns_; block += block_) {
      const BlockScales scales = search_scales({turned_.data() + block * kScaleLanes, block_ * kScaleLanes},
                                               inputs_.column_weights.subspan(block, block_), levels_, options_.searches_scales);
      round_block(block, scales);
      if (!inputs_.feedback.empty()) make_up_behind(block);
      for (uint64_t lane = 0; lane < live; ++lane) store(first_row + lane, block, lane, scales, out);
    }
  }

 private:
  // Rows that there are not are zeros.
  void take(uint64_t first_row, uint64_t live) {
    for (uint64_t lane = 0; lane < kScaleLanes; ++lane) {
      const float* const row = weights_.data() + (first_row + lane) * columns_;
      for (uint64_t column = 0; column < columns_; ++column) turned_[column * kScaleLanes + lane] = lane < live ? row[column] : 0;
    }
  }

  void round_block(uint64_t block, const BlockScales& scales) {
    for (uint64_t i = 0; i < block_; ++i) {
      const uint64_t column = block + i;
      float* const weights = &turned_[column * kScaleLanes];
      float* const errors = errors_[i];
      uint8_t* const codes = &codes_[column * kScaleLanes];
      const float* const spread = inputs_.feedback.empty() ? nullptr : own_spread(column);
      const float own = spread != nullptr ? *spread : 1;
      float steps[kScaleLanes], levels[kScaleLanes];
      for (size_t lane = 0; lane < kScaleLanes; ++lane) steps[lane] = (weights[lane] - scales.minimum[lane]) / scales.scale[lane];
      levels_.round(steps, levels);
      for (size_t lane = 0; lane < kScaleLanes; ++lane) {
        const float product = scales.scale[lane] * levels[lane];
        errors[lane] = (weights[lane] - (product + scales.minimum[lane])) / own;
        codes[lane] = levels_.code_of(levels[lane]);
      }
      if (spread == nullptr) continue;
      for (uint64_t later = column + 1; later < block + block_; ++later) {
        float* const target = &turned_[later * kScaleLanes];
        for (size_t lane = 0; lane < kScaleLanes; ++lane) target[lane] -= spread[later - column] * errors[lane];
      }
    }
  }

  // Where a column's error goes: to itself, and those behind it in its group.
  const float* own_spread(uint64_t column) const {
    const size_t group = groups_.group_of(column), inside = column - groups_.first(group);
    return &inputs_.feedback[groups_.place(group) + inside * groups_.size(group) + inside];
  }

  // The errors of the block to all columns behind it in its group, each column once.
  void make_up_behind(uint64_t block) {
    const size_t group = groups_.group_of(block), width = groups_.size(group), end = groups_.first(group) + width;
    const float* const spreads = own_spread(block);
    for (uint64_t later = block + block_; later < end; ++later) {
      float sums[kScaleLanes] = {};
      for (uint64_t i = 0; i < block_; ++i) {
        const float spread = spreads[i * width + later - block];
        for (size_t lane = 0; lane < kScaleLanes; ++lane) sums[lane] += spread * errors_[i][lane];
      }
      float* const target = &turned_[later * kScaleLanes];
      for (size_t lane = 0; lane < kScaleLanes; ++lane) target[lane] -= sums[lane];
    }
  }

  void store(uint64_t row, uint64_t block, uint64_t lane, const BlockScales& scales, LowBitMatrix* out) const {
    uint8_t codes[kMostOwnBlock];
    for (uint64_t i = 0; i < block_; ++i) codes[i] = codes_[(block + i) * kScaleLanes + lane];
    const uint64_t block_bytes = traits(out->type).block_bytes;
    std::byte* const dst = out->bytes.data() + (row * columns_ + block) / block_ * block_bytes;
    encode_own_block(out->type, float_to_f16(scales.scale[lane]), float_to_f16(scales.minimum[lane]), codes, dst);
  }

  const std::span<const float> weights_;
  const uint64_t rows_, columns_;
  const InputStatistics& inputs_;
  const QuantiserOptions& options_;
  const OwnLevels levels_;
  const uint64_t block_;                // weights that share a scale
  const ColumnGroups groups_;
  LeasedVector<float> turned_;           // [columns][kScaleLanes]
  LeasedVector<uint8_t> codes_;          // the same
  float errors_[kMostOwnBlock][kScaleLanes];     // of the block, over the column's own share of the feedback
};

Status check(std::span<const float> weights, uint64_t rows, uint64_t columns, const InputStatistics& inputs, uint32_t block) {
  if (columns % block != 0 || weights.size() != rows * columns || inputs.column_weights.size() != columns) {
    return Status(StatusCode::kInvalidArgument, formatted("got {} x {} weights, need rows of a multiple of {}", rows, columns, block));
  }
  constexpr float kMostHalf = 65504;  // what a float16 minimum can be
  const auto fits = [](float value) { return std::abs(value) <= kMostHalf; };
  if (std::all_of(weights.begin(), weights.end(), fits)) return {};
  return Status(StatusCode::kInvalidArgument, formatted("some weights are no numbers, infinite or beyond {}", kMostHalf));
}

}  // namespace

Status QuantiserOptions::validate() const {
  if (!own_type(bits)) return Status(StatusCode::kInvalidArgument, formatted("bits is {}, need 2, 3 or 4", bits));
  if (own_type(bits, form)) return {};
  return Status(StatusCode::kInvalidArgument, formatted("blocks of {} weights, need 64 or 128", form.block));
}

Result<LowBitMatrix> quantise_matrix(std::span<const float> weights, uint64_t rows, uint64_t columns, const InputStatistics& inputs,
                                     const QuantiserOptions& options, ThreadTeam& team) try {
  OTR_TRY(options.validate());
  OTR_TRY(check(weights, rows, columns, inputs, options.form.block));
  LowBitMatrix out;
  out.type = *own_type(options.bits, options.form);
  out.rows = rows;
  out.columns = columns;
  out.bytes.resize(rows * *row_bytes(out.type, columns));
  std::vector<RowStrip> strips;
  for (size_t i = 0; i < team.threads(); ++i) strips.emplace_back(weights, rows, columns, inputs, options);
  std::atomic<uint64_t> next{0};
  team.run([&](const TeamMember& member) {
    for (uint64_t row; (row = next.fetch_add(kScaleLanes)) < rows;) strips[member.index()].quantise(row, &out);
  });
  return out;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
