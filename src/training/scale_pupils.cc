// ScalePupils: a block begins with its scale and its minimum as float16, and its weights are scale * level + minimum.
#include "src/training/scale_pupils.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "src/base/macros.h"
#include "src/tensor/dequantize.h"
#include "src/tensor/half.h"
#include "src/tensor/own_form.h"

namespace outrigger {
namespace {

constexpr float kStepsOfTwoBits = 3;

struct BlockHead {
  uint16_t scale, minimum;
};

BlockHead head_of(const std::byte* block) {
  BlockHead head;
  std::memcpy(&head, block, kBlockHeadBytes);
  return head;
}

// Steps that would leave float16's range stop at its end.
uint16_t as_half(float value) {
  constexpr float kMost = 65504;
  return float_to_f16(std::clamp(value, -kMost, kMost));
}

}  // namespace

ScalePupils::~ScalePupils() {
  for (const auto& pupil : pupils_) pupil->matrix->watch_weights({});
}

void ScalePupils::add(MatrixCodes codes, BranchedMatrix* matrix) {
  const size_t block_bytes = traits(codes.type).block_bytes, blocks = codes.bytes.size() / block_bytes;
  const OwnForm form = own_form(codes.type);
  const int bits = own_bits(codes.type);
  const float steps = static_cast<float>((1 << bits) - 1), top = OwnLevels(bits, form.has_codebook).top();
  const auto zeros = [blocks] { return LeasedVector<float>(blocks); };
  auto pupil = std::make_unique<Pupil>(Pupil{std::move(codes), matrix, top / steps, kStepsOfTwoBits / steps, zeros(), zeros(),
                                             LeasedVector<float>(blocks, 1), zeros(), zeros(), zeros(), Adam(blocks), Adam(blocks)});
  for (size_t i = 0; i < blocks; ++i) {
    const BlockHead head = head_of(pupil->codes.bytes.data() + i * block_bytes);
    pupil->first_scales[i] = f16_to_float(head.scale);
    pupil->first_minima[i] = f16_to_float(head.minimum);
  }
  matrix->watch_weights(
      [this, one = pupil.get()](size_t first_row, std::span<const float> gradients) { take_gradients(*one, first_row, gradients); });
  pupils_.push_back(std::move(pupil));
}

// A weight's gradient is the minimum's, and times its level the scale's. Levels are what a block of scale 1 and minimum 0 says.
void ScalePupils::take_gradients(Pupil& pupil, size_t first_row, std::span<const float> gradients) {
  const DType type = pupil.codes.type;
  const size_t weights = traits(type).block_elements, block_bytes = traits(type).block_bytes;
  const size_t first_block = first_row * pupil.matrix->columns() / weights;
  team_.run([&](const TeamMember& member) {
    size_t begin, end;
    member.share(gradients.size() / weights, 1, &begin, &end);
    const BlockHead plain{float_to_f16(1), float_to_f16(0)};
    std::byte block[kMostOwnBlock];
    float levels[kMostOwnBlock];
    for (size_t i = begin; i < end; ++i) {
      const size_t at = first_block + i;
      std::memcpy(block, pupil.codes.bytes.data() + at * block_bytes, block_bytes);
      std::memcpy(block, &plain, kBlockHeadBytes);
      (void)dequantize(type, block, levels, weights);  // a whole block of a type of ours
      double of_scale = 0, of_minimum = 0;
      for (size_t k = 0; k < weights; ++k) {
        const double gradient = gradients[i * weights + k];
        of_scale += gradient * levels[k];
        of_minimum += gradient;
      }
      pupil.multiple_gradients[at] = static_cast<float>(of_scale * pupil.first_scales[at]);
      pupil.distance_gradients[at] = static_cast<float>(of_minimum * pupil.first_scales[at] * pupil.step_scales);
    }
  });
}

Status ScalePupils::step(float rate) {
  for (const auto& pupil : pupils_) {
    pupil->adam_multiples.step(pupil->multiples, pupil->multiple_gradients, rate * pupil->rate_of_multiples, team_);
    pupil->adam_distances.step(pupil->distances, pupil->distance_gradients, rate, team_);
    OTR_TRY(show(*pupil));
  }
  return {};
}

float ScalePupils::finest() const {
  float finest = 1;
  for (const auto& pupil : pupils_) finest = std::min(finest, pupil->rate_of_multiples);
  return finest;
}

Status ScalePupils::retreat(float part) {
  for (const auto& pupil : pupils_) {
    for (float& multiple : pupil->multiples) multiple = 1 + part * (multiple - 1);
    for (float& distance : pupil->distances) distance *= part;
    OTR_TRY(show(*pupil));
  }
  return {};
}

Status ScalePupils::reset() {
  for (const auto& pupil : pupils_) {
    std::fill(pupil->multiples.begin(), pupil->multiples.end(), 1.0f);
    std::fill(pupil->distances.begin(), pupil->distances.end(), 0.0f);
    OTR_TRY(show(*pupil));
  }
  return {};
}

Status ScalePupils::show(Pupil& pupil) {
  const size_t block_bytes = traits(pupil.codes.type).block_bytes;
  for (size_t i = 0; i < pupil.multiples.size(); ++i) {
    const float scale = pupil.first_scales[i];
    const BlockHead head{as_half(scale * pupil.multiples[i]),
                         as_half(pupil.first_minima[i] + scale * pupil.step_scales * pupil.distances[i])};
    std::memcpy(pupil.codes.bytes.data() + i * block_bytes, &head, kBlockHeadBytes);
  }
  const size_t rows = pupil.matrix->rows(), columns = pupil.matrix->columns();
  values_.resize(rows * columns);
  OTR_TRY(dequantize(pupil.codes.type, pupil.codes.bytes.data(), values_.data(), values_.size()));
  pupil.matrix->set(values_, rows, columns, true, team_);
  return {};
}

}  // namespace outrigger
