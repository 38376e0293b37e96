// Chat templates: recognised by what they contain, laid out as Jinja lays them out.
#include "src/model/chat_template.h"

#include <algorithm>
#include <string>
#include <vector>

#include "tests/model/tokenizer_support.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

class TextWriter : public ChatWriter {
 public:
  void markup(std::string_view text) override { text_ += text; }
  void content(std::string_view text) override { text_ += text; }
  void bos() override { text_ += "<s>"; }
  void eos() override { text_ += "</s>"; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

TEST_CASE("Chat templates lay conversations out as their Jinja programs do") {
  const nlohmann::json golden = read_golden_json("tokenizer/chat.json");
  REQUIRE(golden.at("layouts").size() == 9);
  for (const auto& layout : golden.at("layouts")) {
    const std::string name = layout.at("name");
    CAPTURE(name);
    const std::optional<ChatTemplate> known = recognise_chat_template(layout.at("program").get<std::string>());
    REQUIRE(known);
    REQUIRE(name.starts_with(known->name));
    for (const auto& conversation : layout.at("conversations")) {
      TextWriter writer;
      REQUIRE(write_chat(*known, messages_from(conversation.at("messages")), writer).is_ok());
      REQUIRE(writer.text() == conversation.at("text").get<std::string>());
    }
  }
}

TEST_CASE("Chat templates: every name offered is one, and its own") {
  for (const char* name : Tokenizer::chat_template_names()) {
    REQUIRE(find_chat_template(name));
    REQUIRE(find_chat_template(name)->name == name);
  }
  REQUIRE_FALSE(find_chat_template("alpaca"));
}

TEST_CASE("Chat templates of other kinds are not taken for one of ours") {
  REQUIRE_FALSE(recognise_chat_template(""));
  REQUIRE_FALSE(recognise_chat_template("{{ messages }}"));
  REQUIRE_FALSE(recognise_chat_template("{{ '### Instruction:\\n' + messages[0]['content'] }}"));
  REQUIRE_FALSE(recognise_chat_template("{{ '<|user|>\\n' + message['content'] + '<|end|>\\n<|assistant|>\\n' + eos_token }}"));
}

TEST_CASE("Chat templates: Mistral's versions are told apart by their spaces") {
  const auto known =
      recognise_chat_template("{{ \" [INST] \" + message[\"content\"] + \" [/INST]\" }}{{ \" \" + message[\"content\"] + eos_token }}");
  REQUIRE(known);
  TextWriter writer;
  const std::vector<ChatMessage> turns = {{"system", "S"}, {"user", "U"}, {"assistant", "A"}, {"user", "V"}};
  REQUIRE(write_chat(*known, turns, writer).is_ok());
  REQUIRE(writer.text() == "<s> [INST] S\n\nU [/INST] A</s> [INST] V [/INST]");
}

TEST_CASE("Chat templates refuse what they cannot express, before anything is written") {
  const ChatMessage system = {"system", "s"}, user = {"user", "u"}, assistant = {"assistant", "a"};
  const std::vector<std::vector<ChatMessage>> bad_order = {{assistant}, {user, user}, {user, assistant}, {system}, {user, system, user}};
  for (const char* name : Tokenizer::chat_template_names()) {
    CAPTURE(name);
    const ChatTemplate layout = *find_chat_template(name);
    TextWriter writer;
    REQUIRE(write_chat(layout, {}, writer).code() == StatusCode::kInvalidArgument);
    REQUIRE(write_chat(layout, std::vector<ChatMessage>{user, {"tool", "x"}}, writer).code() == StatusCode::kInvalidArgument);
    REQUIRE(write_chat(layout, std::vector<ChatMessage>{{"", "x"}}, writer).code() == StatusCode::kInvalidArgument);
    const bool strict = layout.family == ChatFamily::kLlama2 || layout.family == ChatFamily::kMistral;
    for (const auto& messages : bad_order) {
      if (strict) REQUIRE(write_chat(layout, messages, writer).code() == StatusCode::kInvalidArgument);
    }
    REQUIRE(writer.text().empty());
  }
}

TEST_CASE("Chat: content stays plain text whatever it says, in every layout") {
  for (const char* vocabulary : {"llama-bpe", "llama-spm", "qwen2"}) {
    const Tokenizer& tokenizer = tokenizer_of(vocabulary);
    for (const char* name : Tokenizer::chat_template_names()) {
      CAPTURE(vocabulary, name);
      const auto specials = [&](const std::string& content) {
        const std::vector<ChatMessage> messages = {{"user", content}};
        std::vector<Token> tokens = tokenizer.chat(messages, name).value();
        std::erase_if(tokens, [&](Token token) { return !tokenizer.piece(token).value().empty(); });
        return tokens;
      };
      REQUIRE(specials("<|im_end|><|eot_id|></s><s><|endoftext|><|start_header_id|>[INST]<|im_start|>") == specials("hello"));
    }
  }
}

TEST_CASE("Chat: the names are listed when there is no such template") {
  const std::vector<ChatMessage> messages = {{"user", "hi"}};
  for (const char* name : {"", "alpaca"}) {
    const Status status = tokenizer_of("gpt-2").chat(messages, name).status();
    REQUIRE(status.code() == StatusCode::kUnsupported);
    for (const char* known : Tokenizer::chat_template_names()) REQUIRE(status.message().find(known) != std::string::npos);
  }
}

TEST_CASE("Chat: a text begins as the model expects, once") {
  const std::vector<ChatMessage> messages = {{"user", "hi"}};
  const auto beginnings = [&](const char* vocabulary, const char* name) {
    const Tokenizer& tokenizer = tokenizer_of(vocabulary);
    const std::vector<Token> tokens = tokenizer.chat(messages, name).value();
    return std::count(tokens.begin(), tokens.end(), tokenizer.bos());
  };
  REQUIRE(beginnings("llama-spm", "zephyr") == 1);
  REQUIRE(beginnings("llama-spm", "llama-2") == 1);
  REQUIRE(beginnings("llama-bpe", "llama-3") == 1);
  REQUIRE(beginnings("llama-bpe", "chatml") == 1);
  REQUIRE(beginnings("qwen2", "qwen") == 0);
  REQUIRE(tokenizer_of("qwen2").chat_template() == "qwen");
}

}  // namespace
}  // namespace outrigger
