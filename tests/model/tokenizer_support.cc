// What the tokenizer tests share.
#include "tests/model/tokenizer_support.h"

#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>

#include "src/model/tokenizer_build.h"
#include "src/model/utf8.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

GgufFile open_gguf(const std::string& path) {
  Result<std::shared_ptr<const ByteSource>> source = open_file(path);
  INFO(source.status().to_string());
  REQUIRE(source.is_ok());
  Result<GgufFile> file = GgufFile::open(source.value());
  INFO(file.status().to_string());
  REQUIRE(file.is_ok());
  return std::move(file).value();
}

std::string default_model_path() {
  if (const char* path = std::getenv("OUTRIGGER_MODEL")) return path;
  const char* cache = std::getenv("OUTRIGGER_CACHE");
  const char* home = std::getenv("HOME");
  return (cache ? std::string(cache) : std::string(home ? home : "") + "/.cache/outrigger") + "/SmolLM2-135M-Instruct.Q4_1.gguf";
}

}  // namespace

GgufFile open_vocabulary(const std::string& name) { return open_gguf(std::string(OTR_VOCABULARY_DIR) + "/" + name + ".gguf"); }

const Tokenizer& tokenizer_of(const std::string& name) {
  static std::map<std::string, Tokenizer> built;
  const auto known = built.find(name);
  if (known != built.end()) return known->second;
  Result<Tokenizer> tokenizer = build_tokenizer(open_vocabulary(name));
  INFO(tokenizer.status().to_string());
  REQUIRE(tokenizer.is_ok());
  return built.emplace(name, std::move(tokenizer).value()).first->second;
}

GgufFile open_default_model() {
  const std::string path = default_model_path();
  INFO("the default model is needed at " << path << ": run ./bootstrap model, or set OUTRIGGER_MODEL to its path");
  REQUIRE(std::ifstream(path).good());
  return open_gguf(path);
}

std::string read_golden(const std::string& path) {
  std::ifstream in(std::string(OTR_SOURCE_DIR) + "/tests/golden/" + path, std::ios::binary);
  INFO(path);
  REQUIRE(in.good());
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

nlohmann::json read_golden_json(const std::string& path) { return nlohmann::json::parse(read_golden(path)); }

std::vector<std::string> case_texts() {
  static const std::string separator = "\n__ggml_vocab_test__\n";
  const std::string all = read_golden("vocab/cases.inp");
  std::vector<std::string> texts;
  for (size_t at = 0; at < all.size();) {
    const size_t end = std::min(all.find(separator, at), all.size());
    texts.push_back(all.substr(at, end - at));
    at = end + separator.size();
  }
  return texts;
}

std::vector<std::vector<Token>> case_tokens(const std::string& name) {
  std::istringstream in(read_golden("vocab/" + name + ".out"));
  std::vector<std::vector<Token>> cases;
  for (std::string line; std::getline(in, line);) {
    std::istringstream numbers(line);
    cases.emplace_back();
    for (Token token; numbers >> token;) cases.back().push_back(token);
  }
  return cases;
}

std::vector<ChatMessage> messages_from(const nlohmann::json& messages) {
  std::vector<ChatMessage> turns;
  for (const auto& message : messages) turns.push_back({message.at("role"), message.at("content")});
  return turns;
}

std::string random_text(unsigned seed, int pieces) {
  static const std::vector<std::string> kPieces = {"the",
                                                   "house",
                                                   " of",
                                                   " cards",
                                                   "ab",
                                                   "a",
                                                   "b",
                                                   "aa",
                                                   " ",
                                                   "  ",
                                                   "    ",
                                                   "\n",
                                                   "\n\n",
                                                   "\t",
                                                   "1",
                                                   "23",
                                                   "2024",
                                                   ".",
                                                   "...",
                                                   "'s",
                                                   "'ll",
                                                   "don't",
                                                   "-",
                                                   "(",
                                                   ")",
                                                   "\"",
                                                   "\u00e9",
                                                   "\u00fc",
                                                   "\u4f60\u597d",
                                                   "\u043c\u0438\u0440",
                                                   "\U0001f999",
                                                   "\U0001f468\u200d\U0001f469",
                                                   "e\u0301",
                                                   "\u2581",
                                                   "<s>",
                                                   "<|endoftext|>",
                                                   "Qu",
                                                   "X",
                                                   "zz",
                                                   "\u3000",
                                                   "\u00bd"};
  std::mt19937 random(seed);
  std::string text;
  for (int i = 0; i < pieces; ++i) text += kPieces[random() % kPieces.size()];
  return text;
}

std::string spell_byte(int byte) {
  const auto visible = [](int b) { return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff); };
  int code = byte;
  if (!visible(byte)) {
    code = 0x100;
    for (int b = 0; b < byte; ++b) code += visible(b) ? 0 : 1;
  }
  std::string text;
  append_utf8(static_cast<uint32_t>(code), text);
  return text;
}

TestVocabulary TestVocabulary::bpe() {
  TestVocabulary vocabulary;
  for (int byte = 0; byte < 256; ++byte) vocabulary.add(spell_byte(byte));
  vocabulary.add("ab");
  vocabulary.merges = {"a b"};
  vocabulary.strings = {{"tokenizer.ggml.model", "gpt2"}, {"tokenizer.ggml.pre", "gpt-2"}};
  return vocabulary;
}

TestVocabulary TestVocabulary::spm() {
  TestVocabulary vocabulary;
  vocabulary.add("<unk>", 2);
  vocabulary.add("<s>", 3);
  vocabulary.add("</s>", 3);
  static const char* kHex = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte) vocabulary.add(std::string("<0x") + kHex[byte / 16] + kHex[byte % 16] + ">", 6);
  for (const char* text : {"\u2581", "a", "b", "\u2581a", "ab"}) vocabulary.add(text, 1, -static_cast<float>(vocabulary.tokens.size()));
  vocabulary.strings = {{"tokenizer.ggml.model", "llama"}};
  return vocabulary;
}

Token TestVocabulary::add(std::string text, int32_t type, float score) {
  tokens.push_back(std::move(text));
  types.push_back(type);
  scores.push_back(score);
  return static_cast<Token>(tokens.size()) - 1;
}

GgufFile TestVocabulary::file() const {
  GgufWriter writer;
  for (const auto& [key, value] : strings) writer.add_string(key, value);
  for (const auto& [key, value] : numbers) writer.add_i64(key, value);
  for (const auto& [key, value] : flags) writer.add_bool(key, value);
  writer.add_strings("tokenizer.ggml.tokens", tokens);
  writer.add_i32s("tokenizer.ggml.token_type", types);
  const auto model = strings.find("tokenizer.ggml.model");
  if (!ends.empty()) writer.add_i32s("tokenizer.ggml.end_token_ids", ends);
  if (model != strings.end() && model->second == "llama" && merges.empty()) {
    writer.add_floats("tokenizer.ggml.scores", scores);
  } else {
    writer.add_strings("tokenizer.ggml.merges", merges);
  }
  // The file keeps no bytes of the source once it is open.
  const std::vector<std::byte> bytes = writer.finish();
  Result<GgufFile> file = GgufFile::open(wrap_memory(bytes));
  INFO(file.status().to_string());
  REQUIRE(file.is_ok());
  return std::move(file).value();
}

Result<Tokenizer> TestVocabulary::build() const { return build_tokenizer(file()); }

}  // namespace outrigger
