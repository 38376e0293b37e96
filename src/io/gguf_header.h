// GgufHeader: writes a GGUF v3 header: for files that are made, and for a model that is presented as one file, whose weights stay where
// they are.
#ifndef OUTRIGGER_SRC_IO_GGUF_HEADER_H_
#define OUTRIGGER_SRC_IO_GGUF_HEADER_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/io/gguf.h"

namespace outrigger {

/// Entries and tensors appear in the order they were added. Keys and names are not checked: the reader does that.
class GgufHeader {
 public:
  GgufHeader();

  void add_u32(std::string_view key, uint32_t value) { add_number(key, GgufType::kU32, value, 4); }
  void add_u64(std::string_view key, uint64_t value) { add_number(key, GgufType::kU64, value, 8); }
  void add_f32(std::string_view key, float value);
  void add_f64(std::string_view key, double value);
  void add_bool(std::string_view key, bool value) { add_number(key, GgufType::kBool, value, 1); }
  void add_string(std::string_view key, std::string_view value);
  /// An entry of another file, as it stands there. Precondition: its array was not released.
  void add_value(const GgufValue& value);

  /// An array, whose elements follow one by one and have its type; nothing else may be added before end_array().
  void begin_array(std::string_view key, GgufType element_type);
  void add_element(std::string_view text);
  void add_element(int32_t number);
  void end_array();

  /// dims[0] is the row length.
  void add_tensor(std::string_view name, DType type, std::span<const uint64_t> dims, bool is_packed = false);

  /// Of the finished header, as far as it has been added.
  uint64_t bytes() const { return entries_.size() + tensors_.size(); }
  /// The header, padded to `alignment`, which general.alignment must say too: there the data begin. `places`: where each tensor's first
  /// byte is, from the start of the file, at or behind that. The object is spent afterwards.
  std::string finish(std::span<const uint64_t> places, uint64_t alignment = 1);

 private:
  void begin(std::string_view key, GgufType type);
  void add_number(std::string_view key, GgufType type, uint64_t value, size_t bytes);

  std::string entries_;  ///< behind room for magic number, version and counts
  std::string tensors_;
  std::vector<size_t> offsets_at_;  ///< in tensors_
  uint64_t entry_count_ = 0;
  size_t array_count_at_ = 0;
  uint64_t array_count_ = 0;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_IO_GGUF_HEADER_H_
