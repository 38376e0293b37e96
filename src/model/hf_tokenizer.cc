// The tokenizer of a Hugging Face directory: which kind, which tokens are special, which template.
#include "src/model/hf_tokenizer.h"

#include <algorithm>
#include <set>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/printable.h"
#include "src/model/hf_fields.h"
#include "src/model/hf_pretokenizer.h"
#include "src/model/hf_vocabulary.h"
#include "src/model/tokenizer_spelling.h"

namespace outrigger {
namespace {

constexpr const char* kTokenizer = "tokenizer.json";

class TokenizerImporter {
 public:
  TokenizerImporter(const HfFolder& folder, JsonValue config, JsonValue tokenizer, uint64_t tokens, GgufHeader& header)
      : folder_(folder), config_(config), tokenizer_(tokenizer), tokens_(tokens), header_(header) {}

  // What can be refused comes before anything is added.
  Status import() {
    OTR_TRY(check_model());
    OTR_ASSIGN(rules_, recognise_text_rules(tokenizer_));
    OTR_ASSIGN(frame_, recognise_frame(tokenizer_));
    OTR_ASSIGN(vocabulary_, HfVocabulary::read(tokenizer_, tokens_));
    tokens_ = vocabulary_.size();
    if (tokens_ == 0) return tokenizer_.find("model")->wrong("model.vocab", "at least one token");
    if (rules_.pre.empty()) OTR_TRY(mark_bytes());
    OTR_TRY(read_settings());
    OTR_TRY(find_special_tokens());
    OTR_TRY(find_frame());
    add_kind();
    vocabulary_.add_to(&header_);
    OTR_TRY(add_hf_merges(*tokenizer_.find("model"), vocabulary_.text_bytes(), &header_));
    add_special_tokens();
    return add_chat_template();
  }

 private:
  Status check_model() const;
  Status mark_bytes();
  Status read_settings();
  Status find_special_tokens();
  Status read_ends(const JsonText* generation);
  Status take_end(JsonValue value, const std::string& subject);
  Result<std::optional<uint32_t>> token_named(const char* key) const;
  Result<std::optional<uint32_t>> token_numbered(const char* key) const;
  Status find_frame();
  void add_kind();
  void add_special_tokens();
  Status add_chat_template();

