// ConfigReader: reads "<architecture>.<name>" from a file's metadata with range checks; what is wrong always names the key.
#ifndef OUTRIGGER_SRC_MODEL_CONFIG_READER_H_
#define OUTRIGGER_SRC_MODEL_CONFIG_READER_H_

#include <outrigger/status.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "src/io/gguf.h"

namespace outrigger {

/// Every error is kCorruptFile and names the key, what it holds and what is needed, unless said otherwise. Borrows the file.
class ConfigReader {
 public:
  ConfigReader(const GgufFile& file, std::string architecture) : file_(file), architecture_(std::move(architecture)) {}

  /// Null when absent.
  const GgufValue* find(std::string_view name) const { return file_.find(key(name)); }

  /// kUnsupported for an array: a size that differs by layer.
  Result<uint64_t> size(std::string_view name, uint64_t least, uint64_t most) const;
  Result<uint64_t> size_or(std::string_view name, uint64_t absent, uint64_t least, uint64_t most) const;
  /// A positive number that float32 holds.
  Result<double> positive(std::string_view name) const;
  Result<double> positive_or(std::string_view name, double absent) const;
  Result<bool> flag_or(std::string_view name, bool absent) const;
  /// kUnsupported for anything but absence and `neutral`: a setting that would change the computation.
  Status only(std::string_view name, double neutral) const;
  /// The same for whole numbers above `most`.
  Status at_most(std::string_view name, uint64_t most) const;

  /// kUnsupported, about the key.
  Status unsupported(std::string_view name, std::string message) const;
  Status bad(std::string_view name, const std::string& got, const std::string& need) const;
  std::string key(std::string_view name) const;

 private:
  const GgufFile& file_;
  std::string architecture_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_CONFIG_READER_H_
