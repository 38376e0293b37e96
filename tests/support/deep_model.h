// A tiny model made deeper and longer: its layers repeated, for tests that need more of them than the committed models have.
#ifndef OUTRIGGER_TESTS_SUPPORT_DEEP_MODEL_H_
#define OUTRIGGER_TESTS_SUPPORT_DEEP_MODEL_H_

#include <string>
#include <vector>

#include "tests/support/engines.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/model_bytes.h"

namespace outrigger::testing {

/// The file of a committed model whose layer i is a copy of layer i mod the original's, and which was made for a longer context.
inline std::vector<std::byte> deep_model(const std::string& name, uint32_t layers, uint32_t context_tokens) {
  const ModelBytes original(name);
  GgufWriter writer;
  uint32_t own_layers = 0;
  for (const GgufValue& value : original.file->values()) {
    if (value.key().ends_with(".block_count")) {
      own_layers = static_cast<uint32_t>(must(value.as_u64()));
      writer.add_u32(value.key(), layers);
    } else if (value.key().ends_with(".context_length")) {
      writer.add_u32(value.key(), context_tokens);
    } else if (value.type() == GgufType::kArray) {
      const auto element = static_cast<uint32_t>(value.element_type());
      const uint64_t count = value.count();
      std::vector<std::byte> raw;
      for (const auto part : {std::as_bytes(std::span(&element, 1)), std::as_bytes(std::span(&count, 1)), value.raw()})
        raw.insert(raw.end(), part.begin(), part.end());
      writer.add_raw(value.key(), static_cast<uint32_t>(value.type()), raw);
    } else {
      writer.add_raw(value.key(), static_cast<uint32_t>(value.type()), value.raw());
    }
  }
  REQUIRE(own_layers > 0);
  const auto add = [&](const GgufTensor& tensor, const std::string& as) {
    const std::byte* const bytes = original.bytes.data() + tensor.offset;
    writer.add_tensor(as, tensor.type, {tensor.dims.begin(), tensor.dims.begin() + tensor.rank}, {bytes, bytes + tensor.bytes});
  };
  for (const GgufTensor& tensor : original.file->tensors()) {
    if (!tensor.name.starts_with("blk.")) add(tensor, tensor.name);
  }
  for (uint32_t layer = 0; layer < layers; ++layer) {
    const std::string from = "blk." + std::to_string(layer % own_layers) + ".", to = "blk." + std::to_string(layer) + ".";
    for (const GgufTensor& tensor : original.file->tensors()) {
      if (tensor.name.starts_with(from)) add(tensor, to + tensor.name.substr(from.size()));
    }
  }
  return writer.finish();
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_DEEP_MODEL_H_
