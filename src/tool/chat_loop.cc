// outrigger run --chat without a prompt: a conversation.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "src/tool/files.h"
#include "src/tool/generation.h"
#include "src/tool/interrupt.h"
#include "src/tool/loading.h"
#include "src/tool/repetition_store.h"

namespace outrigger::tool {
namespace {

// Room for a conversation of some pages, unless --ctx says otherwise.
constexpr uint32_t kContextTokens = 4096;
constexpr uint32_t kAnswerTokens = 1024;

class Conversation {
 public:
  Conversation(const Tokenizer& tokenizer, const RunOptions& options, Session session)
      : tokenizer_(tokenizer), options_(options), session_(std::move(session)), on_terminal_(isatty(STDIN_FILENO) == 1) {
    reset();
  }

  Status hold() {
    if (on_terminal_) write_err("/reset forgets the conversation, /save FILE keeps it, /quit or Ctrl-D ends it.\n");
    std::string line;
    for (;;) {
      if (on_terminal_) write_err("> ");
      if (!std::getline(std::cin, line) || line == "/quit") return Status();
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      if (line.starts_with('/')) {
        command(line);
        continue;
      }
      if (Status status = answer(line); !status.is_ok()) return status;
    }
  }

 private:
  void reset() {
    messages_.clear();
    if (!options_.system.empty()) messages_.push_back({"system", options_.system});
  }

  void command(const std::string& line) {
    constexpr std::string_view kSave = "/save ";
    if (line == "/reset") {
      reset();
    } else if (line.starts_with(kSave)) {
      const Status status = save(line.substr(kSave.size()));
      say(status.is_ok() ? "saved" : status.to_string());
    } else {
      say(fmt::format("got '{}', need /reset, /save FILE or /quit", line));
    }
  }

  Status save(const std::string& path) const {
    Json document = Json::array();
    for (const ChatMessage& message : messages_) document.push_back({{"role", message.role}, {"content", message.content}});
    return write_file(path, document.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  }

  // Only what the session does not hold yet is computed: with most templates, the new turn alone.
  Result<std::span<const Token>> rewind_to(const std::vector<Token>& tokens) {
    const std::span<const Token> held = session_.tokens();
    const auto [differs, unused] = std::mismatch(tokens.begin(), tokens.end() - 1, held.begin(), held.end());
    const auto kept = static_cast<uint32_t>(differs - tokens.begin());
    if (Status status = session_.truncate(kept); !status.is_ok()) return status;
    return std::span<const Token>(tokens).subspan(kept);
  }

  Status answer(const std::string& line) {
    messages_.push_back({"user", line});
    const auto tokens = tokenizer_.chat(messages_, options_.chat_template);
    if (!tokens.is_ok()) return tokens.status();
    if (tokens.value().size() >= session_.context_tokens()) {
      messages_.pop_back();
      say(fmt::format("the conversation would take {} of {} tokens: /reset, or start with a larger --ctx", tokens.value().size(),
                      session_.context_tokens()));
      return Status();
    }
    const auto fresh = rewind_to(tokens.value());
    if (!fresh.is_ok()) return fresh.status();
    const auto result = generate_text(session_, fresh.value(), options_, options_.new_tokens.value_or(kAnswerTokens), true);
    // Ctrl-C takes back one answer and not the conversation.
    forget_interrupt();
    if (!result.is_ok()) return result.status();
    messages_.push_back({"assistant", result.value().text});
    return write_out("\n");
  }

  Tokenizer tokenizer_;
  const RunOptions& options_;
  Session session_;
  bool on_terminal_;
  std::vector<ChatMessage> messages_;
};

}  // namespace

Status run_conversation(const Model& model, const Tokenizer& tokenizer, const RunOptions& options) {
  Workload workload;
  workload.context_tokens = options.context_tokens != 0
                                ? options.context_tokens
                                : static_cast<uint32_t>(std::min<uint64_t>(kContextTokens, model.info().context_tokens));
  workload.new_tokens = std::min(options.new_tokens.value_or(kAnswerTokens), std::max(workload.context_tokens / 2, 1u));
  workload.prompt_tokens = std::max(workload.context_tokens - workload.new_tokens, 1u);
  // A template that cannot be used is told now and not after the first line.
  const ChatMessage probe{"user", "?"};
  if (const auto tokens = tokenizer.chat({&probe, 1}, options.chat_template); !tokens.is_ok()) return tokens.status();
  CommonOptions common = options.common;
  plan_for_draft(options.future, options.sampling, &common, &workload);
  const auto engine = load_engine(model, common, workload);
  if (!engine.is_ok()) return engine.status();
  auto session = open_session(engine.value(), options);
  if (!session.is_ok()) return session.status();
  if (Status status = Conversation(tokenizer, options, std::move(session).value()).hold(); !status.is_ok()) return status;
  keep_repetition(model, engine.value());
  return write_trace(engine.value(), options.common);
}

}  // namespace outrigger::tool
