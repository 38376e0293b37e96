// A ByteSource over a caller's bytes.
#include <cstring>

#include "src/base/formatted.h"
#include "src/io/byte_source.h"

namespace outrigger {
namespace {

class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::span<const std::byte> bytes) : bytes_(bytes) {}

  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return bytes_.size(); }

  Status read(uint64_t offset, std::span<std::byte> dst) const override {
    if (offset > bytes_.size() || dst.size() > bytes_.size() - offset) {
      return Status(StatusCode::kIo, formatted("{} bytes asked for, {} are there", dst.size(), bytes_.size()))
          .at_offset(offset)
          .in_file(name_);
    }
    if (!dst.empty()) std::memcpy(dst.data(), bytes_.data() + offset, dst.size());
    return {};
  }

  Result<const std::byte*> read_direct(uint64_t offset, uint64_t, std::span<std::byte>) const override { return bytes_.data() + offset; }
  uint64_t direct_staging_bytes(uint64_t) const override { return 0; }
  bool is_direct() const override { return false; }
  Status check_unchanged() const override { return {}; }

 private:
  const std::string name_ = "memory";
  const std::span<const std::byte> bytes_;
};

}  // namespace

std::shared_ptr<const ByteSource> wrap_memory(std::span<const std::byte> bytes) { return std::make_shared<MemorySource>(bytes); }

}  // namespace outrigger
