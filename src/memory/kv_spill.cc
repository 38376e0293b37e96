// KvSpill: slots, a file of the spilled layers one after the other, and who has which part of both.
#include "src/memory/kv_spill.h"

#include <algorithm>
#include <new>
#include <utility>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"

namespace outrigger {

KvSpillPart::KvSpillPart(KvSpillPart&& other) noexcept : spill_(std::exchange(other.spill_, nullptr)), offset_(other.offset_) {}

KvSpillPart& KvSpillPart::operator=(KvSpillPart&& other) noexcept {
  if (this != &other) {
    if (spill_ != nullptr) spill_->give_back(offset_);
    spill_ = std::exchange(other.spill_, nullptr);
    offset_ = other.offset_;
  }
  return *this;
}

KvSpillPart::~KvSpillPart() {
  if (spill_ != nullptr) spill_->give_back(offset_);
}

Result<std::unique_ptr<KvSpill>> KvSpill::create(TensorResidency& residency, const Plan& plan, const std::string& directory) try {
  std::unique_ptr<KvSpill> spill(new KvSpill(plan.kv_spilled_layers, plan.kv_slot_bytes));
  OTR_ASSIGN(spill->slots_, residency.reserve(MemoryUse::kKvCache, kKvSlots * plan.kv_slot_bytes));
  OTR_ASSIGN(spill->file_, SpillFile::create(directory.empty() ? default_spill_directory() : directory, plan.kv_spill_bytes));
  ReadQueueOptions options;
  options.depth = kKvReads;
  options.staging_area = {spill->slots_.data(), spill->slots_.bytes()};
  OTR_ASSIGN(spill->reads_, ReadQueue::create(SpillFile::as_source(*spill->file_), options));
  return spill;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");  // short enough to need none
}

uint64_t KvSpill::first_gap(uint64_t bytes) const {
  uint64_t offset = 0;
  for (const auto& [taken, its_bytes] : parts_) {
    if (taken - offset >= bytes) return offset;
    offset = taken + its_bytes;
  }
  return slot_bytes_ - offset >= bytes ? offset : kNowhere;
}

uint64_t KvSpill::place_for(uint64_t bytes) const {
  const std::lock_guard lock(mutex_);
  return first_gap(bytes);
}

bool KvSpill::has_parts() const {
  const std::lock_guard lock(mutex_);
  return !parts_.empty();
}

Result<KvSpillPart> KvSpill::take(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  const uint64_t offset = first_gap(bytes);
  if (offset == kNowhere) {
    return Status(StatusCode::kBudget, formatted("no room for {} in slots of {} for keys and values; plan for a larger batch",
                                                 format_bytes(bytes), format_bytes(slot_bytes_)))
        .with_bytes(slots_.bytes() + kKvSlots * bytes, slots_.bytes());
  }
  parts_.emplace(offset, bytes);
  return KvSpillPart(*this, offset);
}

void KvSpill::give_back(uint64_t offset) noexcept {
  const std::lock_guard lock(mutex_);
  parts_.erase(offset);
}

// A read that has no company is made here: handing it over and being woken takes longer than a small one. Of the others as many are in
// flight as may be.
Status KvSpill::submit(uint64_t offset, std::span<std::byte> dst) {
  if (reads_->in_flight() == reads_->depth()) OTR_TRY(reads_->wait().status);
  return reads_->submit({offset, dst.size(), dst, 0});
}

Status KvSpill::fetch(const KvSpillPart& part, uint32_t number, const KvRuns& runs, uint64_t begin, uint64_t end) {
  std::byte* const memory = slot(number) + part.offset();
  const uint64_t place = number * slot_bytes_ + part.offset();
  Status status;
  uint64_t total = 0;
  for_each_kv_range(runs, begin, end, [&](uint64_t offset, uint64_t bytes) {
    total += bytes;
    if (runs.moves_as_one(end - begin) && bytes <= kKvReadBytes) {
      status = file_->read(place + offset, {memory + offset, bytes});
      return;
    }
    for (uint64_t done = 0; done < bytes && status.is_ok(); done += kKvReadBytes) {
      status = submit(place + offset + done, {memory + offset + done, std::min(kKvReadBytes, bytes - done)});
    }
  });
  while (status.is_ok() && reads_->in_flight() > 0) status = reads_->wait().status;
  reads_->drain();
  if (status.is_ok()) bytes_read_.fetch_add(total, std::memory_order_relaxed);
  return status;
}

Status KvSpill::store(const KvSpillPart& part, uint32_t number, const KvRuns& runs, uint64_t begin, uint64_t end) {
  const std::byte* const memory = slot(number) + part.offset();
  const uint64_t place = number * slot_bytes_ + part.offset();
  Status status;
  for_each_kv_range(runs, begin, end, [&](uint64_t offset, uint64_t bytes) {
    if (!status.is_ok()) return;
    status = file_->write(place + offset, {memory + offset, bytes});
    if (status.is_ok()) bytes_written_.fetch_add(bytes, std::memory_order_relaxed);
  });
  return status.is_ok() ? file_->settle() : status;
}

}  // namespace outrigger
