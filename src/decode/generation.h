// Generation: a prompt and what follows it.
#ifndef OUTRIGGER_SRC_DECODE_GENERATION_H_
#define OUTRIGGER_SRC_DECODE_GENERATION_H_

#include <outrigger/session.h>

#include <span>

#include "src/decode/speculative_decoder.h"

namespace outrigger {

/// Session::generate() with a decoder that was made for it. Preconditions: the session is held, the options are valid.
Result<GenerateResult> generate_with(SpeculativeDecoder decoder, Session::Impl& session, std::span<const Token> prompt,
                                     const GenerateOptions& options);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_GENERATION_H_
