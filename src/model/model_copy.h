// What writing another file from an open model takes.
#ifndef OUTRIGGER_SRC_MODEL_MODEL_COPY_H_
#define OUTRIGGER_SRC_MODEL_MODEL_COPY_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "src/io/byte_source.h"
#include "src/memory/leased_vector.h"
#include "src/model/model_impl.h"

namespace outrigger {

/// Replacing what is being read would destroy it with the first mistake; a directory's settings are read as well. Errors: kInvalidArgument.
Status check_output_path(const Model::Impl& model, const std::string& path);

/// The model's header with the arrays that an open model no longer holds, a directory's made anew. Errors: kIo, also when it has changed;
/// those of opening it.
Result<GgufFile> read_header_again(const Model::Impl& model);

/// The file's entries in their order, so that writing them again gives the same bytes.
std::vector<const GgufValue*> values_in_order(const GgufFile& file);

/// Memory at the alignment of direct reads.
class DirectBuffer {
 public:
  std::span<std::byte> take(uint64_t bytes) {
    if (memory_.size() < bytes + kDirectAlignment) memory_.resize(bytes + kDirectAlignment);
    const auto lead = kDirectAlignment - 1 - (reinterpret_cast<uintptr_t>(memory_.data()) + kDirectAlignment - 1) % kDirectAlignment;
    return std::span(memory_).subspan(lead, bytes);
  }

 private:
  LeasedVector<std::byte> memory_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_MODEL_COPY_H_
