// Tensors of a Hugging Face directory under GGUF's names.
#ifndef OUTRIGGER_SRC_MODEL_HF_TENSORS_H_
#define OUTRIGGER_SRC_MODEL_HF_TENSORS_H_

#include <outrigger/status.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/io/gguf_header.h"
#include "src/io/safetensors.h"
#include "src/model/hf_config.h"

namespace outrigger {

/// Where a tensor of the header is.
struct HfPlace {
  size_t file;
  uint64_t offset;
};

/// Adds the tensors of all files to the header. Tensors of an architecture that is not ours keep their names. Left out are the frequencies
/// that old files store beside the weights, and a head of its own where the configuration ties it to the embedding. A type without kernels,
/// by name, and a tensor without a place in the computation go to config.cannot_run. Errors: kCorruptFile for a tensor, bias or expert the
/// configuration promises and no file has, or the reverse, for an embedding of another size, and for a tensor without elements.
Result<std::vector<HfPlace>> add_hf_tensors(const std::vector<SafetensorsFile>& files, const JsonText& source, HfConfig* config,
                                            GgufHeader* header);

/// The name in a directory of a tensor that GGUF calls `name` in an `architecture`; nothing if it is none of ours.
std::optional<std::string> hf_tensor_name(std::string_view name, std::string_view architecture);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_HF_TENSORS_H_
