// How a tokenizer comes out of a GGUF file's metadata: read, checked against itself, and laid out.
#include "src/model/tokenizer_build.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/printable.h"
#include "src/model/tokenizer_impl.h"
#include "src/model/tokenizer_spelling.h"

namespace outrigger {
namespace {

constexpr std::string_view kTokensKey = "tokenizer.ggml.tokens";
constexpr std::string_view kTypesKey = "tokenizer.ggml.token_type";
constexpr std::string_view kScoresKey = "tokenizer.ggml.scores";
constexpr std::string_view kMergesKey = "tokenizer.ggml.merges";
constexpr std::string_view kEndsKey = "tokenizer.ggml.end_token_ids";

// Reads one file's vocabulary, once. What it holds beside the result is gone when the tokenizer stands.
class TokenizerBuilder {
 public:
  explicit TokenizerBuilder(const GgufFile& file) : file_(file), impl_(std::make_shared<Tokenizer::Impl>()) {}

  Result<Tokenizer> build() {
    OTR_TRY(read_kind());
    OTR_TRY(read_texts());
    OTR_TRY(read_types());
    OTR_TRY(index_texts());
    OTR_TRY(make_vocabulary());
    // SentencePiece merges by the scores of what comes out; its copies in Hugging Face files have them as a list of merges instead.
    impl_->by_merges = impl_->pre || (file_.find(kScoresKey) == nullptr && file_.find(kMergesKey) != nullptr);
    OTR_TRY(impl_->by_merges ? make_merges() : make_ranks());
    OTR_TRY(read_special_tokens());
    make_special_texts();
    OTR_TRY(check_unknown());
    if (const GgufValue* program = file_.find("tokenizer.chat_template")) {
      OTR_ASSIGN(const std::string_view text, program->as_string());
      impl_->chat_template = recognise_chat_template(text);
    }
    return Tokenizer(std::move(impl_));
  }

 private:
  Status corrupt(std::string_view key, std::string message) const {
    return Status(StatusCode::kCorruptFile, std::move(message)).in_file(file_.source().name()).about(std::string(key));
  }
  Status unsupported(std::string_view key, std::string message) const {
    return Status(StatusCode::kUnsupported, std::move(message)).in_file(file_.source().name()).about(std::string(key));
  }

  Token find_text(std::string_view text) const {
    return by_text_.find(text, [this](Token token) { return texts_[token]; });
  }
  bool is_special(Token token) const {
    return types_[token] == TokenType::kControl || types_[token] == TokenType::kUnknown || types_[token] == TokenType::kUserDefined;
  }
  // Neither a mark nor a byte: its text is a piece of ordinary text.
  bool is_plain(Token token) const { return !is_special(token) && types_[token] != TokenType::kByte; }

  Status read_kind();
  Status read_texts();
  Status read_types();
  Status index_texts();
  Status make_vocabulary();
  Status add_byte(Token token);
  Status make_merges();
  Status make_ranks();
  Status read_special_tokens();
  Status read_id(std::string_view key, Token* id) const;
  Status check_unknown() const;
  void make_special_texts();
  void find_ends();

