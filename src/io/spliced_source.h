// SplicedSource: several files behind a header, as one: how a model in many files reads like a model in one.
#ifndef OUTRIGGER_SRC_IO_SPLICED_SOURCE_H_
#define OUTRIGGER_SRC_IO_SPLICED_SOURCE_H_

#include <memory>
#include <string>
#include <vector>

#include "src/io/byte_source.h"

namespace outrigger {

/// The header, then each file whole, at the next multiple of kDirectAlignment: what is aligned in a file is aligned here, so that direct
/// reads stay so. Between the parts are zeros. A direct read lies inside one file.
class SplicedSource final : public ByteSource {
 public:
  SplicedSource(std::string name, std::vector<std::shared_ptr<const ByteSource>> files);

  /// Where each file begins behind a header of so many bytes.
  std::vector<uint64_t> places(uint64_t header_bytes) const;
  /// Puts the header in front. Before it is shared among threads; once.
  void set_header(std::string header);
  /// Frees the header's bytes, whose reader has them: reading them is kInternal from now on. Before it is shared among threads.
  void forget_header();

  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override;
  uint64_t stored_bytes() const override;
  Status read(uint64_t offset, std::span<std::byte> dst) const override;
  Result<const std::byte*> read_direct(uint64_t offset, uint64_t length, std::span<std::byte> staging) const override;
  uint64_t direct_staging_bytes(uint64_t length) const override;
  std::optional<DescriptorRead> descriptor_read(uint64_t offset, uint64_t length) const override;
  bool read_if_cached(uint64_t offset, std::span<std::byte> dst) const override;
  bool is_direct() const override;
  Status check_unchanged() const override;
  BytePlace locate(uint64_t offset) const override;

 private:
  /// The last file that begins at or before `offset`; nothing in front of the first.
  size_t file_at(uint64_t offset) const;
  /// The file in which the whole range lies, and where it begins there; null if there is none.
  const ByteSource* file_of(uint64_t offset, uint64_t length, uint64_t* at) const;
  Status read_header(uint64_t offset, std::span<std::byte> dst) const;

  const std::string name_;
  const std::vector<std::shared_ptr<const ByteSource>> files_;
  std::vector<uint64_t> begins_;
  std::string header_;
  uint64_t header_bytes_ = 0;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_IO_SPLICED_SOURCE_H_
