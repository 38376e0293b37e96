// HfModel: a Hugging Face directory presented as a GGUF file, so that everything behind the door needs no second way.
#ifndef OUTRIGGER_SRC_MODEL_HF_MODEL_H_
#define OUTRIGGER_SRC_MODEL_HF_MODEL_H_

#include <outrigger/status.h>

#include <memory>
#include <string>
#include <string_view>

#include "src/io/byte_source.h"
#include "src/io/spliced_source.h"
#include "src/model/hf_folder.h"

namespace outrigger {

struct HfModel {
  std::shared_ptr<SplicedSource> source;  ///< a made header, then the directory's safetensors files as they are
  std::string architecture;               ///< GGUF's name
  Status cannot_run;                      ///< what is not computed, if anything
  Status no_tokenizer;                    ///< why the header has no tokenizer, if it has none
};

/// Reads config.json, the headers of the weights, and the tokenizer; no weight. At most 8 x what is read + 1 MiB of memory.
/// Errors: kIo for a directory without config.json; kCorruptFile and kUnsupported with file, member and offset; as HfFolder::open_weights.
Result<HfModel> open_hf_model(const HfFolder& folder, DirectIo direct);

/// An error about the made header, as one about the directory: keys and tensors get the names they have there.
Status as_in_folder(Status status, const HfFolder& folder, std::string_view architecture);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_HF_MODEL_H_
