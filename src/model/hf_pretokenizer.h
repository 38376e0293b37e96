// HfTextRules: how tokenizer.json treats a text before and after byte-pair merging, recognised as one of the ways this library has.
#ifndef OUTRIGGER_SRC_MODEL_HF_PRETOKENIZER_H_
#define OUTRIGGER_SRC_MODEL_HF_PRETOKENIZER_H_

#include <outrigger/status.h>

#include <string>

#include "src/io/json_text.h"

namespace outrigger {

struct HfTextRules {
  std::string pre;              ///< GGUF's name of the pre-tokenizer: "qwen2"; empty for SentencePiece
  bool composes = false;        ///< text is brought into Unicode's NFC first
  bool prefixes_space = false;  ///< SentencePiece: a space in front of the text
  bool prefix_once = false;     ///< only at the very start, not behind a special token
};

/// From the members normalizer, pre_tokenizer and model of a tokenizer. kUnsupported, naming the step, for any other way; kCorruptFile for
/// members of a wrong type.
Result<HfTextRules> recognise_text_rules(JsonValue tokenizer);

/// What the post-processor puts around a text.
struct HfFrame {
  std::string before, after;  ///< a special token's text, or empty
};

/// From the member post_processor. Errors as above.
Result<HfFrame> recognise_frame(JsonValue tokenizer);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_HF_PRETOKENIZER_H_
