// PassWalk: the compressor's steps, of which only the memory is left.
#include "src/compress/pass_walk.h"

#include <algorithm>
#include <utility>

#include "src/compress/selective_residual.h"
#include "src/kernels/attention.h"
#include "src/kernels/kv_layout.h"
#include "src/tensor/encode_own.h"
#include "src/tensor/packed.h"
#include "src/tensor/scale_search.h"

namespace outrigger {
namespace {

using enum MemoryUse;

constexpr uint64_t kAlignment = 64;                         // of buffers that are aligned by hand
constexpr uint64_t kMeasuredRows = 128;                     // as measure_loss() takes
constexpr uint64_t kInvertedColumns = 64;                   // as feedback_factor() has a thread take
constexpr uint64_t kOversampling = 32;                      // as low_rank_branch() carries along
constexpr uint64_t kCurveRows = 256;                        // as share_curve() takes
constexpr uint64_t kPanelBytes = 2 * 128 * sizeof(double);  // for each row, as Eigen is counted with

// To which both factors and the residual are completed.
constexpr uint64_t kPages = 3 * 4096;

uint64_t packed_storage(uint64_t rows, uint64_t columns) { return packed_bytes(PackedKind::kF32, rows, columns) + kPackAlignment; }
uint64_t whole_blocks(uint64_t tokens) { return (tokens + kPackRows - 1) / kPackRows * kPackRows; }

}  // namespace

PassWalk::PassWalk(const CompressScale& scale, std::span<const MatrixPlan> plans, const PassDemands& demands, MemoryTally* tally)
    : scale_(scale), layout_(scale.layout), plans_(plans), demands_(demands), chunk_(scale.options.chunk_tokens), tally_(*tally) {}

uint64_t PassWalk::sampled_rows() const { return InputSample::kept_rows(scale_.tokens, chunk_); }

uint64_t PassWalk::backbone_bytes(uint32_t matrix) const {
  const WeightSource& weight = layout_.weights[matrix];
  return weight.rows * *row_bytes(plans_[matrix].type(), weight.columns);
}

uint64_t PassWalk::correction_bytes(uint32_t matrix) const {
  const WeightSource& weight = layout_.weights[matrix];
  const MatrixPlan& plan = plans_[matrix];
  return branch_bytes(weight.rows, weight.columns, plan.rank, scale_.options.factor_bits) +
         (plan.share > 0 ? residual_bytes(weight.rows, weight.columns) : 0);
}

std::vector<PassWalk::Held> PassWalk::forward(MemoryUse use, uint64_t tokens) {
  const ModelConfig& config = layout_.config;
  std::vector<Held> held;
  held.push_back(tally_.bytes(use, layout_.shape.fixed_bytes));
  held.push_back(tally_.floats(use, tokens * config.rope_dim));
  held.push_back(tally_.bytes(use, 2 * kv_positions(tokens) * config.kv_width() * sizeof(float) + kAlignment));
  held.push_back(tally_.bytes(use, scale_.threads * attention_scratch_bytes(config.head_dim) + kAlignment));
  return held;
}

uint64_t PassWalk::vector_bytes(uint32_t matrix) const {
  const WeightSource& weight = layout_.weights[matrix];
  return plans_[matrix].share > 0 ? (2 * weight.columns + weight.rows) * sizeof(float) : 0;
}

PassWalk::Held PassWalk::packed(MemoryUse use, uint64_t rows, uint64_t columns) { return tally_.bytes(use, packed_storage(rows, columns)); }

PassWalk::Held PassWalk::read(MemoryUse use, uint32_t matrix) {
  const WeightSource& weight = layout_.weights[matrix];
  const Held raw = tally_.bytes(use, weight.expert_file_bytes());
  return tally_.floats(use, weight.rows * weight.columns);
}

PassWalk::Held PassWalk::read_packed(MemoryUse use, uint32_t matrix) {
  const Held values = read(use, matrix);
  return packed(use, layout_.weights[matrix].rows, layout_.weights[matrix].columns);
}

void PassWalk::run() {
  const uint64_t stream = scale_.tokens * layout_.config.width;
  std::vector<Held> held = forward(kCalibration, chunk_);
  held.push_back(tally_.floats(kCalibration, stream));
  if (scale_.options.resume) held.push_back(tally_.bytes(kCalibration, stream * sizeof(float) + sizeof(uint64_t)));
  for (const LayerLayout& layer : layout_.layers) {
    attention(layer);
    layout_.config.experts == 0 ? ffn(layer.ffn, layout_.config.ffn_width) : mixture(layer);
  }
}

void PassWalk::attention(const LayerLayout& parts) {
  const ModelConfig& config = layout_.config;
  const uint64_t q_width = config.attention_width();
  const Held input = tally_.floats(kCalibration, chunk_ * config.width),
             qkv = tally_.floats(kCalibration, chunk_ * (q_width + 2 * config.kv_width())),
             attended = tally_.floats(kCalibration, scale_.tokens * q_width);
  const uint32_t inner[] = {parts.q, parts.k, parts.v}, outer[] = {parts.output};
  Held first_sample = sample(config.width), first = gram(config.width);
  add_to_gram(config.width, chunk_);
  const std::vector<Held> made = window(inner, config.width, std::move(first), std::move(first_sample));
  Held second_sample = sample(q_width), second = gram(q_width);
  add_to_gram(q_width, chunk_);
  const std::vector<Held> output = window(outer, q_width, std::move(second), std::move(second_sample));
}

void PassWalk::ffn(const FfnLayout& parts, uint64_t width) {
  const uint64_t model_width = layout_.config.width;
  const Held input = tally_.floats(kCalibration, chunk_ * model_width), gate = tally_.floats(kCalibration, chunk_ * width),
             up = tally_.floats(kCalibration, chunk_ * width);
  const uint32_t inner[] = {parts.gate, parts.up}, outer[] = {parts.down};
  Held first_sample = sample(model_width), first = gram(model_width);
  add_to_gram(model_width, chunk_);
  const std::vector<Held> made = window(inner, model_width, std::move(first), std::move(first_sample));
  Held second_sample = sample(width), second = gram(width);
  add_to_gram(width, chunk_);
  const std::vector<Held> down = window(outer, width, std::move(second), std::move(second_sample));
}

void PassWalk::add_to_gram(uint64_t width, uint64_t tokens) {
  const uint64_t padded = whole_blocks(tokens), largest = groups(width).largest();
  const Held turned = tally_.floats(kGrams, width * padded), sums = tally_.floats(kGrams, largest * largest),
             packed = tally_.bytes(kGrams, packed_storage(largest, padded));
}

PassWalk::Held PassWalk::feedback(uint64_t width) {
  const uint64_t largest = groups(width).largest();
  const Held reversed = tally_.doubles(kGrams, largest * largest), panels = tally_.claim(kGrams, scale_.threads * kPanelBytes * largest);
  Held upper = tally_.floats(kGrams, groups(width).elements());
  const Held strips = tally_.doubles(kGrams, scale_.threads * largest * kInvertedColumns);
  return upper;
}

std::vector<PassWalk::Held> PassWalk::root(uint64_t width) {
  const ColumnGroups columns = groups(width);
  std::vector<Held> blocks;
  for (size_t group = 0; group < columns.count(); ++group) {
    const uint64_t size = columns.size(group);
    const Held panels = tally_.claim(kGrams, kPanelBytes * size), matrix = tally_.doubles(kGrams, size * size),
               transposed = tally_.floats(kGrams, size * size);
    blocks.push_back(packed(kGrams, size, size));
  }
  return blocks;
}

std::vector<PassWalk::Held> PassWalk::window(std::span<const uint32_t> matrices, uint64_t width, Held gram, Held) {
  const Held diagonal = tally_.floats(kMatrices, width), factor = feedback(width);
  const bool has_root =
      std::any_of(matrices.begin(), matrices.end(), [this](uint32_t matrix) { return demands_.surveyed_rank + plans_[matrix].rank > 0; });
  const std::vector<Held> square_root = has_root ? root(width) : std::vector<Held>();
  gram = Held();
  std::vector<Held> made;
  uint64_t record = 0;
  for (const uint32_t matrix : matrices) {
    record += backbone_bytes(matrix) + correction_bytes(matrix);
    // A record grows by doubling, and is copied behind its stamp.
    const Held journal = scale_.options.resume ? tally_.bytes(kMatrices, 4 * record) : Held();
    Held backbone = make(matrix, sampled_rows(), &made);
    if (demands_.keeps_backbone) kept_.push_back(std::move(backbone));
  }
  return made;
}

PassWalk::Held PassWalk::make(uint32_t matrix, uint64_t sampled_rows, std::vector<Held>* window) {
  const WeightSource& weight = layout_.weights[matrix];
  const uint64_t weights = weight.rows * weight.columns;
  const Held values = read(kMatrices, matrix), wanted = tally_.floats(kMatrices, weights);
  Held backbone = tally_.bytes(kBackbone, backbone_bytes(matrix));
  quantise(weight.columns);
  const uint64_t corrections = correction_bytes(matrix);
  if (corrections > 0) kept_.push_back(tally_.bytes(kBranches, corrections + kPages));
  correct(matrix, sampled_rows);
  measure(weight.rows, weight.columns, sampled_rows);
  if (plans_[matrix].share > 0) window->push_back(tally_.bytes(kBranches, corrections + kPages));
  window->push_back(packed(kMatrices, weight.rows, weight.columns));
  return backbone;
}

void PassWalk::quantise(uint64_t columns) {
  std::vector<Held> strips;
  for (size_t i = 0; i < scale_.threads; ++i) {
    strips.push_back(tally_.floats(kMatrices, columns * kScaleLanes));
    strips.push_back(tally_.bytes(kMatrices, columns * kScaleLanes));
  }
}

// Of branches the matrix wanted, what is left of it, the best so far and the latest, beside the backbone of another round.
void PassWalk::correct(uint32_t matrix, uint64_t sampled_rows) {
  const WeightSource& weight = layout_.weights[matrix];
  const MatrixPlan& plan = plans_[matrix];
  const uint64_t weights = weight.rows * weight.columns;
  if (plan.rank == 0 && plan.share == 0 && demands_.surveyed_rank == 0 && !demands_.surveys_columns) return;
  const Held residual = tally_.floats(kMatrices, weights);
  if (plan.rank + demands_.surveyed_rank > 0) {  // what is surveyed may be given a branch
    const Held wanted = tally_.floats(kMatrices, weights), best = tally_.floats(kMatrices, weights),
               latest = tally_.floats(kMatrices, weights);
    const Held backbone = tally_.bytes(kBackbone, backbone_bytes(matrix)),
               branch = tally_.bytes(kBranches, 2 * (correction_bytes(matrix) + kPages));
    quantise(weight.columns);
    find_components(weight.rows, weight.columns, std::max(plan.rank, demands_.surveyed_rank));
  }
  if (plan.share == 0 && !demands_.surveys_columns) return;
  const Held turned = tally_.floats(kMatrices, weights), centred = tally_.floats(kMatrices, sampled_rows * weight.columns),
             worths = tally_.floats(kMatrices, kCurveRows * weight.columns), counters = tally_.claim(kMatrices, 1 << 20);
}

// The residual and its outputs, both packed each way with one of them turned; thin matrices of all directions that are carried along, their
// products, and what Eigen has of them.
void PassWalk::find_components(uint64_t rows, uint64_t columns, uint64_t rank) {
  const uint64_t directions = rank + kOversampling, weights = rows * columns;
  const Held lost = tally_.floats(kMatrices, weights), outputs = tally_.floats(kMatrices, weights),
             turned = tally_.floats(kMatrices, weights), straight = packed(kMatrices, rows, columns),
             across = packed(kMatrices, columns, rows);
  const Held thin = tally_.floats(kMatrices, 16 * directions * (rows + columns)),
             small = tally_.doubles(kMatrices, 8 * directions * directions),
             panels = tally_.claim(kMatrices, kPanelBytes * std::max(rows, columns));
}

void PassWalk::measure(uint64_t rows, uint64_t columns, uint64_t sampled_rows) {
  const uint64_t used = std::min(sampled_rows, kMeasuredRows);
  const Held x = tally_.floats(kMatrices, used * columns);
  const auto products = [&] {
    Held outputs = tally_.floats(kMatrices, used * rows);
    const Held values = packed(kMatrices, rows, columns);
    return outputs;
  };
  const Held exact = products(), replaced = products();
}

}  // namespace outrigger
