// GgufWriter: small GGUF files made in memory, for tests that need a model, a vocabulary or a deliberate mistake.
#ifndef OUTRIGGER_TESTS_SUPPORT_GGUF_WRITER_H_
#define OUTRIGGER_TESTS_SUPPORT_GGUF_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/io/gguf.h"

namespace outrigger {

/// Writes what it is told, checks nothing: keys and tensors appear in the order they were added. The alignment is only written as
/// general.alignment if the test adds that key itself.
class GgufWriter {
 public:
  void add_u8(std::string_view key, uint8_t value) { add_scalar(key, GgufType::kU8, value); }
  void add_i8(std::string_view key, int8_t value) { add_scalar(key, GgufType::kI8, value); }
  void add_u16(std::string_view key, uint16_t value) { add_scalar(key, GgufType::kU16, value); }
  void add_i16(std::string_view key, int16_t value) { add_scalar(key, GgufType::kI16, value); }
  void add_u32(std::string_view key, uint32_t value) { add_scalar(key, GgufType::kU32, value); }
  void add_i32(std::string_view key, int32_t value) { add_scalar(key, GgufType::kI32, value); }
  void add_u64(std::string_view key, uint64_t value) { add_scalar(key, GgufType::kU64, value); }
  void add_i64(std::string_view key, int64_t value) { add_scalar(key, GgufType::kI64, value); }
  void add_f32(std::string_view key, float value) { add_scalar(key, GgufType::kF32, value); }
  void add_f64(std::string_view key, double value) { add_scalar(key, GgufType::kF64, value); }
  void add_bool(std::string_view key, bool value) { add_scalar(key, GgufType::kBool, static_cast<uint8_t>(value)); }
  void add_string(std::string_view key, std::string_view value);

  void add_strings(std::string_view key, std::span<const std::string> values);
  void add_floats(std::string_view key, std::span<const float> values) { add_numbers(key, GgufType::kF32, values); }
  void add_i32s(std::string_view key, std::span<const int32_t> values) { add_numbers(key, GgufType::kI32, values); }
  void add_u32s(std::string_view key, std::span<const uint32_t> values) { add_numbers(key, GgufType::kU32, values); }

  /// An entry whose type number and bytes after it are the caller's, for what the format forbids.
  void add_raw(std::string_view key, uint32_t type, std::span<const std::byte> value);

  /// dims[0] is the row length. The bytes are written as they are, whatever the shape says.
  void add_tensor(std::string_view name, DType type, std::vector<uint64_t> dims, std::vector<std::byte> bytes);
  /// The same with float32 values.
  void add_tensor_f32(std::string_view name, std::vector<uint64_t> dims, std::span<const float> values);

  /// The file: header, padding, each tensor at a multiple of `alignment`.
  std::vector<std::byte> finish(uint64_t alignment = 32) const;

 private:
  struct Tensor {
    std::string name;
    DType type;
    std::vector<uint64_t> dims;
    std::vector<std::byte> bytes;
  };

  void begin(std::string_view key, GgufType type);
  template <typename T>
  void add_scalar(std::string_view key, GgufType type, T value) {
    begin(key, type);
    append(&entries_, std::as_bytes(std::span(&value, 1)));
  }
  template <typename T>
  void add_numbers(std::string_view key, GgufType type, std::span<const T> values) {
    begin_array(key, type, values.size());
    append(&entries_, std::as_bytes(values));
  }
  void begin_array(std::string_view key, GgufType element_type, uint64_t count);
  static void append(std::string* out, std::span<const std::byte> bytes) {
    out->append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  static void append_number(std::string* out, uint64_t value, size_t bytes);
  static void append_text(std::string* out, std::string_view text);

  uint64_t entry_count_ = 0;
  std::string entries_;
  std::vector<Tensor> tensors_;
};

/// Writes `bytes` to a new file at `path`; the test fails if that does not work.
void write_test_file(const std::string& path, std::span<const std::byte> bytes);

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_SUPPORT_GGUF_WRITER_H_
