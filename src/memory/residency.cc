// TensorResidency: what a plan says, as memory: the arena of resident weights, and the ring that the others pass through.
#include "src/memory/residency.h"

#include <algorithm>
#include <new>
#include <utility>

#include "src/base/bytes.h"
#include "src/base/checked.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/device/host_pages.h"
#include "src/tensor/dequantize.h"

namespace outrigger {
namespace {

Status invalid(std::string message) { return Status(StatusCode::kInvalidArgument, std::move(message)); }

// All of it in the source, in one piece or expert by expert.
Status check_place(const MatrixShape& matrix, const WeightSource& weight, uint64_t source_bytes) {
  const auto check = [&](uint64_t offset, uint64_t bytes) {
    if ((CheckedSize(offset) + bytes).fits(source_bytes)) return Status();
    return invalid(formatted("{} bytes from byte {} on do not lie in a source of {} bytes", bytes, offset, source_bytes))
        .about(matrix.name);
  };
  if (weight.expert_offsets.empty()) return check(weight.file_offset, matrix.file_bytes);
  if (weight.expert_offsets.size() != weight.experts) return invalid("not every expert has a place in the file").about(matrix.name);
  for (const uint64_t offset : weight.expert_offsets) OTR_TRY(check(offset, weight.expert_file_bytes()));
  return {};
}

// Whether the file's view of a matrix and the shape's are of the same one, and all of it is in the source.
Status check_weight(const MatrixShape& matrix, const WeightSource& weight, uint64_t source_bytes) {
  const std::optional<PackedKind> kind = packed_kind(weight.type);
  if (!kind || *kind != weight.kind) {
    return Status(StatusCode::kUnsupported, formatted("{} weights cannot be run", traits(weight.type).name)).about(matrix.name);
  }
  const std::optional<uint64_t> row =
      weight.is_packed ? packed_block_bytes(weight.kind, weight.columns) : row_bytes(weight.type, weight.columns);
  if (weight.rows != matrix.rows || weight.columns != matrix.columns || weight.rows == 0 || row != weight.row_bytes) {
    return invalid(formatted("the file has {} x {} elements in rows of {} bytes, the step's shape has {} x {}", weight.rows,
                             weight.columns, weight.row_bytes, matrix.rows, matrix.columns))
        .about(matrix.name);
  }
  const uint64_t file_block = weight.is_packed ? matrix.row_block_bytes : weight.row_bytes * kPackRows;
  if (matrix.experts == 0 || matrix.experts != weight.experts ||
      matrix.row_block_bytes != packed_block_bytes(weight.kind, weight.columns) ||
      matrix.packed_bytes != packed_bytes(weight.kind, weight.rows, weight.columns) * weight.experts ||
      matrix.row_file_bytes != weight.row_bytes || matrix.is_packed != weight.is_packed || matrix.row_block_file_bytes != file_block ||
      matrix.file_bytes != weight.expert_file_bytes() * weight.experts) {
    return invalid("the sizes in the step's shape are not those of its rows and columns").about(matrix.name);
  }
  return check_place(matrix, weight, source_bytes);
}

uint64_t unpack_bytes(const StepShape& shape, const Plan& plan) {
  return plan.stream_slots > 0 ? unpack_buffer_bytes(largest_row_block(shape), plan.slot_bytes) : 0;
}

Status check_all(const ByteSource& source, const StepShape& shape, const std::vector<WeightSource>& weights, const Plan& plan) {
  OTR_TRY(check_plan(plan, shape));
  if (weights.size() != shape.matrices.size()) {
    return invalid(formatted("the step's shape has {} matrices, {} are given", shape.matrices.size(), weights.size()));
  }
  for (size_t i = 0; i < weights.size(); ++i) OTR_TRY(check_weight(shape.matrices[i], weights[i], source.size_bytes()));
  // What check_plan cannot know: how much more than it gives this source reads.
  for (const ExpertLayer& layer : plan.expert_slots > 0 ? expert_layers(shape) : std::vector<ExpertLayer>()) {
    for (const ExpertPart& part : layer.parts) {
      const uint64_t needed = source.direct_staging_bytes(part.blocks_of_read * weights[part.matrix].block_file_bytes());
      if (needed <= part.read_room_bytes) continue;
      return invalid(formatted("a read of an expert takes {} bytes of memory, and the plan has {} for it", needed, part.read_room_bytes))
          .about(shape.matrices[part.matrix].name);
    }
  }
  return {};
}

}  // namespace

TensorResidency::TensorResidency(Backend& backend, std::shared_ptr<const ByteSource> source, const StepShape& shape,
                                 std::vector<WeightSource> weights, Backend* device, const StreamSet& streams)
    : source_(std::move(source)), backend_(&backend), shape_(shape), weights_(std::move(weights)), ledger_(0, 0) {
  if (device != nullptr) device_ = std::make_unique<DeviceResidency>(*device, shape_, streams);
}

Result<std::unique_ptr<TensorResidency>> TensorResidency::create(Backend& backend, std::shared_ptr<const ByteSource> source,
                                                                 const StepShape& shape, std::vector<WeightSource> weights,
                                                                 const Plan& plan, Backend* device, const StreamSet& streams) try {
  std::unique_ptr<TensorResidency> residency(new TensorResidency(backend, std::move(source), shape, std::move(weights), device, streams));
  OTR_TRY(residency->place(plan));
  return residency;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");  // short enough to need none
}

Result<std::unique_ptr<TensorResidency>> TensorResidency::create_empty(Backend& backend, uint64_t budget_bytes) try {
  static const StepShape kNothing;
  std::unique_ptr<TensorResidency> residency(new TensorResidency(backend, nullptr, kNothing, {}, nullptr, {}));
  residency->ledger_.set_limits(budget_bytes, 0);
  return residency;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");  // short enough to need none
}

Status TensorResidency::check(const Plan& plan) const {
  OTR_TRY(check_all(*source_, shape_, weights_, plan));
  if (device_ || plan.device.planned_bytes == 0) return {};
  return invalid(
      formatted("the plan wants {} of a device's memory, and \"{}\" is none with memory of its own; open the engine with the device that "
                "the plan is for",
                format_bytes(plan.device.planned_bytes), backend_->name()));
}

Status TensorResidency::place(const Plan& plan) try {
  OTR_TRY(check(plan));
  give_back();
  ledger_.set_limits(plan.host.budget_bytes, plan.host.planned_bytes);
  ring_.emplace(shape_, layout_stream(shape_, plan), plan.slot_bytes);
  OTR_TRY(reserve_all(plan));
  if (device_) OTR_TRY(device_->place(plan));
  return make_readers(plan);
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");  // short enough to need none
}

// What reads before what it reads into.
void TensorResidency::give_back() noexcept {
  past_bytes_.fetch_add(read_bytes(), std::memory_order_relaxed);
  experts_.reset();
  streams_.reset();
  if (device_) device_->give_back();
  for (MemoryLease* lease : {&resident_memory_, &ring_memory_, &staging_memory_, &row_memory_, &expert_memory_, &transfer_memory_})
    *lease = MemoryLease();
  std::fill(resident_.begin(), resident_.end(), nullptr);
  fixed_memory_ = nullptr;
}

Status TensorResidency::reserve_all(const Plan& plan) {
  resident_.assign(weights_.size(), nullptr);
  const auto stays = [&plan](size_t i) {
    const TensorPlacement& tensor = plan.tensors[i];
    return (tensor.tier == Tier::kDevice) == (tensor.mode == Residence::kStreamed);
  };
  uint64_t resident_bytes = 0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (stays(i)) resident_bytes += shape_.matrices[i].packed_bytes;
  }
  OTR_ASSIGN(resident_memory_, reserve(MemoryUse::kWeights, resident_bytes + shape_.fixed_bytes));
  OTR_ASSIGN(ring_memory_, reserve(MemoryUse::kStreamSlots, plan.stream_slots * plan.slot_bytes));
  OTR_ASSIGN(staging_memory_, reserve(MemoryUse::kStreamSlots, plan.staging_bytes));
  OTR_ASSIGN(row_memory_, reserve(MemoryUse::kStreamSlots, plan.row_buffer_bytes));
  OTR_ASSIGN(expert_memory_, reserve(MemoryUse::kExperts, plan.expert_slots * plan.expert_slot_bytes));
  OTR_ASSIGN(transfer_memory_, reserve(MemoryUse::kOther, plan.transfer_bytes));
  ring_->set_memory(ring_memory_.data());

