// The texts that a model is compressed by: chunks of every one in turn.
#include "src/tool/compress_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "src/tool/files.h"
#include "src/tool/own_text.h"

namespace outrigger::tool {
namespace {

Result<std::vector<Token>> read_tokens(const std::string& file, const Tokenizer& tokenizer, uint32_t chunk_tokens) {
  const auto text = read_file(file);
  if (!text.is_ok()) return text.status();
  auto tokens = tokenizer.encode(text.value(), {.add_special = true, .parse_special = false});
  if (!tokens.is_ok() || tokens->size() >= chunk_tokens) return tokens;
  return Status(StatusCode::kInvalidArgument,
                fmt::format("the text has {} tokens, need {} for one chunk; give a longer text or a smaller --ctx", tokens->size(),
                            chunk_tokens))
      .in_file(file);
}

/// `used` of the text's chunks, evenly, and as evenly at most `held_out` of the others.
void take_chunks(const std::vector<Token>& text, size_t chunk_tokens, size_t used, size_t held_out, CompressText* taken) {
  const size_t there = text.size() / chunk_tokens;
  used = std::min(there, used);
  const auto append = [&](size_t chunk, std::vector<Token>* to) {
    const auto begin = text.begin() + static_cast<ptrdiff_t>(chunk * chunk_tokens);
    to->insert(to->end(), begin, begin + static_cast<ptrdiff_t>(chunk_tokens));
  };
  std::vector<bool> is_used(there);
  for (size_t i = 0; i < used; ++i) {
    is_used[i * there / used] = true;
    append(i * there / used, &taken->calibration);
  }
  std::vector<size_t> others;
  for (size_t i = 0; i < there; ++i) {
    if (!is_used[i]) others.push_back(i);
  }
  held_out = std::min(others.size(), held_out);
  for (size_t i = 0; i < held_out; ++i) append(others[i * others.size() / held_out], &taken->held_out);
}

}  // namespace

Result<CompressText> read_compress_text(const CompressCommandOptions& options, const Model& model) {
  const auto tokenizer = model.tokenizer();
  if (!tokenizer.is_ok()) return tokenizer.status();
  std::vector<std::vector<Token>> texts;
  for (const std::string& file : options.calibration) {
    auto tokens = read_tokens(file, tokenizer.value(), options.chunk_tokens);
    if (!tokens.is_ok()) return tokens.status();
    texts.push_back(std::move(tokens).value());
  }
  const bool writes = options.own_text || texts.empty();
  const auto of_each = [count = texts.size() + writes](uint32_t chunks) { return (chunks + count - 1) / count; };
  const size_t used = of_each(options.chunks), held_out = of_each(options.quality_chunks);
  CompressText taken;
  for (const std::vector<Token>& text : texts) take_chunks(text, options.chunk_tokens, used, held_out, &taken);
  if (!writes) return taken;
  auto own = own_text(model, options.common, static_cast<uint32_t>(used + held_out), options.chunk_tokens);
  if (!own.is_ok()) return own.status();
  const auto end_of_used = own->begin() + static_cast<ptrdiff_t>(used * options.chunk_tokens);
  taken.calibration.insert(taken.calibration.end(), own->begin(), end_of_used);
  taken.held_out.insert(taken.held_out.end(), end_of_used, own->end());
  return taken;
}

}  // namespace outrigger::tool
