// ReadQueue by io_uring: the kernel keeps the queue, and no thread of ours waits for a disk.
#include <liburing.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "src/base/macros.h"
#include "src/io/read_queue_methods.h"

namespace outrigger {
namespace {

// The kernel reads less than 2 GiB at once; what is asked beyond comes as after any short read.
constexpr uint64_t kMostBytes = uint64_t{1} << 30;

struct Slot {
  ReadRequest request;
  uint64_t lead = 0;
};

class RingQueue final : public ReadQueue {
 public:
  RingQueue(std::shared_ptr<const ByteSource> source, uint32_t depth) : ReadQueue(depth), source_(std::move(source)), slots_(depth) {
    free_.reserve(depth);
    left_over_.reserve(depth);
    for (Slot& slot : slots_) free_.push_back(&slot);
  }
  ~RingQueue() override {
    drain();
    if (has_ring_) ::io_uring_queue_exit(&ring_);
  }
  Status open(std::span<std::byte> staging_area);
  ReadMethod method() const override { return ReadMethod::kRing; }

 private:
  void begin(const ReadRequest& request) override;
  bool take(ReadDone* done, bool waits) override;
  void drop_all() override;
  bool start(Slot* slot, const DescriptorRead& read);
  Slot* next_slot(bool waits, int* result);

  const std::shared_ptr<const ByteSource> source_;
  std::vector<Slot> slots_;
  std::vector<Slot*> free_;
  std::vector<Slot*> left_over_;  ///< what the kernel did not take: read when it is asked for
  uint32_t in_kernel_ = 0;
  std::span<std::byte> pinned_;  ///< what the kernel keeps mapped, as its buffer 0
  io_uring ring_{};
  bool has_ring_ = false;
};

Status unsupported(int error) {
  return Status(StatusCode::kUnsupported, "io_uring is not to be had here: " + std::generic_category().message(error));
}

Status RingQueue::open(std::span<std::byte> staging_area) {
  if (const int error = ::io_uring_queue_init(depth(), &ring_, 0); error < 0) return unsupported(-error);
  has_ring_ = true;
  // Linux 5.1 to 5.5 have rings that do not know plain reads.
  io_uring_probe* probe = ::io_uring_get_probe_ring(&ring_);
  const bool reads = probe != nullptr && ::io_uring_opcode_supported(probe, IORING_OP_READ) != 0;
  ::io_uring_free_probe(probe);
  if (!reads) return unsupported(EOPNOTSUPP);
  // Not to be had: more than may be locked, or than one buffer may have. Then each read finds its pages itself.
  const iovec area{staging_area.data(), staging_area.size()};
  if (!staging_area.empty() && ::io_uring_register_buffers(&ring_, &area, 1) == 0) pinned_ = staging_area;
  return {};
}

// False if the kernel does not take it now (it is short of memory, as a rule). The entry, the last of the ring, then stays in it and is
// made to do nothing; its completion belongs to no slot.
bool RingQueue::start(Slot* slot, const DescriptorRead& read) {
  io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
  if (entry == nullptr) return false;
  std::byte* dst = slot->request.staging.data();
  const auto bytes = static_cast<unsigned>(std::min(read.bytes, kMostBytes));
  if (dst >= pinned_.data() && dst + bytes <= pinned_.data() + pinned_.size()) {
    ::io_uring_prep_read_fixed(entry, read.descriptor, dst, bytes, read.offset, 0);
  } else {
    ::io_uring_prep_read(entry, read.descriptor, dst, bytes, read.offset);
  }
  ::io_uring_sqe_set_data(entry, slot);
  while (::io_uring_submit(&ring_) == -EINTR) continue;
  if (::io_uring_sq_ready(&ring_) == 0) return true;
  ::io_uring_prep_nop(entry);
  ::io_uring_sqe_set_data(entry, nullptr);
  return false;
}

void RingQueue::begin(const ReadRequest& request) {
  Slot* slot = free_.back();
  free_.pop_back();
  const std::optional<DescriptorRead> read = source_->descriptor_read(request.offset, request.length);
  *slot = {request, read ? read->lead : 0};
  if (read && start(slot, *read)) {
    ++in_kernel_;
  } else {
    left_over_.push_back(slot);
  }
}

// The slot of a completion; null when there is none yet or, waiting, none to come.
Slot* RingQueue::next_slot(bool waits, int* result) {
  while (in_kernel_ > 0) {
    io_uring_cqe* completion = nullptr;
    const int error = waits ? ::io_uring_wait_cqe(&ring_, &completion) : ::io_uring_peek_cqe(&ring_, &completion);
    if (error != 0 && waits) continue;  // a signal; nothing else happens to a ring whose completions always have room
    if (error != 0) return nullptr;
    auto* slot = static_cast<Slot*>(::io_uring_cqe_get_data(completion));
    *result = completion->res;
    ::io_uring_cqe_seen(&ring_, completion);
    if (slot == nullptr) continue;
    --in_kernel_;
    return slot;
  }
  return nullptr;
}

bool RingQueue::take(ReadDone* done, bool waits) {
  int result = -EAGAIN;
  Slot* slot = next_slot(waits && left_over_.empty(), &result);
  if (slot == nullptr) {
    if (left_over_.empty()) return false;
    slot = left_over_.back();
    left_over_.pop_back();
  }
  const ReadRequest& request = slot->request;
  if (result >= 0 && static_cast<uint64_t>(result) >= slot->lead + request.length) {
    *done = {request.tag, Status(), request.staging.data() + slot->lead};
  } else {
    *done = read_now(*source_, request);
  }
  free_.push_back(slot);
  return true;
}

void RingQueue::drop_all() {
  int ignored = 0;
  while (Slot* slot = next_slot(true, &ignored)) free_.push_back(slot);
  free_.insert(free_.end(), left_over_.begin(), left_over_.end());
  left_over_.clear();
}

}  // namespace

Result<std::unique_ptr<ReadQueue>> make_ring_queue(std::shared_ptr<const ByteSource> source, uint32_t depth,
                                                   std::span<std::byte> staging_area) {
  if (!source->descriptor_read(source->size_bytes(), 0)) {
    return Status(StatusCode::kUnsupported, "io_uring reads files, and these bytes are in none").in_file(source->name());
  }
  auto queue = std::make_unique<RingQueue>(std::move(source), depth);
  OTR_TRY(queue->open(staging_area));
  return std::unique_ptr<ReadQueue>(std::move(queue));
}

}  // namespace outrigger
