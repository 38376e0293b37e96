// Files of models that tests make, written and opened, and what is in them.
#ifndef OUTRIGGER_TESTS_SUPPORT_MODEL_FILES_H_
#define OUTRIGGER_TESTS_SUPPORT_MODEL_FILES_H_

#include <cstddef>
#include <vector>

#include "src/io/gguf.h"
#include "src/tensor/dequantize.h"
#include "tests/support/engines.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/scratch_folder.h"

namespace outrigger::testing {

/// `bytes` as the folder's model.gguf.
inline Model write_and_open(const ScratchFolder& scratch, const std::vector<std::byte>& bytes) {
  write_test_file(scratch / "model.gguf", bytes);
  return must(Model::open(scratch / "model.gguf"));
}

/// A tensor of a file as float32.
inline std::vector<float> values(const GgufFile& file, const GgufTensor& tensor) {
  std::vector<std::byte> raw(tensor.bytes);
  must(file.source().read(tensor.offset, raw));
  std::vector<float> all(tensor.elements());
  must(dequantize(tensor.type, raw.data(), all.data(), all.size()));
  return all;
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_MODEL_FILES_H_
