// Chat templates: recognising one, and the layouts.
#include "src/model/chat_template.h"

#include "src/base/formatted.h"
#include "src/model/utf8.h"

namespace outrigger {
namespace {

constexpr std::string_view kSmolLmSystem = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
constexpr std::string_view kQwenSystem = "You are a helpful assistant.";

// The system message that a ChatML program writes when there is none: the literal text of a system turn. Inside a Jinja string the line end
// stands as itself or escaped.
std::string find_default_system(std::string_view program) {
  static constexpr std::string_view kOpen = "<|im_start|>system", kClose = "<|im_end|>";
  for (size_t at = program.find(kOpen); at != std::string_view::npos; at = program.find(kOpen, at + 1)) {
    std::string_view text = program.substr(at + kOpen.size());
    if (text.starts_with("\\n")) {
      text.remove_prefix(2);
    } else if (text.starts_with("\n")) {
      text.remove_prefix(1);
    } else {
      continue;
    }
    const size_t end = text.find(kClose);
    if (end == std::string_view::npos) continue;
    text = text.substr(0, end);
    if (!text.empty() && text.find_first_of("'\"{}\\") == std::string_view::npos) return std::string(text);
  }
  return "";
}

ChatTemplate chatml(std::string name, std::string_view default_system) {
  ChatTemplate layout;
  layout.name = std::move(name);
  layout.default_system = default_system;
  return layout;
}

ChatTemplate of_family(ChatFamily family, std::string name) {
  ChatTemplate layout;
  layout.family = family;
  layout.name = std::move(name);
  return layout;
}

ChatTemplate recognise_mistral(std::string_view program) {
  const auto has = [program](std::string_view a, std::string_view b) {
    return program.find(a) != std::string_view::npos || program.find(b) != std::string_view::npos;
  };
  ChatTemplate layout = of_family(ChatFamily::kMistral, "mistral");
  layout.space_before_open = has("' [INST]", "\" [INST]");
  layout.space_before_close = has("' [/INST]", "\" [/INST]");
  layout.space_before_answer = has("' ' + message", "\" \" + message");
  layout.system_goes_last = has("loop.last and system_message", "loop.last and messages[0]");
  return layout;
}

void write_chatml(const ChatTemplate& layout, std::span<const ChatMessage> messages, ChatWriter& writer) {
  const auto turn = [&](std::string_view role, std::string_view content) {
    writer.markup(formatted("<|im_start|>{}\n", role));
    writer.content(content);
    writer.markup("<|im_end|>\n");
  };
  if (messages.front().role != "system" && !layout.default_system.empty()) turn("system", layout.default_system);
  for (const ChatMessage& message : messages) turn(message.role, message.content);
  writer.markup("<|im_start|>assistant\n");
}

void write_zephyr(std::span<const ChatMessage> messages, ChatWriter& writer) {
  for (const ChatMessage& message : messages) {
    writer.markup(formatted("<|{}|>\n", message.role));
    writer.content(message.content);
    writer.eos();
    writer.markup("\n");
  }
  writer.markup("<|assistant|>\n");
}

void write_llama3(const ChatTemplate& layout, std::span<const ChatMessage> messages, ChatWriter& writer) {
  const auto open = [&](std::string_view role) { writer.markup(formatted("<|start_header_id|>{}<|end_header_id|>\n\n", role)); };
  writer.bos();
  if (layout.dates) {
    open("system");
    // The program's own date, for when it is not told today's: the same conversation always gives the same tokens.
    writer.markup("Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
    if (messages.front().role == "system") {
      writer.content(strip_white_space(messages.front().content));
      messages = messages.subspan(1);
    }
    writer.markup("<|eot_id|>");
  }
  for (const ChatMessage& message : messages) {
    open(message.role);
    writer.content(strip_white_space(message.content));
    writer.markup("<|eot_id|>");
  }
  open("assistant");
}

void write_llama2(std::span<const ChatMessage> messages, ChatWriter& writer) {
  std::string system;
  if (messages.front().role == "system") {
    system = formatted("<<SYS>>\n{}\n<</SYS>>\n\n", messages.front().content);
    messages = messages.subspan(1);
  }
  for (const ChatMessage& message : messages) {
    if (message.role == "user") {
      writer.bos();
      writer.markup("[INST] ");
      writer.content(strip_white_space(std::exchange(system, "") + message.content));
      writer.markup(" [/INST]");
    } else {
      writer.markup(" ");
      writer.content(strip_white_space(message.content));
      writer.markup(" ");
      writer.eos();
    }
  }
}

void write_mistral(const ChatTemplate& layout, std::span<const ChatMessage> messages, ChatWriter& writer) {
  std::string system;
  if (messages.front().role == "system") {
    system = messages.front().content + "\n\n";
    messages = messages.subspan(1);
  }
  writer.bos();
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role == "user") {
      writer.markup(layout.space_before_open ? " [INST] " : "[INST] ");
      if (i == (layout.system_goes_last ? messages.size() - 1 : 0)) writer.content(system);
      writer.content(messages[i].content);
      writer.markup(layout.space_before_close ? " [/INST]" : "[/INST]");
    } else {
      if (layout.space_before_answer) writer.markup(" ");
      writer.content(layout.space_before_answer ? strip_white_space(messages[i].content) : std::string_view(messages[i].content));
      writer.eos();
    }
  }
}

// These two have room for a system message at the start only, and for turns of user and assistant in strict alternation.
Status check_alternation(const ChatTemplate& layout, std::span<const ChatMessage> messages) {
  const size_t first = messages.front().role == "system" ? 1 : 0;
  for (size_t i = first; i < messages.size(); ++i) {
    const std::string_view wanted = (i - first) % 2 == 0 ? "user" : "assistant";
    if (messages[i].role == wanted) continue;
    return Status(StatusCode::kInvalidArgument, formatted("message {} is of role {}, but the chat template {} needs {} there: after an "
                                                          "optional system message, user and assistant take turns",
                                                          i + 1, messages[i].role, layout.name, wanted));
  }
  if (messages.back().role == "user") return Status();
  return Status(StatusCode::kInvalidArgument,
                formatted("the last message is of role {}, but the chat template {} needs one of the user's to answer",
                          messages.back().role, layout.name));
}

Status check_messages(const ChatTemplate& layout, std::span<const ChatMessage> messages) {
  if (messages.empty()) return Status(StatusCode::kInvalidArgument, "the conversation is empty; it needs at least one message");
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role == "system" || role == "user" || role == "assistant") continue;
    return Status(StatusCode::kInvalidArgument,
                  formatted("message {} has the role \"{}\"; roles are system, user and assistant", i + 1, role));
  }
  const bool alternates = layout.family == ChatFamily::kLlama2 || layout.family == ChatFamily::kMistral;
  return alternates ? check_alternation(layout, messages) : Status();
}

}  // namespace

