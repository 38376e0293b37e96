// What a Model holds.
#ifndef OUTRIGGER_SRC_MODEL_MODEL_IMPL_H_
#define OUTRIGGER_SRC_MODEL_MODEL_IMPL_H_

#include <outrigger/model.h>

#include <optional>

#include "src/io/gguf.h"
#include "src/model/hf_folder.h"
#include "src/model/layout.h"

namespace outrigger {

struct Model::Impl {
  GgufFile file;
  ModelInfo info;
  std::optional<Tokenizer> tokenizer;
  Status tokenizer_status;              ///< why there is none
  std::optional<ModelLayout> layout;
  Status run_status;                    ///< why it cannot run
  std::optional<HfFolder> folder;       ///< the directory it was opened from, if it was one

  explicit Impl(GgufFile opened) : file(std::move(opened)) {}
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_MODEL_IMPL_H_
