// ExportedFile: a GGUF file as any program reads it, written from front to back.
#ifndef OUTRIGGER_SRC_COMPRESS_EXPORTED_FILE_H_
#define OUTRIGGER_SRC_COMPRESS_EXPORTED_FILE_H_

#include <outrigger/status.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/compress/exported_tensor.h"
#include "src/io/atomic_file.h"
#include "src/io/gguf_header.h"
#include "src/model/model_copy.h"

namespace outrigger {

/// What of a model's metadata holds for its exported backbone, and what is said of it anew. `file` has its arrays; `recoded` is what
/// matrices in types of our own become, if there are some.
GgufHeader backbone_header(const GgufFile& file, const ModelConfig& config, std::optional<DType> recoded);
/// A LoRA adapter's. Its alpha is 0: readers then take factors as they are, whatever their rank.
GgufHeader adapter_header(const GgufFile& file, const ModelConfig& config, std::span<const ExportedTensor> tensors);

/// Told how many more bytes of the model were used up; a failure stops.
using ExportWatch = std::function<Status(uint64_t)>;

/// Rows of a tensor of the model in pieces of some MiB, whole heads where these are turned: `use` gets them, and how many. `staging` is
/// overwritten.
Status read_in_pieces(const ByteSource& source, const ExportedTensor& tensor, DirectBuffer* staging,
                      const std::function<Status(const std::byte*, uint64_t)>& use);

/// Threads: one.
class ExportedFile {
 public:
  /// Reserves the file, of `tensors` in their order, and writes its header. Errors: kIo.
  static Result<ExportedFile> create(const std::string& path, GgufHeader header, std::vector<ExportedTensor> tensors);

  /// Writes all tensors from the model's file. Errors: kIo; those of `watch`.
  Status write(const ByteSource& source, const ExportWatch& watch);
  /// Precondition: write() succeeded. Errors: kIo; the file does not appear.
  Status commit() { return out_.commit(); }

  uint64_t bytes() const { return bytes_; }

 private:
  ExportedFile(AtomicFile out, std::vector<ExportedTensor> tensors, uint64_t bytes)
      : out_(std::move(out)), tensors_(std::move(tensors)), bytes_(bytes) {}
  Status write_rows(const ExportedTensor& tensor, const std::byte* rows, uint64_t count);

  AtomicFile out_;
  std::vector<ExportedTensor> tensors_;
  uint64_t bytes_;
  DirectBuffer staging_, converted_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_EXPORTED_FILE_H_
