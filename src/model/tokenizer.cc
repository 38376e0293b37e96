// Tokenizer: the public calls.
#include <outrigger/tokenizer.h>

#include <algorithm>
#include <limits>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/model/chat_template.h"
#include "src/model/tokenizer_impl.h"

namespace outrigger {
namespace {

constexpr const char* kTemplateNames[] = {"chatml", "smollm", "llama-2", "llama-3", "mistral", "qwen", "zephyr"};

// Text between two special tokens is tokenised as one, whoever wrote it: so the tokens are those of the laid-out text, except that content
// cannot make special ones.
class TokenWriter : public ChatWriter {
 public:
  TokenWriter(const Tokenizer::Impl& impl, std::vector<Token>& out) : impl_(impl), encoder_(impl, out), out_(out) {}

  void markup(std::string_view text) override {
    impl_.marks.split(
        text, [this](std::string_view part) { plain_ += part; }, [this](Token token) { special(token); });
  }
  void content(std::string_view text) override { plain_ += text; }
  void bos() override { special(impl_.bos); }
  void eos() override { special(impl_.eos); }
  void finish() {
    encoder_.encode(plain_, false);
    plain_.clear();
  }

 private:
  void special(Token token) {
    finish();
    encoder_.leave_start();
    if (token >= 0) out_.push_back(token);
  }

  const Tokenizer::Impl& impl_;
  Encoder encoder_;
  std::vector<Token>& out_;
  std::string plain_;
};

Status no_template(std::string_view wanted) {
  std::string problem = wanted.empty() ? "the model's own chat template is missing or none that is known"
                                       : formatted("there is no chat template \"{}\"", wanted);
  return Status(StatusCode::kUnsupported, formatted("{}; choose one of {}", problem, joined(kTemplateNames, ", ")));
}

Status no_such_token(Token token, const Vocabulary& vocabulary) {
  return Status(StatusCode::kInvalidArgument,
                formatted("token {} is not in the vocabulary, which has 0 to {}", token, vocabulary.size() - 1));
}

}  // namespace

int32_t Tokenizer::vocabulary_tokens() const { return impl_->vocabulary.size(); }
const std::string& Tokenizer::kind() const { return impl_->kind; }
Token Tokenizer::bos() const { return impl_->bos; }
Token Tokenizer::eos() const { return impl_->eos; }
bool Tokenizer::adds_bos() const { return impl_->adds_bos; }
bool Tokenizer::ends_generation(Token token) const { return std::binary_search(impl_->ends.begin(), impl_->ends.end(), token); }

Result<std::vector<Token>> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  if (text.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    return Status(StatusCode::kInvalidArgument, formatted("the text has {} bytes; at most 2^31 - 1 can be tokenised at once", text.size()));
  }
  std::vector<Token> tokens;
  if (options.add_special && impl_->adds_bos) tokens.push_back(impl_->bos);
  Encoder(*impl_, tokens).encode(text, options.parse_special);
  if (options.add_special && impl_->adds_eos) tokens.push_back(impl_->eos);
  return tokens;
}

Result<std::string> Tokenizer::piece(Token token, bool with_special) const {
  const Vocabulary& vocabulary = impl_->vocabulary;
  if (!vocabulary.contains(token)) return no_such_token(token, vocabulary);
  return vocabulary.is_hidden(token) && !with_special ? std::string() : std::string(vocabulary.bytes(token));
}

Result<std::string> Tokenizer::decode(std::span<const Token> tokens, bool with_special) const {
  const Vocabulary& vocabulary = impl_->vocabulary;
  std::string text;
  bool drops_space = impl_->add_space_prefix;
  for (const Token token : tokens) {
    if (!vocabulary.contains(token)) return no_such_token(token, vocabulary);
    std::string_view bytes = vocabulary.bytes(token);
    if (bytes.empty() || (vocabulary.is_hidden(token) && !with_special)) continue;
    if (drops_space && bytes.starts_with(' ')) bytes.remove_prefix(1);
    drops_space = false;
    text += bytes;
  }
  return text;
}

const std::string& Tokenizer::chat_template() const {
  static const std::string none;
  return impl_->chat_template ? impl_->chat_template->name : none;
}

std::span<const char* const> Tokenizer::chat_template_names() { return kTemplateNames; }

Result<std::vector<Token>> Tokenizer::chat(std::span<const ChatMessage> messages, std::string_view template_name) const {
  std::optional<ChatTemplate> layout = impl_->chat_template;
  if (!template_name.empty() && template_name != chat_template()) layout = find_chat_template(template_name);
  if (!layout) return no_template(template_name);
  std::vector<Token> tokens;
  TokenWriter writer(*impl_, tokens);
  // Layouts that do not say it were taught with it all the same, where the model expects it before any text.
  if (impl_->adds_bos && !layout->writes_bos()) writer.bos();
  OTR_TRY(write_chat(*layout, messages, writer));
  writer.finish();
  return tokens;
}

}  // namespace outrigger
