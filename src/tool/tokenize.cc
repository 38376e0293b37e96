// outrigger tokenize: a text's token ids and their pieces.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "src/tool/command_line.h"
#include "src/tool/commands.h"
#include "src/tool/files.h"
#include "src/tool/loading.h"
#include "src/tool/report.h"

namespace outrigger::tool {
namespace {

struct TokenizeOptions {
  CommonOptions common;
  std::string model, text, file;
  bool special = false;
};

Status tokenize(const TokenizeOptions& options) {
  apply_log_level(options.common);
  if (Status status = check_trace(options.common, false); !status.is_ok()) return status;
  const auto model = open_model(options.model, options.common);
  if (!model.is_ok()) return model.status();
  const auto tokenizer = model.value().tokenizer();
  if (!tokenizer.is_ok()) return tokenizer.status();
  const auto text = options.file.empty() ? Result<std::string>(options.text) : read_file(options.file);
  if (!text.is_ok()) return text.status();
  Tokenizer::EncodeOptions encode;
  encode.add_special = encode.parse_special = options.special;
  const auto ids = tokenizer.value().encode(text.value(), encode);
  if (!ids.is_ok()) return ids.status();

  Json pieces = Json::array();
  for (const Token id : ids.value()) {
    auto piece = tokenizer.value().piece(id, true);
    if (!piece.is_ok()) return piece.status();
    pieces.push_back(std::move(piece).value());
  }
  if (options.common.json) return write_json({{"ids", ids.value()}, {"pieces", pieces}});
  std::string lines;
  for (size_t i = 0; i < pieces.size(); ++i) {
    lines += fmt::format("{:>7}  {}\n", ids.value()[i], pieces[i].dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  return write_out(lines);
}

}  // namespace

void add_tokenize(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("tokenize", "A text's token ids");
  auto options = std::make_shared<TokenizeOptions>();
  add_model(*command, options->model);
  CLI::Option* text = command->add_option("TEXT", options->text, "The text; after '--' it may begin with a dash")->type_name("");
  CLI::Option* file = command->add_option("-f,--file", options->file, "Its bytes from a file; - is standard input")->type_name("FILE");
  command->add_flag("--special", options->special, "Add the model's BOS/EOS, and read the text of special tokens as those tokens");
  add_common_options(*command, options->common, Shows::kOutputOnly);
  command->footer(
      "Examples:\n"
      "  outrigger tokenize model.gguf \"Hello, world\"\n"
      "  outrigger tokenize model.gguf --file book.txt --json | jq '.ids | length'\n");
  command->callback([&action, options, text, file] {
    if ((text->count() > 0) == (file->count() > 0)) throw CLI::ValidationError("need one of TEXT and --file");
    action = [options] { return tokenize(*options); };
  });
}

}  // namespace outrigger::tool
