// Chat templates: how a conversation is laid out for a model that was taught one layout.
#ifndef OUTRIGGER_SRC_MODEL_CHAT_TEMPLATE_H_
#define OUTRIGGER_SRC_MODEL_CHAT_TEMPLATE_H_

#include <outrigger/status.h>
#include <outrigger/tokenizer.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace outrigger {

enum class ChatFamily : uint8_t { kChatMl, kLlama2, kLlama3, kMistral, kZephyr };

/// A layout as data. Files carry theirs as a program in the Jinja language; it is never run, only recognised by what it contains.
struct ChatTemplate {
  ChatFamily family = ChatFamily::kChatMl;
  std::string name;            ///< as the user knows it
  std::string default_system;  ///< ChatML: the system message where the conversation brings none; "" for none
  bool dates = false;          ///< Llama 3.1 and later: the system turn is always there and begins with two dates

  // Mistral's versions differ in spaces, which are tokens.
  bool space_before_open = false;    ///< " [INST]"
  bool space_before_close = true;    ///< "content [/INST]"
  bool space_before_answer = false;  ///< and the answer's own spaces are cut off
  bool system_goes_last = false;     ///< into the last user turn instead of the first

  /// Whether the layout itself says where the text begins.
  bool writes_bos() const { return family == ChatFamily::kLlama2 || family == ChatFamily::kLlama3 || family == ChatFamily::kMistral; }
};

/// The layout that a file's template program describes, or nothing if it is none of ours.
std::optional<ChatTemplate> recognise_chat_template(std::string_view program);

/// By name, as published with the first model that had it.
std::optional<ChatTemplate> find_chat_template(std::string_view name);

/// Where a laid-out conversation goes.
class ChatWriter {
 public:
  virtual ~ChatWriter() = default;
  virtual void markup(std::string_view text) = 0;   ///< the template's own: special tokens' texts mean those tokens
  virtual void content(std::string_view text) = 0;  ///< a message's: plain text whatever it says
  virtual void bos() = 0;
  virtual void eos() = 0;
};

/// Writes the conversation up to where the assistant is to speak.
/// Errors: kInvalidArgument for no message, an unknown role, or an order the layout cannot express; nothing has been written then.
Status write_chat(const ChatTemplate& layout, std::span<const ChatMessage> messages, ChatWriter& writer);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_CHAT_TEMPLATE_H_
