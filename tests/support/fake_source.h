// FakeSource: bytes in memory that are read as a direct file is, with failures on demand.
#ifndef OUTRIGGER_TESTS_SUPPORT_FAKE_SOURCE_H_
#define OUTRIGGER_TESTS_SUPPORT_FAKE_SOURCE_H_

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <vector>

#include "src/io/byte_source.h"

namespace outrigger {

class FakeSource final : public ByteSource {
 public:
  explicit FakeSource(std::vector<std::byte> bytes) : available_bytes(bytes.size()), bytes_(std::move(bytes)) {}

  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return bytes_.size(); }
  bool is_direct() const override { return true; }

  Status read(uint64_t offset, std::span<std::byte> dst) const override {
    if (Status status = admit(offset, dst.size()); !status.is_ok()) return status;
    std::memcpy(dst.data(), bytes_.data() + offset, dst.size());
    return {};
  }

  /// Widens the range to whole blocks of 4096 and overwrites all of the staging, as a careless device might.
  Result<const std::byte*> read_direct(uint64_t offset, uint64_t length, std::span<std::byte> staging) const override {
    if (Status status = admit(offset, length); !status.is_ok()) return status;
    if (reads_in_place) return bytes_.data() + offset;
    if (staging.size() < direct_staging_bytes(length) || reinterpret_cast<uintptr_t>(staging.data()) % kDirectAlignment != 0) {
      return Status(StatusCode::kInternal, "read_direct: staging too small or not aligned");
    }
    std::memset(staging.data(), 0xcd, staging.size());
    const uint64_t lead = offset % kDirectAlignment;
    std::memcpy(staging.data() + lead, bytes_.data() + offset, length);
    return static_cast<const std::byte*>(staging.data() + lead);
  }
  uint64_t direct_staging_bytes(uint64_t length) const override {
    return reads_in_place ? 0 : (length + 2 * kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment;
  }

  bool read_if_cached(uint64_t offset, std::span<std::byte> dst) const override {
    const uint64_t there = std::min<uint64_t>(dst.size(), cached_bytes - std::min<uint64_t>(cached_bytes, offset));
    std::memcpy(dst.data(), bytes_.data() + offset, there);
    if (there < dst.size()) return false;
    ++cache_hits;
    return true;
  }

  Status check_unchanged() const override {
    return has_changed ? Status(StatusCode::kIo, "the file changed on purpose").in_file(name_) : Status();
  }

  mutable std::atomic<uint64_t> reads{0}, cache_hits{0};
  std::atomic<uint64_t> cached_bytes{0};  ///< from the beginning on, for read_if_cached
  std::atomic<uint64_t> failing_read{0};  ///< counted from 1; 0: none
  std::atomic<uint64_t> available_bytes;  ///< less than size_bytes(): the file was cut
  std::atomic<bool> has_changed{false};
  bool reads_in_place = false;    ///< as a memory source does
  std::function<void()> on_read;  ///< called by every read, on its thread

 private:
  Status admit(uint64_t offset, uint64_t length) const {
    if (on_read) on_read();
    if (++reads == failing_read) return Status(StatusCode::kIo, "a read failed on purpose").at_offset(offset).in_file(name_);
    if (offset + length > available_bytes) return Status(StatusCode::kIo, "the file ends early").at_offset(offset).in_file(name_);
    return {};
  }

  const std::vector<std::byte> bytes_;
  const std::string name_ = "fake.gguf";
};

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_SUPPORT_FAKE_SOURCE_H_