  const HfFolder& folder_;
  const JsonValue config_, tokenizer_;
  uint64_t tokens_;
  GgufHeader& header_;
  HfTextRules rules_;
  HfFrame frame_;
  HfVocabulary vocabulary_;
  std::optional<JsonText> settings_, names_;  // tokenizer_config.json, special_tokens_map.json
  std::optional<uint32_t> bos_, eos_, unknown_;
  std::set<uint32_t> ends_;
  bool adds_bos_ = false, adds_eos_ = false;
};

Status TokenizerImporter::check_model() const {
  const std::optional<JsonValue> model = tokenizer_.find("model");
  if (!model || model->kind() != JsonKind::kObject) return (model ? *model : tokenizer_).wrong("model", "an object");
  const HfFields fields(*model, "model.");
  OTR_ASSIGN(const std::string type, fields.text_or("type", fields.find("merges") ? "BPE" : "none"));
  if (type != "BPE")
    return model->error(StatusCode::kUnsupported, "model.type",
                        formatted("the tokenizer \"{}\" is not supported; BPE is", printable(type)));
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    OTR_ASSIGN(const std::string affix, fields.text_or(name, ""));
    if (!affix.empty())
      return fields.find(name)->error(StatusCode::kUnsupported, fields.name(name), formatted("{} is not supported", fields.name(name)));
  }
  if (const std::optional<JsonValue> dropout = fields.find("dropout"); dropout && dropout->number() != 0.0) {
    return dropout->error(StatusCode::kUnsupported, "model.dropout", "merges that are left out by chance are not supported");
  }
  return fields.flag_or("byte_fallback", false).status();
}

// Of SentencePiece's kind, and so that every text has tokens.
Status TokenizerImporter::mark_bytes() {
  int bytes = 0;
  for (size_t token = 0; token < vocabulary_.size(); ++token) {
    if (vocabulary_.type(token) != TokenType::kNormal || byte_from_name(vocabulary_.text(token)) < 0) continue;
    vocabulary_.set_type(token, TokenType::kByte);
    ++bytes;
  }
  if (bytes == 256) return {};
  return tokenizer_.error(StatusCode::kUnsupported, "model.byte_fallback",
                          formatted("byte_fallback with tokens for {} of 256 bytes is not supported", bytes));
}

Status TokenizerImporter::read_settings() {
  OTR_ASSIGN(settings_, folder_.read_json("tokenizer_config.json", kHfMaxSettingsBytes));
  OTR_ASSIGN(names_, folder_.read_json("special_tokens_map.json", kHfMaxSettingsBytes));
  return {};
}

// A token's text under `key`, a string or an object with its content, in the first file that has one.
Result<std::optional<uint32_t>> TokenizerImporter::token_named(const char* key) const {
  for (const std::optional<JsonText>* file : {&settings_, &names_}) {
    const std::optional<JsonValue> value = *file ? (*file)->root().find_value(key) : std::nullopt;
    if (!value) continue;
    const std::optional<JsonValue> content = value->kind() == JsonKind::kObject ? value->find("content") : value;
    const std::optional<std::string> text = content ? content->string() : std::nullopt;
    if (!text) return value->wrong(key, "a token's text");
    const std::optional<uint32_t> token = vocabulary_.find(*text);
    if (token) return token;
    return value->error(StatusCode::kCorruptFile, key,
                        formatted("{} \"{}\" is not in the vocabulary of {}", key, printable(*text), kTokenizer));
  }
  return std::optional<uint32_t>();
}

Result<std::optional<uint32_t>> TokenizerImporter::token_numbered(const char* key) const {
  const HfFields fields(config_);
  if (!fields.find(key)) return std::optional<uint32_t>();
  OTR_ASSIGN(const uint64_t number, fields.size(key, 0, tokens_ - 1));
  return std::optional(static_cast<uint32_t>(number));
}

Status TokenizerImporter::take_end(JsonValue value, const std::string& subject) {
  const std::optional<uint64_t> number = value.whole();
  if (!number || *number >= tokens_) return value.wrong(subject, formatted("a token's number, 0 to {}", tokens_ - 1));
  ends_.insert(static_cast<uint32_t>(*number));
  return {};
}

// One number or several, of generation_config.json or else of config.json.
Status TokenizerImporter::read_ends(const JsonText* generation) {
  const std::string key = "eos_token_id";
  std::optional<JsonValue> value = generation != nullptr ? generation->root().find_value(key) : std::nullopt;
  if (!value) value = config_.find_value(key);
  if (!value) return {};
  if (value->kind() != JsonKind::kArray) return take_end(*value, key);
  return value->each_item([&](JsonValue item) { return take_end(item, key); });
}

Status TokenizerImporter::find_special_tokens() {
  OTR_ASSIGN(bos_, token_named("bos_token"));
  if (!bos_ && !(settings_ && settings_->root().find("bos_token"))) {  // null there says that there is none
    OTR_ASSIGN(bos_, token_numbered("bos_token_id"));
  }
  OTR_ASSIGN(const std::optional<JsonText> generation, folder_.read_json("generation_config.json", kHfMaxSettingsBytes));
  OTR_TRY(read_ends(generation ? &*generation : nullptr));
  OTR_ASSIGN(eos_, token_named("eos_token"));
  if (!eos_ && !ends_.empty()) eos_ = *ends_.begin();
  if (eos_) ends_.insert(*eos_);
  const HfFields model(*tokenizer_.find("model"), "model.");
  OTR_ASSIGN(const std::string unknown, model.text_or("unk_token", ""));
  if (unknown.empty()) return {};
  unknown_ = vocabulary_.find(unknown);
  if (!unknown_)
    return model.find("unk_token")
        ->error(StatusCode::kCorruptFile, "model.unk_token", formatted("unk_token \"{}\" is not in the vocabulary", printable(unknown)));
  if (rules_.pre.empty()) vocabulary_.set_type(*unknown_, TokenType::kUnknown);
  return {};
}

// What is put around a text: the two flags of tokenizer_config.json if either is there, else the post-processor.
Status TokenizerImporter::find_frame() {
  if (settings_ && (settings_->root().find_value("add_bos_token") || settings_->root().find_value("add_eos_token"))) {
    const HfFields fields(settings_->root());
    OTR_ASSIGN(adds_bos_, fields.flag_or("add_bos_token", false));
    OTR_ASSIGN(adds_eos_, fields.flag_or("add_eos_token", false));
    return {};
  }
  const auto is_token = [&](const std::string& text, std::optional<uint32_t> token) -> Status {
    if (text.empty() || (token && vocabulary_.text(*token) == text)) return {};
    return tokenizer_.find("post_processor")
        ->error(StatusCode::kUnsupported, "post_processor",
                formatted("\"{}\" around a text, which is neither its begin nor its end token, is not supported", printable(text)));
  };
  // A frame names its own token where the other files name none.
  if (!bos_ && !frame_.before.empty()) bos_ = vocabulary_.find(frame_.before);
  OTR_TRY(is_token(frame_.before, bos_));
  OTR_TRY(is_token(frame_.after, eos_));
  adds_bos_ = !frame_.before.empty();
  adds_eos_ = !frame_.after.empty();
  return {};
}

void TokenizerImporter::add_kind() {
  if (rules_.pre.empty()) {
    header_.add_string("tokenizer.ggml.model", "llama");
    header_.add_bool("tokenizer.ggml.add_space_prefix", rules_.prefixes_space);
    header_.add_bool("tokenizer.ggml.space_prefix_once", rules_.prefix_once);
    return;
  }
  header_.add_string("tokenizer.ggml.model", "gpt2");
  header_.add_string("tokenizer.ggml.pre", rules_.pre);
  header_.add_bool("tokenizer.ggml.compose_text", rules_.composes);
  const std::optional<JsonValue> whole = tokenizer_.find("model")->find_value("ignore_merges");
  header_.add_bool("tokenizer.ggml.ignore_merges", whole && whole->boolean().value_or(false));
}

void TokenizerImporter::add_special_tokens() {
  const std::pair<const char*, std::optional<uint32_t>> ids[] = {{"bos", bos_}, {"eos", eos_}, {"unknown", unknown_}};
  for (const auto& [name, id] : ids) header_.add_u32(formatted("tokenizer.ggml.{}_token_id", name), id.value_or(UINT32_MAX));
  header_.begin_array("tokenizer.ggml.end_token_ids", GgufType::kI32);
  for (const uint32_t id : ends_) header_.add_element(static_cast<int32_t>(id));
  header_.end_array();
  header_.add_bool("tokenizer.ggml.add_bos_token", adds_bos_ && bos_);
  header_.add_bool("tokenizer.ggml.add_eos_token", adds_eos_ && eos_);
}

// A file of its own wins; among several in the settings it is the one called "default".
Status TokenizerImporter::add_chat_template() {
  OTR_ASSIGN(std::optional<std::string> program, folder_.read("chat_template.jinja", kHfMaxSettingsBytes));
  const std::optional<JsonValue> setting = settings_ ? settings_->root().find_value("chat_template") : std::nullopt;
  if (!program && setting && setting->kind() == JsonKind::kArray) {
    OTR_TRY(setting->each_item([&](JsonValue item) -> Status {
      const std::optional<JsonValue> name = item.find("name"), text = item.find("template");
      if (!name || !text || !text->string()) return item.wrong("chat_template", "templates with a name");
      if (name->says("default")) program = text->string();
      return {};
    }));
  } else if (!program && setting) {
    program = setting->string();
    if (!program) return setting->wrong("chat_template", "a template");
  }
  if (program) header_.add_string("tokenizer.chat_template", *program);
  return {};
}

}  // namespace

Status add_hf_tokenizer(const HfFolder& folder, const JsonText& config, uint64_t vocabulary, GgufHeader* header, Status* no_tokenizer) {
  OTR_ASSIGN(const std::optional<JsonText> tokenizer, folder.read_json(kTokenizer, kJsonMaxBytes));
  if (!tokenizer) {
    *no_tokenizer = Status(StatusCode::kUnsupported, "the directory has no tokenizer.json").in_file(folder.path());
    return {};
  }
  GgufHeader tokens = *header;
  Status status = TokenizerImporter(folder, config.root(), tokenizer->root(), vocabulary, tokens).import();
  if (status.code() == StatusCode::kUnsupported) {
    *no_tokenizer = std::move(status);
    return {};
  }
  OTR_TRY(std::move(status));
  *header = std::move(tokens);
  return {};
}

}  // namespace outrigger
