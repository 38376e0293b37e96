// How a tokenizer comes out of a GGUF file's metadata.
#ifndef OUTRIGGER_SRC_MODEL_TOKENIZER_BUILD_H_
#define OUTRIGGER_SRC_MODEL_TOKENIZER_BUILD_H_

#include <outrigger/tokenizer.h>

#include "src/io/gguf.h"

namespace outrigger {

/// Builds the tokenizer a file describes. Copies what it needs: the file's arrays may be released afterwards. Memory: about the bytes of
/// the pieces plus 40 bytes a token and 16 a merge. Errors: kCorruptFile for a vocabulary that contradicts itself (see the tests'
/// catalogue); kUnsupported for a tokenizer model or pre-tokenizer this version does not have, by name.
Result<Tokenizer> build_tokenizer(const GgufFile& file);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_TOKENIZER_BUILD_H_
