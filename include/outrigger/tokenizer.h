// Tokenizer: text to token ids and back, as the model's makers defined it.
#ifndef OUTRIGGER_TOKENIZER_H_
#define OUTRIGGER_TOKENIZER_H_

#include <outrigger/export.h>
#include <outrigger/status.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace outrigger {

/// A token id; -1 where a vocabulary has no such token.
using Token = int32_t;

/// One turn of a conversation: role is "system", "user" or "assistant".
struct ChatMessage {
  std::string role;
  std::string content;
};

/// Immutable and cheap to copy; any number of threads may use one at once.
class OTR_API Tokenizer {
 public:
  struct Impl;
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

  int32_t vocabulary_tokens() const;
  /// "bpe" or "spm", with the pre-tokenizer: "bpe (smollm)".
  const std::string& kind() const;
  Token bos() const;  ///< begin of text; -1 if the model has none
  Token eos() const;  ///< end of text; -1 if the model has none
  /// Whether the model expects bos() before a text that is not a chat.
  bool adds_bos() const;
  /// Whether generation should stop at this token: end of text, or end of a turn.
  bool ends_generation(Token token) const;

  struct EncodeOptions {
    bool add_special = false;    ///< put BOS before (and EOS after) as the model's settings ask
    bool parse_special = false;  ///< turn the text of special tokens into those tokens; never set it for a user's content
  };
  /// Any bytes are accepted; invalid UTF-8 becomes the byte tokens of its bytes. A byte for which the vocabulary has no token is left out
  /// (byte-level) or becomes the unknown token with its character (SentencePiece). Linear time in the length, but for a logarithm in that
  /// of the longest word.
  /// Errors: kInvalidArgument for more than 2^31 - 1 bytes.
  Result<std::vector<Token>> encode(std::string_view text, const EncodeOptions& options) const;
  Result<std::vector<Token>> encode(std::string_view text) const { return encode(text, EncodeOptions()); }

  /// The bytes of one token, as decode() would write it in mid-text; special tokens give their text only with `with_special`.
  /// Errors: kInvalidArgument for an id outside the vocabulary.
  Result<std::string> piece(Token token, bool with_special = false) const;
  /// The text of a sequence. The first token's leading space is dropped where the model's convention says so (SentencePiece).
  Result<std::string> decode(std::span<const Token> tokens, bool with_special = false) const;

  /// The recognised chat template's name ("chatml", "smollm", "llama-2", "llama-3", "mistral", "qwen", "zephyr"), or "" if the file brings
  /// none that is recognised.
  const std::string& chat_template() const;
  /// Names that `chat` takes.
  static std::span<const char* const> chat_template_names();
  /// Tokens of a conversation, ending where the assistant is to speak. Special tokens come from the template only: content is plain text
  /// whatever it says. `template_name` "" means the file's own.
  /// Errors: kUnsupported with the list of names when there is no such template or the file's own is not recognised; kInvalidArgument for
  /// an unknown role or an order the template cannot express.
  Result<std::vector<Token>> chat(std::span<const ChatMessage> messages, std::string_view template_name = {}) const;

  const std::shared_ptr<const Impl>& impl() const { return impl_; }  ///< for the library's own parts

 private:
  std::shared_ptr<const Impl> impl_;
};

/// Turns a stream of tokens into text without ever splitting a UTF-8 character: bytes of an unfinished one wait for the next token.
/// One stream, one thread at a time.
class OTR_API TextStream {
 public:
  explicit TextStream(Tokenizer tokenizer, bool with_special = false);
  /// The text that became complete with this token; often empty in the middle of an emoji.
  /// Errors: kInvalidArgument for an id outside the vocabulary.
  Result<std::string> push(Token token);
  /// What is left: an unfinished character becomes U+FFFD.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  bool with_special_;
  bool at_start_ = true;
  std::string pending_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_TOKENIZER_H_