  // Matrices first: they are multiples of 64 bytes, so that no padding comes before the fixed part whatever its size.
  std::byte* next = resident_memory_.data();
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (!stays(i)) continue;
    resident_[i] = next;
    next += shape_.matrices[i].packed_bytes;
  }
  if (shape_.fixed_bytes > 0) fixed_memory_ = next;
  return {};
}

Status TensorResidency::make_readers(const Plan& plan) {
  unpack_bytes_ = unpack_bytes(shape_, plan);
  if (!stream().units.empty()) {
    OTR_ASSIGN(streams_, StreamRing::create(source_, weights_, *ring_, {ring_memory_.data(), ring_memory_.bytes()}));
  }
  if (plan.expert_slots == 0) return {};
  const std::span<std::byte> arrivals = std::span(staging_memory_.data(), staging_memory_.bytes()).subspan(plan.threads * unpack_bytes_);
  OTR_ASSIGN(experts_, ExpertPool::create(source_, weights_, shape_, plan, expert_memory_.data(), arrivals));
  return {};
}

Result<MemoryLease> TensorResidency::reserve(MemoryUse use, uint64_t bytes) {
  if (device_) return device_->reserve_pinned(ledger_, use, bytes);
  if (bytes == 0) return MemoryLease();
  const uint64_t whole = CheckedSize(bytes).round_up(kPageBytes).value().value_or(UINT64_MAX);
  OTR_TRY(ledger_.charge(use, whole));
  Result<DeviceMemory> memory = backend_->allocate(whole);
  if (!memory.is_ok()) {
    ledger_.refund(use, whole);
    return memory.status();
  }
  return MemoryLease(&ledger_, use, std::move(memory).value());
}