  const GgufFile& file_;
  std::shared_ptr<Tokenizer::Impl> impl_;
  std::vector<std::string_view> texts_;  // as the file spells them
  std::vector<TokenType> types_;
  TextIndex by_text_;
  Token end_of_turn_ = -1, end_of_message_ = -1;
};

Status TokenizerBuilder::read_kind() {
  OTR_ASSIGN(const GgufValue* value, file_.require("tokenizer.ggml.model"));
  OTR_ASSIGN(const std::string_view model, value->as_string());
  if (model == "llama") {
    impl_->kind = "spm";
    impl_->adds_bos = true;
    impl_->add_space_prefix = true;
  } else if (model == "gpt2") {
    std::string_view name = "default";
    if (const GgufValue* pre = file_.find("tokenizer.ggml.pre")) {
      OTR_ASSIGN(name, pre->as_string());
    }
    impl_->kind = formatted("bpe ({})", name);
    impl_->pre = find_pre_tokenizer(name);
    if (!impl_->pre) {
      return unsupported("tokenizer.ggml.pre",
                         formatted("the pre-tokenizer \"{}\" is not supported; gpt-2, smollm, llama-bpe and qwen2 are", name));
    }
    impl_->whole_words = impl_->adds_bos = impl_->pre == PreTokenizer::kLlama3;
  } else {
    return unsupported("tokenizer.ggml.model",
                       formatted("the tokenizer \"{}\" is not supported; gpt2 (byte-pair encoding) and llama (SentencePiece) are", model));
  }
  const auto read_flag = [this](std::string_view key, bool* flag) -> Status {
    const GgufValue* setting = file_.find(key);
    if (setting == nullptr) return Status();
    OTR_ASSIGN(*flag, setting->as_bool());
    return Status();
  };
  OTR_TRY(read_flag("tokenizer.ggml.add_bos_token", &impl_->adds_bos));
  OTR_TRY(read_flag("tokenizer.ggml.add_eos_token", &impl_->adds_eos));
  if (!impl_->pre) OTR_TRY(read_flag("tokenizer.ggml.add_space_prefix", &impl_->add_space_prefix));
  // What other engines take from the pre-tokenizer's name, or do not do.
  OTR_TRY(read_flag("tokenizer.ggml.space_prefix_once", &impl_->space_prefix_once));
  OTR_TRY(read_flag("tokenizer.ggml.ignore_merges", &impl_->whole_words));
  OTR_TRY(read_flag("tokenizer.ggml.compose_text", &impl_->composes));
  return Status();
}

Status TokenizerBuilder::read_texts() {
  OTR_ASSIGN(const GgufValue* value, file_.require(kTokensKey));
  if (value->type() == GgufType::kArray && value->count() > std::numeric_limits<Token>::max()) {
    return corrupt(kTokensKey, formatted("the vocabulary has {} tokens; at most 2^31 - 1 can be numbered", value->count()));
  }
  OTR_ASSIGN(texts_, value->as_strings());
  if (texts_.empty()) return corrupt(kTokensKey, "the vocabulary is empty; it needs at least one token");
  return Status();
}

Status TokenizerBuilder::read_types() {
  types_.assign(texts_.size(), TokenType::kNormal);
  const GgufValue* value = file_.find(kTypesKey);
  if (value == nullptr) return Status();
  OTR_ASSIGN(const std::vector<int32_t> types, value->as_i32s());
  if (types.size() != texts_.size()) {
    return corrupt(kTypesKey, formatted("there are {} token types for {} tokens", types.size(), texts_.size()));
  }
  for (size_t i = 0; i < types.size(); ++i) {
    if (types[i] < 0 || types[i] > static_cast<int32_t>(TokenType::kByte)) {
      return corrupt(kTypesKey, formatted("token {} has the type {}; types are 0 to 6", i, types[i]));
    }
    types_[i] = static_cast<TokenType>(types[i]);
  }
  return Status();
}

// Texts that end a turn whatever a converter has said about their tokens: without these a model talks on for both sides.
bool is_end_mark(std::string_view text) {
  static constexpr std::string_view kMarks[] = {"<|eot_id|>",    "<|eom_id|>",      "<|im_end|>",   "<|end|>",
                                                "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>"};
  return std::find(std::begin(kMarks), std::end(kMarks), text) != std::end(kMarks);
}

Status TokenizerBuilder::index_texts() {
  by_text_ = TextIndex(texts_.size());
  for (Token token = 0; token < static_cast<Token>(texts_.size()); ++token) {
    if (texts_[token].empty()) continue;  // stands for nothing, as often as the file likes
    const Token other = by_text_.insert(token, [this](Token t) { return texts_[t]; });
    if (other >= 0) {
      return corrupt(kTokensKey, formatted("tokens {} and {} have the same text \"{}\"", other, token, printable(texts_[token])));
    }
    if (is_end_mark(texts_[token])) types_[token] = TokenType::kControl;
  }
  return Status();
}

Status TokenizerBuilder::make_vocabulary() {
  uint64_t text_bytes = 0;  // of the file's spelling, which is never the shorter one
  for (const std::string_view text : texts_) text_bytes += text.size();
  if (text_bytes > std::numeric_limits<uint32_t>::max()) {
    return corrupt(kTokensKey, formatted("the tokens' texts have {} bytes; at most 2^32 - 1 are possible", text_bytes));
  }
  impl_->byte_tokens.fill(-1);
  impl_->vocabulary = Vocabulary(texts_.size(), text_bytes, !impl_->pre || impl_->whole_words);
  impl_->words_apart = true;
  std::string bytes;
  for (Token token = 0; token < static_cast<Token>(texts_.size()); ++token) {
    if (types_[token] == TokenType::kByte) {
      OTR_TRY(add_byte(token));
      continue;
    }
    // A text that the alphabet cannot spell, or with a space where only U+2581 occurs, is never found in a prompt; it is written as it is.
    const bool marks_only = types_[token] == TokenType::kControl || types_[token] == TokenType::kUnknown;
    const bool as_is = marks_only || (impl_->pre && types_[token] == TokenType::kUserDefined);
    const bool spelled = !as_is && (impl_->pre ? bytes_from_alphabet(texts_[token], bytes) : spaces_from_marks(texts_[token], bytes));
    impl_->vocabulary.append(spelled ? bytes : texts_[token], types_[token], spelled && is_plain(token));
    if (!spelled || !is_plain(token)) continue;
    if (impl_->pre && bytes.size() == 1) impl_->byte_tokens[static_cast<unsigned char>(bytes[0])] = token;
    if (has_inner_space(bytes)) impl_->words_apart = false;
  }
  const bool has_bytes = std::any_of(impl_->byte_tokens.begin(), impl_->byte_tokens.end(), [](Token token) { return token >= 0; });
  if (impl_->pre && !has_bytes) return corrupt(kTokensKey, "no token stands for a single byte, so no text can be tokenised");
  return Status();
}

Status TokenizerBuilder::add_byte(Token token) {
  const int byte = byte_from_name(texts_[token]);
  if (byte < 0) {
    return corrupt(kTokensKey,
                   formatted("token {} is of type byte but reads \"{}\"; it must read <0x00> to <0xFF>", token, printable(texts_[token])));
  }
  Token& slot = impl_->byte_tokens[static_cast<size_t>(byte)];
  if (slot >= 0) return corrupt(kTokensKey, formatted("tokens {} and {} both stand for the byte 0x{:02X}", slot, token, byte));
  slot = token;
  const char text = static_cast<char>(byte);
  impl_->vocabulary.append({&text, 1}, TokenType::kByte, false);
  return Status();
}

Status TokenizerBuilder::make_merges() {
  OTR_ASSIGN(const GgufValue* value, file_.require(kMergesKey));
  OTR_ASSIGN(const std::vector<std::string_view> merges, value->as_strings());
  if (merges.size() > std::numeric_limits<int32_t>::max()) {
    return corrupt(kMergesKey, formatted("there are {} merges; at most 2^31 - 1 can be ranked", merges.size()));
  }
  std::vector<MergeTable::Rule> rules;
  rules.reserve(merges.size());
  std::string joined;
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string_view merge = merges[i];
    const size_t space = merge.find(' ', 1);  // the first part is at least one character, which may not be a space in any vocabulary
    if (space == std::string_view::npos || space + 1 == merge.size()) {
      return corrupt(kMergesKey, formatted("merge {} reads \"{}\"; it must be two tokens with a space between them", i, printable(merge)));
    }
    const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
    joined.assign(left).append(right);
    const MergeTable::Rule rule = {find_text(left), find_text(right), find_text(joined)};
    if (rule.left < 0 || rule.right < 0 || rule.merged < 0) {
      const std::string_view missing = rule.left < 0 ? left : rule.right < 0 ? right : std::string_view(joined);
      return corrupt(kMergesKey, formatted("merge {} needs the token \"{}\", which is not in the vocabulary", i, printable(missing)));
    }
    // Marks come from templates and never from text, so what would merge into one stays in pieces.
    if (!impl_->vocabulary.is_hidden(rule.merged)) rules.push_back(rule);
  }
  impl_->merges = MergeTable(rules);
  return Status();
}

// Floats as integers in the opposite order: the highest score is the lowest rank.
uint32_t rank_of_score(float score) {
  const uint32_t bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 becomes +0, its equal
  const uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return ~ascending;
}

Status TokenizerBuilder::make_ranks() {
  OTR_ASSIGN(const GgufValue* value, file_.require(kScoresKey));
  OTR_ASSIGN(const std::vector<float> scores, value->as_floats());
  if (scores.size() != texts_.size()) {
    return corrupt(kScoresKey, formatted("there are {} scores for {} tokens", scores.size(), texts_.size()));
  }
  impl_->ranks.reserve(scores.size());
  for (size_t i = 0; i < scores.size(); ++i) {
    if (std::isnan(scores[i])) return corrupt(kScoresKey, formatted("the score of token {} is not a number", i));
    impl_->ranks.push_back(rank_of_score(scores[i]));
  }
  return Status();
}

Status TokenizerBuilder::read_id(std::string_view key, Token* id) const {
  const GgufValue* value = file_.find(key);
  if (value == nullptr) return Status();
  OTR_ASSIGN(const int64_t given, value->as_i64());
  if (given == -1 || given == 0xffffffff) return *id = -1, Status();  // how converters write "none"
  if (given < 0 || given >= static_cast<int64_t>(texts_.size())) {
    return corrupt(key, formatted("token {} is not in the vocabulary, which has 0 to {}", given, texts_.size() - 1));
  }
  *id = static_cast<Token>(given);
  return Status();
}

Status TokenizerBuilder::read_special_tokens() {
  if (!impl_->pre) {
    // SentencePiece's own numbers, which the oldest files leave out.
    const auto usual = [this](Token token, std::string_view text) { return find_text(text) == token ? token : -1; };
    impl_->unknown = usual(0, "<unk>");
    impl_->bos = usual(1, "<s>");
    impl_->eos = usual(2, "</s>");
  }
  Token unused = -1;  // checked all the same: a number outside the vocabulary is a broken file
  const std::pair<std::string_view, Token*> ids[] = {
      {"tokenizer.ggml.bos_token_id", &impl_->bos},         {"tokenizer.ggml.eos_token_id", &impl_->eos},
      {"tokenizer.ggml.eot_token_id", &end_of_turn_},       {"tokenizer.ggml.eom_token_id", &end_of_message_},
      {"tokenizer.ggml.unknown_token_id", &impl_->unknown}, {"tokenizer.ggml.seperator_token_id", &unused},
      {"tokenizer.ggml.padding_token_id", &unused},         {"tokenizer.ggml.mask_token_id", &unused},
  };
  for (const auto& [key, id] : ids) OTR_TRY(read_id(key, id));
  if (const GgufValue* value = file_.find(kEndsKey)) {
    OTR_ASSIGN(impl_->ends, value->as_i32s());
    for (const Token end : impl_->ends) {
      if (end < 0 || end >= static_cast<Token>(texts_.size())) {
        return corrupt(kEndsKey, formatted("token {} is not in the vocabulary, which has 0 to {}", end, texts_.size() - 1));
      }
    }
  }
  impl_->adds_bos = impl_->adds_bos && impl_->bos >= 0;
  impl_->adds_eos = impl_->adds_eos && impl_->eos >= 0;
  return Status();
}

void TokenizerBuilder::find_ends() {
  std::vector<Token>& ends = impl_->ends;
  for (const Token token : {impl_->eos, end_of_turn_, end_of_message_}) {
    if (token >= 0) ends.push_back(token);
  }
  for (Token token = 0; token < static_cast<Token>(texts_.size()); ++token) {
    if (types_[token] == TokenType::kControl && (is_end_mark(texts_[token]) || texts_[token] == "</s>")) ends.push_back(token);
  }
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
}

// User-defined tokens come in two sorts: plain text that was added to a vocabulary, such as runs of spaces, is recognised everywhere; what
// looks like a mark (<think>, [TOOL]) could be used by a prompt's author to speak for the template, and is treated as one.
bool looks_like_mark(std::string_view text) {
  return text.size() > 2 && ((text.front() == '<' && text.back() == '>') || (text.front() == '[' && text.back() == ']'));
}

void TokenizerBuilder::make_special_texts() {
  std::vector<Token> marks, always;
  for (Token token = 0; token < static_cast<Token>(texts_.size()); ++token) {
    if (!is_special(token)) continue;
    marks.push_back(token);
    if (types_[token] == TokenType::kUserDefined && !looks_like_mark(texts_[token])) always.push_back(token);
  }
  impl_->marks = SpecialTexts(impl_->vocabulary, marks);
  impl_->always = SpecialTexts(impl_->vocabulary, always);
  find_ends();
}

Status TokenizerBuilder::check_unknown() const {
  if (impl_->pre || impl_->unknown >= 0) return Status();
  const auto missing = std::find(impl_->byte_tokens.begin(), impl_->byte_tokens.end(), -1);
  if (missing == impl_->byte_tokens.end()) return Status();
  return corrupt(kTokensKey, formatted("no token stands for the byte 0x{:02X}, and none for the unknown: some text could not be tokenised",
                                       missing - impl_->byte_tokens.begin()));
}

}  // namespace

Result<Tokenizer> build_tokenizer(const GgufFile& file) { return TokenizerBuilder(file).build(); }

}  // namespace outrigger
