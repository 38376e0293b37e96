// A float32 matrix as a NumPy file.
#include "src/tool/npy.h"

#include <fmt/format.h>

#include <bit>
#include <utility>

namespace outrigger::tool {

static_assert(std::endian::native == std::endian::little, "rows are written as they lie in memory");

std::string npy_header(uint64_t rows, uint64_t columns) {
  constexpr size_t kPrefix = 10, kAlign = 64;  // magic, version, length of the description
  std::string description = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, columns);
  const size_t padded = (kPrefix + description.size() + 1 + kAlign - 1) / kAlign * kAlign - kPrefix;
  description.resize(padded - 1, ' ');
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(padded & 0xff);
  header += static_cast<char>(padded >> 8);
  return header + description + "\n";
}

Result<NpyWriter> NpyWriter::create(const std::string& path, uint64_t rows, uint64_t columns) {
  auto file = AtomicFile::create(path);
  if (!file.is_ok()) return file.status();
  if (Status status = file->write(npy_header(rows, columns)); !status.is_ok()) return status;
  return NpyWriter(std::move(file).value());
}

Status NpyWriter::add_row(std::span<const float> row) { return file_.write({reinterpret_cast<const char*>(row.data()), row.size_bytes()}); }

}  // namespace outrigger::tool