Result<MemoryClaim> TensorResidency::claim(MemoryUse use, uint64_t bytes) {
  OTR_TRY(ledger_.charge(use, bytes));
  return MemoryClaim(&ledger_, use, bytes);
}

const std::byte* TensorResidency::operand(const OperandRef& ref) const {
  if (const std::byte* matrix = resident_[ref.matrix]) return matrix + ref.first_block * block_bytes(ref.matrix);
  return streams_->rows(ref);
}

Status TensorResidency::prime() { return streams_ ? streams_->prime() : Status(); }
Status TensorResidency::request(uint32_t unit) { return streams_->request(unit); }
Status TensorResidency::arrive(uint32_t unit) { return streams_->arrive(unit); }

void TensorResidency::invalidate() noexcept {
  if (streams_) streams_->reset();
  if (experts_) experts_->invalidate();
  if (device_) device_->invalidate();
}

Status TensorResidency::read_row(uint32_t matrix, uint64_t row, float* dst) {
  const WeightSource& weight = weights_[matrix];
  if (const std::byte* packed = resident_[matrix]) {
    unpack_row(weight.kind, packed, row, weight.columns, dst);
    return {};
  }
  OTR_TRY(source_->check_unchanged());
  const uint64_t before = weight.is_packed ? row / kPackRows : row;
  OTR_TRY(source_->read(weight.file_offset + before * weight.row_bytes, std::span(row_memory_.data(), weight.row_bytes)));
  past_bytes_.fetch_add(weight.row_bytes, std::memory_order_relaxed);
  if (weight.is_packed) {
    unpack_row(weight.kind, row_memory_.data(), row % kPackRows, weight.columns, dst);
    return {};
  }
  return dequantize(weight.type, row_memory_.data(), dst, weight.columns);
}

}  // namespace outrigger