std::optional<ChatTemplate> recognise_chat_template(std::string_view program) {
  const auto has = [program](std::string_view text) { return program.find(text) != std::string_view::npos; };
  if (has("<|im_start|>") && has("<|im_end|>")) {
    const std::string system = find_default_system(program);
    if (system.empty()) return chatml("chatml", "");
    return chatml(system.find("SmolLM") != std::string::npos ? "smollm" : "qwen", system);
  }
  if (has("<|start_header_id|>") && has("<|eot_id|>")) {
    ChatTemplate layout = of_family(ChatFamily::kLlama3, "llama-3");
    layout.dates = has("Cutting Knowledge Date");
    return layout;
  }
  if (has("[INST]")) return has("<<SYS>>") ? of_family(ChatFamily::kLlama2, "llama-2") : recognise_mistral(program);
  // Phi-3 has the same role marks but ends its turns otherwise.
  if (has("<|user|>") && has("<|assistant|>") && has("eos_token") && !has("<|end|>")) return of_family(ChatFamily::kZephyr, "zephyr");
  return std::nullopt;
}

std::optional<ChatTemplate> find_chat_template(std::string_view name) {
  if (name == "chatml") return chatml("chatml", "");
  if (name == "smollm") return chatml("smollm", kSmolLmSystem);
  if (name == "qwen") return chatml("qwen", kQwenSystem);
  if (name == "llama-2") return of_family(ChatFamily::kLlama2, "llama-2");
  if (name == "llama-3") return of_family(ChatFamily::kLlama3, "llama-3");
  if (name == "mistral") return of_family(ChatFamily::kMistral, "mistral");
  if (name == "zephyr") return of_family(ChatFamily::kZephyr, "zephyr");
  return std::nullopt;
}

Status write_chat(const ChatTemplate& layout, std::span<const ChatMessage> messages, ChatWriter& writer) {
  if (Status status = check_messages(layout, messages); !status.is_ok()) return status;
  switch (layout.family) {
    case ChatFamily::kChatMl:
      write_chatml(layout, messages, writer);
      break;
    case ChatFamily::kLlama2:
      write_llama2(messages, writer);
      break;
    case ChatFamily::kLlama3:
      write_llama3(layout, messages, writer);
      break;
    case ChatFamily::kMistral:
      write_mistral(layout, messages, writer);
      break;
    case ChatFamily::kZephyr:
      write_zephyr(messages, writer);
      break;
  }
  return Status();
}

}  // namespace outrigger
