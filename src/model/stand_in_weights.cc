// StandInWeights: one step's worth of streaming, quantised instead of multiplied with.
#include "src/model/stand_in_weights.h"

#include <algorithm>
#include <new>

#include "src/base/macros.h"
#include "src/model/product_kinds.h"
#include "src/plan/memory_model.h"
#include "src/tensor/own_form.h"
#include "src/tensor/low_bit_copy.h"

namespace outrigger {
namespace {

Status tell(const Progress& progress, double share) {
  try {
    if (!progress || progress(share)) return {};
    return Status(StatusCode::kCancelled, "loading was cancelled");
  } catch (...) {
    return Status(StatusCode::kInternal, "the progress callback threw");
  }
}

}  // namespace

Result<std::unique_ptr<StandInWeights>> StandInWeights::make(const ModelLayout& layout, const Plan& plan, TensorResidency& residency,
                                                             ThreadTeam& team, const Progress& progress, const CancelToken& cancel) try {
  std::unique_ptr<StandInWeights> made(new StandInWeights(layout, residency));
  OTR_TRY(made->reserve(plan, residency));
  if (Status status = made->copy_units(residency, team, progress, cancel); !status.is_ok()) {
    residency.invalidate();
    return status;
  }
  return made;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

// The copies take the places of their matrices in the layout, and these what is said of how they are multiplied with.
Status StandInWeights::reserve(const Plan& plan, TensorResidency& residency) {
  whole_ = layout_.weights;
  const DType type = *own_type(static_cast<int>(plan.self_draft_bits));
  const std::vector<bool> stays = stays_in_memory(plan);
  uint64_t bytes = 0;
  std::vector<uint64_t> offsets(stays.size(), UINT64_MAX);
  for (size_t i = 0; i < stays.size(); ++i) {
    if (!has_stand_in(layout_.shape.matrices[i], stays[i])) continue;
    offsets[i] = bytes;
    bytes += stand_in_bytes(layout_.shape.matrices[i], plan.self_draft_bits);
    WeightSource& weight = layout_.weights[i];
    weight.type = type;
    weight.kind = *packed_kind(type);
  }
  name_products(layout_);
  layout_.panels.has_int8 = true;
  OTR_ASSIGN(copies_, residency.reserve(MemoryUse::kDraft, bytes));
  copy_of_.assign(stays.size(), nullptr);
  for (size_t i = 0; i < stays.size(); ++i) {
    if (offsets[i] != UINT64_MAX) copy_of_[i] = copies_.data() + offsets[i];
  }
  const uint64_t scratch = plan.threads * layout_.shape.activation_bytes_per_thread;
  const uint64_t logits = kStandInTokens * layout_.shape.logits_row_bytes;
  OTR_ASSIGN(activations_, residency.reserve(MemoryUse::kDraft, layout_.shape.draft_step_bytes + scratch + logits));
  buffers_ = StepBuffers::place(activations_.data(), layout_.config, layout_.panels, kStandInTokens, plan.threads);
  return {};
}

Status StandInWeights::copy_units(TensorResidency& residency, ThreadTeam& team, const Progress& progress, const CancelToken& cancel) {
  const StreamLayout& stream = residency.stream();
  const auto units = static_cast<uint32_t>(stream.units.size());
  OTR_TRY(residency.prime());
  const uint64_t before = residency.streamed_bytes();
  for (uint32_t unit = 0; unit < units; ++unit) {
    OTR_TRY(tell(progress, static_cast<double>(unit) / units));
    if (cancel.is_cancelled()) return Status(StatusCode::kCancelled, "loading was cancelled");
    OTR_TRY(residency.arrive(unit));
    team.run([&](const TeamMember& member) {
      for (const StreamPiece& piece : stream.units[unit].pieces) copy_piece(whole_[piece.matrix], piece, residency, member);
    });
    OTR_TRY(residency.request((unit + stream.ring_slots) % units));
  }
  read_bytes_ = residency.streamed_bytes() - before;
  return tell(progress, 1);
}

// Each member its row blocks: from the file's rows to the kernels' layout, as when they are multiplied with, and from there to the copy.
void StandInWeights::copy_piece(const WeightSource& weight, const StreamPiece& piece, const TensorResidency& residency,
                                const TeamMember& member) const {
  const WeightSource& copy = layout_.weights[piece.matrix];
  const std::span<std::byte> buffer = residency.unpack_buffer(member.index());
  const size_t at_once = std::max<size_t>(1, buffer.size() / packed_block_bytes(weight.kind, weight.columns));
  const uint64_t copy_block = packed_block_bytes(copy.kind, copy.columns);
  const std::byte* const src = residency.operand({piece.matrix, piece.first_block, piece.blocks});
  size_t begin, end;
  member.share(piece.blocks, 1, &begin, &end);
  for (size_t block = begin; block < end; block += at_once) {
    const size_t some = std::min(end - block, at_once);
    const uint64_t first = piece.first_block + block, row = first * kPackRows;
    weight.place(src + block * weight.block_file_bytes(), weight.file_bytes(first, some), buffer.data());
    copy_low_bit(weight.kind, buffer.data(), std::min<uint64_t>(some * kPackRows, weight.rows - row), weight.columns, copy.type,
                 copy_of_[piece.matrix] + first * copy_block);
  }
}

const std::byte* StandInWeights::operand(const OperandRef& ref) const {
  const std::byte* const copy = copy_of_[ref.matrix];
  if (copy == nullptr) return residency_.operand(ref);
  const WeightSource& weight = layout_.weights[ref.matrix];
  return copy + ref.first_block * packed_block_bytes(weight.kind, weight.columns);
}

}  // namespace outrigger
