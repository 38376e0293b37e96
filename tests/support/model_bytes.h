// A tiny model's file in memory, for tests that change it and look how far its logits move.
#ifndef OUTRIGGER_TESTS_SUPPORT_MODEL_BYTES_H_
#define OUTRIGGER_TESTS_SUPPORT_MODEL_BYTES_H_

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "src/io/byte_source.h"
#include "src/io/gguf.h"
#include "tests/support/logits_difference.h"

namespace outrigger::testing {

/// The longest context that a tiny model computes, as an engine's setup.
inline EngineSetup setup_for(const Model& model, EngineSetup setup = {}) {
  setup.context_tokens = static_cast<uint32_t>(std::min<uint64_t>(model.info().context_tokens, 256));
  return setup;
}

struct ModelBytes {
  explicit ModelBytes(const std::string& name) {
    const auto source = must(open_file(tiny_model_path(name)));
    bytes.resize(source->size_bytes());
    must(source->read(0, bytes));
    file.emplace(must(GgufFile::open(wrap_memory(bytes))));
  }
  std::byte* of(const GgufTensor& tensor) { return bytes.data() + tensor.offset; }
  /// The value of a metadata entry behind its type: where the first entry of this key, which no other's name may begin with, has it.
  std::byte* value_of(const std::string& key) {
    const auto* text = reinterpret_cast<const std::byte*>(key.data());
    const auto at = std::search(bytes.begin(), bytes.end(), text, text + key.size());
    REQUIRE(at != bytes.end());
    return &*at + key.size() + sizeof(uint32_t);
  }
  /// In float32, from the oracle `name`.
  Difference difference(const std::string& name) const {
    const Model model = must(Model::open_memory(bytes));
    return differ_from_oracle(open_engine(model, setup_for(model, reference_setup())), GoldenLogits::read(name));
  }
  std::vector<std::byte> bytes;
  std::optional<GgufFile> file;
};

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_MODEL_BYTES_H_
