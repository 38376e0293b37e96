// Whether two models speak of the same tokens.
#include <outrigger/speculation.h>

#include <algorithm>
#include <string>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/model/model_impl.h"
#include "src/model/tokenizer_impl.h"

namespace outrigger {
namespace {

// A piece as a person reads it: what is not printable ASCII as \xNN.
std::string quoted(const Vocabulary& vocabulary, Token token) {
  if (token >= vocabulary.size()) return "no such token";
  std::string text = "'";
  for (const char byte : vocabulary.bytes(token)) {
    const auto code = static_cast<unsigned char>(byte);
    if (code >= 0x20 && code < 0x7f) {
      text += byte;
    } else {
      text += formatted("\\x{:02x}", code);
    }
  }
  return text + "'";
}

Status differs(Token token, const std::string& target, const std::string& draft) {
  return Status(
      StatusCode::kInvalidArgument,
      formatted("the draft has another vocabulary: token {} is {} in the model and {} in the draft; use a draft of the same family", token,
                target, draft));
}

bool is_told(const Vocabulary& vocabulary, Token token) {
  return token < vocabulary.size() && vocabulary.type(token) != TokenType::kUnused;
}

}  // namespace

Status check_same_vocabulary(const Model& target, const Model& draft) {
  const Result<Tokenizer> ours = target.tokenizer(), theirs = draft.tokenizer();
  if (!ours.is_ok() && !theirs.is_ok()) {
    const uint64_t here = target.impl()->layout->vocabulary, there = draft.impl()->layout->vocabulary;
    if (here == there) return {};
    return Status(StatusCode::kInvalidArgument, formatted("the draft has another vocabulary: the model has {} tokens, the draft {}, and "
                                                          "neither file tells what they are; use a draft of the same family",
                                                          here, there));
  }
  if (!ours.is_ok())
    return Status(StatusCode::kInvalidArgument,
                  "the draft may have another vocabulary: the model's file brings no tokenizer to compare with, the draft's does");
  if (!theirs.is_ok())
    return Status(StatusCode::kInvalidArgument,
                  "the draft may have another vocabulary: its file brings no tokenizer to compare with the model's");
  const Vocabulary &of_target = ours.value().impl()->vocabulary, &of_draft = theirs.value().impl()->vocabulary;
  for (Token token = 0; token < std::max(of_target.size(), of_draft.size()); ++token) {
    const bool here = is_told(of_target, token), there = is_told(of_draft, token);
    const bool is_same = here == there && (!here || of_target.bytes(token) == of_draft.bytes(token));
    if (!is_same) return differs(token, quoted(of_target, token), quoted(of_draft, token));
  }
  return {};
}

}  // namespace outrigger
