// StepRunner's mixtures of experts: routing, waves of experts, and their sum.
#include <algorithm>
#include <cstring>

#include "src/base/macros.h"
#include "src/base/prefetch.h"
#include "src/kernels/activations.h"
#include "src/kernels/bf16_activations.h"
#include "src/kernels/combine_experts.h"
#include "src/kernels/rms_norm.h"
#include "src/kernels/route.h"
#include "src/kernels/silu_mul.h"
#include "src/kernels/sparse_residual.h"
#include "src/model/step_runner.h"

namespace outrigger {
namespace {

enum Part : uint32_t { kGate, kUp, kDown };

uint32_t matrix_of(const FfnLayout& ffn, uint32_t part) { return part == kGate ? ffn.gate : part == kUp ? ffn.up : ffn.down; }

}  // namespace

void StepRunner::route_tokens(uint32_t layer, const TeamMember& member) {
  const ExpertBuffers& experts = buffers_.experts;
  const Share mine = share_of(member, input_.tokens.size());
  route({experts.router_logits, config_.experts, config_.used_experts, config_.normalise_expert_weights, experts.chosen, experts.weights},
        mine.begin, mine.end);
  member.barrier();
  if (member.index() == 0) assign_rows(layer);
  member.barrier();
  fill_rows(layer, member);
}

// Which experts are used, in which order, and which rows are whose.
void StepRunner::assign_rows(uint32_t layer) {
  const ExpertBuffers& experts = buffers_.experts;
  const size_t rows = input_.tokens.size() * config_.used_experts;
  std::fill_n(experts.counts, config_.experts, 0);
  for (size_t i = 0; i < rows; ++i) ++experts.counts[experts.chosen[i]];
  used_expert_count_ = 0;
  for (uint32_t expert = 0; expert < config_.experts; ++expert) {
    if (experts.counts[expert] > 0) experts.uses[used_expert_count_++] = {expert, 0, experts.counts[expert], 0};
  }
  const std::span<ExpertUse> uses(experts.uses, used_expert_count_);
  if (ExpertPool* pool = residency_.experts()) {
    pool->route(layer, uses, {experts.wave_ends, expert_waves_});
  } else {
    experts.wave_ends[0] = used_expert_count_;
  }
  uint32_t next_row = 0;
  for (ExpertUse& use : uses) {
    use.first_row = next_row;
    next_row += use.rows;
    experts.counts[use.expert] = use.first_row;  // from now on: the expert's next free row
  }
  for (size_t i = 0; i < rows; ++i) {
    const uint32_t row = experts.counts[experts.chosen[i]]++;
    experts.row_of[i] = row;
    experts.token_of[row] = static_cast<uint32_t>(i / config_.used_experts);
  }
}

std::byte* StepRunner::expert_panel(std::byte* panel, uint32_t matrix, uint32_t first_row) const {
  const uint64_t width = layout_.weights[matrix].columns;
  switch (args_.activations_of(matrix)) {
    case Activations::kInt8: return panel + activation_tile_offset(first_row, width);
    case Activations::kBf16: return panel + first_row * bf16_row_bytes(width);
    case Activations::kFloat32: break;
  }
  return nullptr;
}

void StepRunner::fill_rows(uint32_t layer, const TeamMember& member) {
  const ExpertBuffers& experts = buffers_.experts;
  const uint64_t width = config_.width;
  const uint32_t gate = layout_.layers[layer].ffn.gate;
  const Share mine = share_of(member, input_.tokens.size() * config_.used_experts);
  for (size_t row = mine.begin; row < mine.end; ++row) {
    std::memcpy(experts.rows + row * width, buffers_.normed + experts.token_of[row] * width, width * sizeof(float));
  }
  for (uint32_t i = 0; i < used_expert_count_; ++i) {
    const ExpertUse& use = experts.uses[i];
    const size_t begin = std::max<size_t>(mine.begin, use.first_row), end = std::min<size_t>(mine.end, use.first_row + use.rows);
    if (begin >= end) continue;
    quantize(experts.rows + use.first_row * width, expert_panel(experts.input_panel, gate, use.first_row), gate, use.rows,
             begin - use.first_row, end - use.first_row);
  }
}

// What the next layer's router says of the residual as it is now, without what this layer's experts and the next attention will add.
void StepRunner::guess_experts(uint32_t layer, const TeamMember& member) {
  ExpertPool& pool = *residency_.experts();
  const ExpertBuffers& experts = buffers_.experts;
  const uint32_t next = layer + 1, router = layout_.layers[next].router;
  const size_t tokens = input_.tokens.size(), wanted = tokens * config_.used_experts;
  if (wanted >= 2 * size_t{config_.experts}) {  // 86 % of all and more
    if (member.index() != 0) return;
    for (uint32_t expert = 0; expert < config_.experts; ++expert) experts.guesses[expert] = expert;
    return pool.guess(next, {experts.guesses, config_.experts}, true);
  }
  if (tokens > kMostGuessedTokens) return;
  const Share mine = share_of(member, tokens);
  float* const normed = buffers_.attention;  // free since the output product
  for (size_t t = mine.begin; t < mine.end; ++t) {
    rms_norm({buffers_.residual + t * config_.width, fixed_ + layout_.layers[next].ffn_norm, normed + t * config_.width, 1, config_.width,
              config_.norm_epsilon});
  }
  member.barrier();
  const WeightSource& weights = layout_.weights[router];
  const Share blocks = share_of(member, weights.blocks());
  matmul({weights.kind, residency_.operand({router, 0, static_cast<uint32_t>(weights.blocks())}), weights.rows, weights.columns, normed,
          weights.columns, nullptr, experts.router_logits, config_.experts, tokens, false},
         blocks.begin, blocks.end);
  member.barrier();
  if (member.index() != 0) return;
  // The sums of a token's weights are not needed; its rows of this layer stay where they are.
  float shares[64];
  for (size_t t = 0; t < tokens; ++t) {
    route({experts.router_logits + t * config_.experts, config_.experts, config_.used_experts, true,
           experts.guesses + t * config_.used_experts, shares},
          0, 1);
  }
  std::sort(experts.guesses, experts.guesses + wanted);
  pool.guess(next, {experts.guesses, std::unique(experts.guesses, experts.guesses + wanted)});
}

std::span<const ExpertUse> StepRunner::wave_uses(uint32_t wave) const {
  const ExpertBuffers& experts = buffers_.experts;
  const uint32_t begin = wave == 0 ? 0 : experts.wave_ends[wave - 1];
  return {experts.uses + begin, experts.wave_ends[wave] - begin};
}

float StepRunner::expert_weight(size_t row, uint32_t expert) const {
  const ExpertBuffers& experts = buffers_.experts;
  const size_t first = experts.token_of[row] * size_t{config_.used_experts};
  const uint32_t* const chosen = experts.chosen + first;
  return experts.weights[first + static_cast<size_t>(std::find(chosen, chosen + config_.used_experts, expert) - chosen)];
}

// Each expert's row blocks are shared out by themselves: there are few experts, and of different numbers of tokens. A residual adds to rows
// that the same thread has multiplied, so that no barrier stands between.
void StepRunner::expert_product(uint32_t layer, const ExpertUse& use, uint32_t part, const TeamMember& member) const {
  const ExpertBuffers& experts = buffers_.experts;
  const uint32_t matrix = matrix_of(layout_.layers[layer].ffn, part);
  const WeightSource& weights = layout_.weights[matrix];
  const auto blocks = static_cast<uint32_t>(weights.blocks_per_expert());
  const bool is_corrected = adds_residual(matrix);
  const uint32_t together = is_corrected ? kResidualGroup / kPackRows : 1;
  const Share groups = share_of(member, blocks / together), mine{groups.begin * together, groups.end * together};
  if (mine.begin == mine.end) return;
  const ExpertPool* const pool = residency_.experts();
  const uint64_t ffn_offset = use.first_row * config_.expert_ffn_width, row_offset = use.first_row * config_.width;
  MatmulArgs args{};
  args.kind = weights.kind;
  args.weights = pool != nullptr ? pool->part(layer, use, part) : residency_.operand({matrix, use.expert * blocks, blocks});
  args.rows = weights.rows;
  args.columns = args.src_stride = weights.columns;
  args.tokens = use.rows;
  args.src = part == kDown ? buffers_.gate + ffn_offset : experts.rows + row_offset;
  args.panel = expert_panel(part == kDown ? experts.down_panel : experts.input_panel, matrix, use.first_row);
  args.dst = part == kDown ? experts.rows + row_offset : (part == kGate ? buffers_.gate : buffers_.up) + ffn_offset;
  args.dst_stride = weights.rows;
  if (pool != nullptr && use.arrival != ExpertArrivals::kNone) {
    pack_and_multiply(args, layer, use, part, mine);
  } else {
    matmul(args, mine.begin, mine.end);
  }
  if (is_corrected) add_expert_residual(use, matrix, args, {mine.begin * kPackRows, mine.end * kPackRows}, member);
}

// Rows that have just come from the file: some at a time packed into the expert's slot, and multiplied with while they are in this thread's
// cache.
void StepRunner::pack_and_multiply(const MatmulArgs& args, uint32_t layer, const ExpertUse& use, uint32_t part, const Share& blocks) const {
  const ExpertPool& pool = *residency_.experts();
  const uint32_t matrix = matrix_of(layout_.layers[layer].ffn, part);
  const WeightSource& weight = layout_.weights[matrix];
  const uint64_t block_bytes = packed_block_bytes(args.kind, args.columns), first = use.expert * weight.blocks_per_expert();
  const size_t at_once = std::max<size_t>(1, kUnpackBytes / block_bytes);
  std::byte* const slot = pool.part(layer, use, part);
  for (size_t block = blocks.begin, some; block < blocks.end; block += some) {
    const ArrivedRows rows = pool.arrived(use, part, static_cast<uint32_t>(block));
    some = std::min({blocks.end - block, at_once, size_t{rows.blocks}});
    const uint64_t bytes = weight.file_bytes(first + block, some);
    bring_near(rows.data, bytes);
    weight.place(rows.data, bytes, slot + block * block_bytes);
    matmul(args, block, block + some);
  }
}

void StepRunner::compute_wave(const ExpertWave& wave, const TeamMember& member) {
  const std::span<const ExpertUse> uses = wave_uses(wave.wave);
  if (uses.empty()) return;
  for (const ExpertUse& use : uses) {
    expert_product(wave.layer, use, kGate, member);
    expert_product(wave.layer, use, kUp, member);
  }
  member.barrier();
  const uint32_t down = layout_.layers[wave.layer].ffn.down;
  const uint64_t ffn_width = config_.expert_ffn_width;
  for (const ExpertUse& use : uses) {
    const Share mine = share_of(member, use.rows);
    if (mine.begin == mine.end) continue;
    float* const gate = buffers_.gate + use.first_row * ffn_width;
    const uint64_t offset = mine.begin * ffn_width;
    silu_mul({gate + offset, buffers_.up + use.first_row * ffn_width + offset, gate + offset, (mine.end - mine.begin) * ffn_width});
    quantize(gate, expert_panel(buffers_.experts.down_panel, down, use.first_row), down, use.rows, mine.begin, mine.end);
  }
  member.barrier();
  for (const ExpertUse& use : uses) expert_product(wave.layer, use, kDown, member);
  if (residency_.experts() == nullptr) return;
  member.barrier();
  if (member.index() == 0) residency_.experts()->release(wave.wave);
}

void StepRunner::combine(uint32_t layer, const TeamMember& member) {
  const ExpertBuffers& experts = buffers_.experts;
  const bool is_shared = config_.shared_ffn_width > 0;
  const Share mine = share_of(member, input_.tokens.size());
  combine_experts({experts.rows, experts.row_of, experts.weights, config_.used_experts, is_shared ? buffers_.attention : nullptr,
                   buffers_.normed, is_shared ? fixed_ + layout_.layers[layer].shared_gate : nullptr, buffers_.residual, config_.width},
                  mine.begin, mine.end);
}

}  // namespace outrigger
