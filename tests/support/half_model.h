// A model of float16 weights from one of any other, for tests of files larger than what the machine's disk keeps of models.
#ifndef OUTRIGGER_TESTS_SUPPORT_HALF_MODEL_H_
#define OUTRIGGER_TESTS_SUPPORT_HALF_MODEL_H_

#include <fstream>
#include <string>

#include "src/io/gguf_header.h"
#include "src/model/model_copy.h"
#include "src/tensor/half.h"
#include "tests/support/model_files.h"

namespace outrigger::testing {

/// Writes `model` to `path` with its matrices as float16, everything else as it is.
inline void write_as_f16(const Model& model, const std::string& path) {
  constexpr uint64_t kAlignment = 4096;
  const auto aligned = [](uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; };
  const GgufFile file = must(read_header_again(*model.impl()));
  GgufHeader header;
  for (const GgufValue* value : values_in_order(file)) {
    if (value->key() != "general.alignment") header.add_value(*value);
  }
  header.add_u32("general.alignment", kAlignment);
  for (const GgufTensor& tensor : file.tensors()) {
    header.add_tensor(tensor.name, tensor.rank == 2 ? DType::kF16 : tensor.type, std::span(tensor.dims).first(tensor.rank));
  }
  std::vector<uint64_t> places;
  uint64_t next = aligned(header.bytes());
  for (const GgufTensor& tensor : file.tensors()) {
    places.push_back(next);
    next += aligned(tensor.rank == 2 ? 2 * tensor.elements() : tensor.bytes);
  }
  std::ofstream out(path, std::ios::binary);
  const std::string text = header.finish(places, kAlignment);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  for (size_t i = 0; i < places.size(); ++i) {
    const GgufTensor& tensor = file.tensors()[i];
    out.seekp(static_cast<std::streamoff>(places[i]));
    if (tensor.rank == 2) {
      std::vector<uint16_t> halves;
      for (const float value : values(file, tensor)) halves.push_back(float_to_f16(value));
      out.write(reinterpret_cast<const char*>(halves.data()), static_cast<std::streamsize>(2 * halves.size()));
    } else {
      std::vector<std::byte> raw(tensor.bytes);
      must(file.source().read(tensor.offset, raw));
      out.write(reinterpret_cast<const char*>(raw.data()), static_cast<std::streamsize>(raw.size()));
    }
  }
  REQUIRE(out.good());
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_HALF_MODEL_H_
