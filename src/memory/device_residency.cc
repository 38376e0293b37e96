// DeviceResidency: an arena, a ring, and copies in pieces.
#include "src/memory/device_residency.h"

#include <algorithm>
#include <cstring>

#include "src/base/checked.h"
#include "src/base/macros.h"
#include "src/device/host_pages.h"

namespace outrigger {
namespace {

Result<uint64_t> charge(MemoryLedger& ledger, MemoryUse use, uint64_t bytes) {
  const uint64_t whole = CheckedSize(bytes).round_up(kPageBytes).value().value_or(UINT64_MAX);
  OTR_TRY(ledger.charge(use, whole));
  return whole;
}

template <typename Memory>
Result<MemoryLease> leased(MemoryLedger& ledger, MemoryUse use, uint64_t bytes, Result<Memory> memory) {
  if (memory.is_ok()) return MemoryLease(&ledger, use, std::move(memory).value());
  ledger.refund(use, bytes);
  return memory.status();
}

}  // namespace

Status DeviceResidency::place(const Plan& plan) {
  ledger_.set_limits(plan.device.budget_bytes, plan.device.planned_bytes);
  ring_.emplace(shape_, layout_device_stream(shape_, plan), plan.device_slot_bytes);
  arrivals_.assign(plan.device_slots, Event());
  resident_.assign(shape_.matrices.size(), nullptr);
  if (plan.device.breakdown.other > 0) {
    OTR_ASSIGN(taken_, claim(MemoryUse::kOther, plan.device.breakdown.other));
  }
  if (plan.device.own_bytes() == 0) return {};
  const auto stays = [&plan](size_t i) { return plan.tensors[i].tier == Tier::kDevice && plan.tensors[i].mode == Residence::kResident; };
  uint64_t bytes = shape_.fixed_bytes;
  for (size_t i = 0; i < resident_.size(); ++i) bytes += stays(i) ? shape_.matrices[i].packed_bytes : 0;
  OTR_ASSIGN(resident_memory_, reserve(MemoryUse::kWeights, bytes));
  OTR_ASSIGN(ring_memory_, reserve(MemoryUse::kStreamSlots, plan.device_slots * plan.device_slot_bytes));
  ring_->set_memory(ring_memory_.data());
  std::byte* next = resident_memory_.data();  // matrices are multiples of 64 bytes
  for (size_t i = 0; i < resident_.size(); ++i) {
    if (!stays(i)) continue;
    resident_[i] = next;
    next += shape_.matrices[i].packed_bytes;
  }
  if (shape_.fixed_bytes > 0) fixed_memory_ = next;
  return {};
}

void DeviceResidency::give_back() noexcept {
  if (ring_) invalidate();
  for (MemoryLease* lease : {&resident_memory_, &ring_memory_}) *lease = MemoryLease();
  taken_ = MemoryClaim();
  resident_.clear();
  fixed_memory_ = nullptr;
}

Result<MemoryLease> DeviceResidency::reserve(MemoryUse use, uint64_t bytes) {
  if (bytes == 0) return MemoryLease();
  OTR_ASSIGN(const uint64_t whole, charge(ledger_, use, bytes));
  return leased(ledger_, use, whole, backend_.allocate(whole));
}

Result<MemoryClaim> DeviceResidency::claim(MemoryUse use, uint64_t bytes) {
  OTR_TRY(ledger_.charge(use, bytes));
  return MemoryClaim(&ledger_, use, bytes);
}

Result<MemoryLease> DeviceResidency::reserve_pinned(MemoryLedger& ledger, MemoryUse use, uint64_t bytes) {
  if (bytes == 0) return MemoryLease();
  OTR_ASSIGN(const uint64_t whole, charge(ledger, use, bytes));
  return leased(ledger, use, whole, backend_.allocate_pinned(whole));
}

const std::byte* DeviceResidency::operand(const OperandRef& ref) const {
  if (const std::byte* matrix = resident_[ref.matrix]) return matrix + ref.first_block * shape_.matrices[ref.matrix].row_block_bytes;
  return ring_->operand(ref);
}

Status DeviceResidency::finish(Stream stream) {
  OTR_ASSIGN(const Event done, backend_.record(stream));
  return backend_.synchronize(done, kDevicePatience);
}

Status DeviceResidency::upload(std::byte* device, const std::byte* host, uint64_t bytes) {
  OTR_TRY(backend_.copy_to_device(streams_.to_device, device, host, bytes));
  return finish(streams_.to_device);
}

Status DeviceResidency::download(std::byte* host, const std::byte* device, uint64_t bytes) {
  OTR_TRY(backend_.copy_to_host(streams_.to_host, host, device, bytes));
  return finish(streams_.to_host);
}

Status DeviceResidency::run(const DeviceOp& op) {
  OTR_TRY(backend_.launch(streams_.compute, op));
  return finish(streams_.compute);
}

Status DeviceResidency::upload_through(std::span<std::byte> pinned, std::byte* device, const std::byte* host, uint64_t bytes) {
  for (uint64_t done = 0, some; done < bytes; done += some) {
    some = std::min<uint64_t>(bytes - done, pinned.size());
    std::memcpy(pinned.data(), host + done, some);
    OTR_TRY(upload(device + done, pinned.data(), some));
  }
  return {};
}

Status DeviceResidency::download_through(std::span<std::byte> pinned, std::byte* host, const std::byte* device, uint64_t bytes) {
  for (uint64_t done = 0, some; done < bytes; done += some) {
    some = std::min<uint64_t>(bytes - done, pinned.size());
    OTR_TRY(download(pinned.data(), device + done, some));
    std::memcpy(host + done, pinned.data(), some);
  }
  return {};
}

Status DeviceResidency::copy_in(std::byte* device, const std::byte* host, uint64_t bytes) {
  copied_in_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  return upload(device, host, bytes);
}

Status DeviceResidency::copy_out(std::byte* host, const std::byte* device, uint64_t bytes) {
  copied_out_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  return download(host, device, bytes);
}

Status DeviceResidency::submit_copy_in(std::byte* device, const std::byte* host, uint64_t bytes) {
  copied_in_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  OTR_TRY(backend_.copy_to_device(streams_.to_device, device, host, bytes));
  OTR_ASSIGN(const Event there, backend_.record(streams_.to_device));
  return backend_.wait(streams_.compute, there);
}

Result<Event> DeviceResidency::submit_copy_out(std::byte* host, const std::byte* device, uint64_t bytes) {
  copied_out_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  OTR_ASSIGN(const Event computed, backend_.record(streams_.compute));
  OTR_TRY(backend_.wait(streams_.to_host, computed));
  OTR_TRY(backend_.copy_to_host(streams_.to_host, host, device, bytes));
  return backend_.record(streams_.to_host);
}

Status DeviceResidency::prime(const OperandSource& home) {
  if (ring_->is_primed()) return {};
  invalidate();
  for (uint32_t unit = 0; unit < stream().ring_slots; ++unit) OTR_TRY(request(unit, home));
  return {};
}

Status DeviceResidency::request(uint32_t unit, const OperandSource& home) {
  const uint32_t slot = ring_->take_next();
  for (const StreamPiece& piece : stream().units[unit].pieces) {
    const uint64_t bytes = piece.blocks * shape_.matrices[piece.matrix].row_block_bytes;
    const std::byte* const from = home.operand({piece.matrix, piece.first_block, piece.blocks});
    OTR_TRY(backend_.copy_to_device(streams_.to_device, ring_->slot(slot) + piece.slot_offset, from, bytes));
    copied_in_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  }
  OTR_ASSIGN(arrivals_[slot], backend_.record(streams_.to_device));
  ring_->fill(slot, unit);
  return {};
}

Status DeviceResidency::arrive(uint32_t unit) { return backend_.synchronize(arrivals_[ring_->slot_of(unit)], kDevicePatience); }

void DeviceResidency::invalidate() noexcept {
  for (const Stream stream : {streams_.compute, streams_.to_device, streams_.to_host}) (void)finish(stream);
  ring_->forget();
}

}  // namespace outrigger
