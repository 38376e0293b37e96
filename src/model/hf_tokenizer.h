// The tokenizer of a Hugging Face directory as the metadata of a GGUF file.
#ifndef OUTRIGGER_SRC_MODEL_HF_TOKENIZER_H_
#define OUTRIGGER_SRC_MODEL_HF_TOKENIZER_H_

#include <outrigger/status.h>

#include <cstdint>

#include "src/io/gguf_header.h"
#include "src/io/json_text.h"
#include "src/model/hf_folder.h"

namespace outrigger {

/// Adds "tokenizer.*" from tokenizer.json, tokenizer_config.json, special_tokens_map.json, generation_config.json, chat_template.jinja and
/// the token numbers of config.json. `vocabulary`: rows of the embedding, or 0 where they are not known;
/// numbers that no token has stand for nothing.
/// `no_tokenizer` becomes kUnsupported when there is no tokenizer.json or it describes another kind, by name; the header then says nothing
/// of tokens. Errors: kCorruptFile, naming file and member, for a vocabulary or setting that contradicts itself.
Status add_hf_tokenizer(const HfFolder& folder, const JsonText& config, uint64_t vocabulary, GgufHeader* header, Status* no_tokenizer);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_HF_TOKENIZER_H_
