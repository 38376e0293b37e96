// SplicedSource: finds the part, and lets it read.
#include "src/io/spliced_source.h"

#include <algorithm>
#include <cstring>

#include "src/base/formatted.h"
#include "src/base/macros.h"

namespace outrigger {

SplicedSource::SplicedSource(std::string name, std::vector<std::shared_ptr<const ByteSource>> files)
    : name_(std::move(name)), files_(std::move(files)), begins_(places(0)) {}

std::vector<uint64_t> SplicedSource::places(uint64_t header_bytes) const {
  std::vector<uint64_t> begins;
  uint64_t end = header_bytes;
  for (const auto& file : files_) {
    begins.push_back((end + kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment);
    end = begins.back() + file->size_bytes();
  }
  return begins;
}

void SplicedSource::set_header(std::string header) {
  header_ = std::move(header);
  header_bytes_ = header_.size();
  begins_ = places(header_bytes_);
}

void SplicedSource::forget_header() { header_ = {}; }

uint64_t SplicedSource::size_bytes() const { return files_.empty() ? header_bytes_ : begins_.back() + files_.back()->size_bytes(); }

uint64_t SplicedSource::stored_bytes() const {
  uint64_t bytes = 0;
  for (const auto& file : files_) bytes += file->size_bytes();
  return bytes;
}

size_t SplicedSource::file_at(uint64_t offset) const {
  const auto after = std::upper_bound(begins_.begin(), begins_.end(), offset);
  return after == begins_.begin() ? SIZE_MAX : static_cast<size_t>(after - begins_.begin()) - 1;
}

Status SplicedSource::read_header(uint64_t offset, std::span<std::byte> dst) const {
  const uint64_t bytes = offset < header_bytes_ ? std::min<uint64_t>(dst.size(), header_bytes_ - offset) : 0;
  if (bytes > 0 && header_.empty()) {
    return Status(StatusCode::kInternal, "the header was given back before it was read").in_file(name_).at_offset(offset);
  }
  if (bytes > 0) std::memcpy(dst.data(), header_.data() + offset, bytes);
  std::fill(dst.begin() + static_cast<ptrdiff_t>(bytes), dst.end(), std::byte{0});
  return {};
}

Status SplicedSource::read(uint64_t offset, std::span<std::byte> dst) const {
  if (offset > size_bytes() || dst.size() > size_bytes() - offset) {
    return Status(StatusCode::kIo, formatted("{} bytes asked for, {} are there", dst.size(), size_bytes()))
        .at_offset(offset)
        .in_file(name_);
  }
  while (!dst.empty()) {
    const size_t index = file_at(offset);
    const uint64_t next = index + 1 < begins_.size() ? begins_[index + 1] : size_bytes();  // SIZE_MAX + 1 is the first file
    const std::span<std::byte> part = dst.first(std::min<uint64_t>(dst.size(), next - offset));
    if (index == SIZE_MAX) {
      OTR_TRY(read_header(offset, part));
    } else {
      const uint64_t at = offset - begins_[index], file_bytes = files_[index]->size_bytes();
      const size_t inside = at < file_bytes ? std::min<uint64_t>(part.size(), file_bytes - at) : 0;
      if (inside > 0) OTR_TRY(files_[index]->read(at, part.first(inside)));
      std::fill(part.begin() + static_cast<ptrdiff_t>(inside), part.end(), std::byte{0});
    }
    offset += part.size();
    dst = dst.subspan(part.size());
  }
  return {};
}

const ByteSource* SplicedSource::file_of(uint64_t offset, uint64_t length, uint64_t* at) const {
  const size_t index = file_at(offset);
  if (index == SIZE_MAX) return nullptr;
  *at = offset - begins_[index];
  const uint64_t file_bytes = files_[index]->size_bytes();
  return *at <= file_bytes && length <= file_bytes - *at ? files_[index].get() : nullptr;
}

bool SplicedSource::read_if_cached(uint64_t offset, std::span<std::byte> dst) const {
  uint64_t at = 0;
  const ByteSource* file = file_of(offset, dst.size(), &at);
  return file != nullptr && file->read_if_cached(at, dst);
}

Result<const std::byte*> SplicedSource::read_direct(uint64_t offset, uint64_t length, std::span<std::byte> staging) const {
  uint64_t at = 0;
  if (const ByteSource* file = file_of(offset, length, &at)) return file->read_direct(at, length, staging);
  return Status(StatusCode::kInternal, formatted("a direct read of {} bytes does not lie in one file", length))
      .in_file(name_)
      .at_offset(offset);
}

std::optional<DescriptorRead> SplicedSource::descriptor_read(uint64_t offset, uint64_t length) const {
  uint64_t at = 0;
  const ByteSource* file = file_of(offset, length, &at);
  return file == nullptr ? std::nullopt : file->descriptor_read(at, length);
}

uint64_t SplicedSource::direct_staging_bytes(uint64_t length) const {
  uint64_t bytes = 0;
  for (const auto& file : files_) bytes = std::max(bytes, file->direct_staging_bytes(length));
  return bytes;
}

bool SplicedSource::is_direct() const {
  return std::all_of(files_.begin(), files_.end(), [](const auto& file) { return file->is_direct(); });
}

Status SplicedSource::check_unchanged() const {
  for (const auto& file : files_) OTR_TRY(file->check_unchanged());
  return {};
}

BytePlace SplicedSource::locate(uint64_t offset) const {
  const size_t index = file_at(offset);
  return index == SIZE_MAX ? BytePlace{name_, offset} : BytePlace{files_[index]->name(), offset - begins_[index]};
}

}  // namespace outrigger
