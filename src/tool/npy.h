// A float32 matrix as a NumPy file, version 1.0, row by row.
#ifndef OUTRIGGER_SRC_TOOL_NPY_H_
#define OUTRIGGER_SRC_TOOL_NPY_H_

#include <outrigger/status.h>

#include <cstdint>
#include <span>
#include <string>

#include "src/tool/files.h"

namespace outrigger::tool {

/// The bytes before the data of a little-endian float32 array [rows, columns]: a multiple of 64.
std::string npy_header(uint64_t rows, uint64_t columns);

class NpyWriter {
 public:
  /// Errors: those of AtomicFile::create.
  static Result<NpyWriter> create(const std::string& path, uint64_t rows, uint64_t columns);
  Status add_row(std::span<const float> row);
  Status commit() { return file_.commit(); }

 private:
  explicit NpyWriter(AtomicFile file) : file_(std::move(file)) {}
  AtomicFile file_;
};

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_NPY_H_
