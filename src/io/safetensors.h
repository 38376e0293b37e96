// SafetensorsFile: the header of one safetensors file: its tensors' names, types, shapes and places. Weights are not read here.
#ifndef OUTRIGGER_SRC_IO_SAFETENSORS_H_
#define OUTRIGGER_SRC_IO_SAFETENSORS_H_

#include <outrigger/status.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/io/byte_source.h"
#include "src/tensor/dtype.h"

namespace outrigger {

/// The format's limit.
inline constexpr uint64_t kSafetensorsMaxHeaderBytes = 100'000'000;
inline constexpr uint64_t kSafetensorsMaxNameBytes = 512;

struct SafetensorsTensor {
  std::string name;
  const char* dtype;             ///< as the format names it: "BF16"
  std::optional<DType> type;     ///< nothing for one that no kernel here has: "F8_E4M3", "BOOL"
  uint32_t rank;                 ///< 0 to 4
  std::array<uint64_t, 4> dims;  ///< as the file has them: the last of `rank` is the row length; unused ones are 1
  uint64_t offset;               ///< of the first byte, from the start of the file
  uint64_t bytes;
};

class SafetensorsFile {
 public:
  /// Reads and checks the header: each tensor's bytes are those of its shape and type, and together they fill the rest of the file, without
  /// a gap or an overlap. At most 8 x header + 1 MiB of memory, n log n time for n tensors. Errors: kCorruptFile with offset and tensor;
  /// kUnsupported for an unknown type (named), more than 4 dimensions, or a header beyond the limit; kIo.
  static Result<SafetensorsFile> open(std::shared_ptr<const ByteSource> source);

  const std::shared_ptr<const ByteSource>& source() const { return source_; }
  /// In the order of their bytes.
  std::span<const SafetensorsTensor> tensors() const { return tensors_; }
  uint64_t header_bytes() const { return header_bytes_; }

 private:
  std::shared_ptr<const ByteSource> source_;
  uint64_t header_bytes_ = 0;
  std::vector<SafetensorsTensor> tensors_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_IO_SAFETENSORS_H_
