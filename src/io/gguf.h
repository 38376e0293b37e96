// GGUF v3: header, metadata and tensor directory of a model file. Weights are not read here.
#ifndef OUTRIGGER_SRC_IO_GGUF_H_
#define OUTRIGGER_SRC_IO_GGUF_H_

#include <outrigger/status.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/io/byte_source.h"
#include "src/tensor/dtype.h"

namespace outrigger {

/// The values are the format's.
enum class GgufType : uint32_t {
  kU8 = 0, kI8 = 1, kU16 = 2, kI16 = 3, kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9, kU64 = 10, kI64 = 11, kF64 = 12,
};

/// "u32", "string": as messages and listings print it.
const char* gguf_type_name(GgufType type);
/// Bytes of one value of the type; 0 for strings and arrays, whose length the file states.
uint64_t gguf_fixed_bytes(GgufType type);

/// Limits of what is opened; the format's own where it states one.
inline constexpr uint64_t kGgufMaxHeaderBytes = uint64_t{1} << 28;  ///< the largest vocabularies in use make about 20 MiB
inline constexpr uint64_t kGgufMaxKeyBytes = 65535;
inline constexpr uint64_t kGgufMaxNameBytes = 64;                   ///< of a tensor
inline constexpr uint64_t kGgufMaxAlignment = uint64_t{1} << 16;

/// Packed tensors (docs/formats.md): matrices as the kernels read them, src/tensor/packed.h. Their type's number is this base plus that of
/// the type they hold, so that a program which does not know them refuses them by type.
inline constexpr uint32_t kGgufPackedTypeBase = 1'000'000;
inline constexpr uint32_t kGgufPackedLayout = 1;          ///< increases with every change of packed.h's layouts
inline constexpr uint64_t kGgufPackedAlignment = 4096;    ///< of a packed file, at least: for direct reads
inline constexpr const char* kGgufPackedLayoutKey = "outrigger.packed.layout";

/// Tensors of our own types stand as bytes (I8, rows of so many bytes), so that any program opens the file; these two arrays say which they
/// are: names, and the types' numbers.
inline constexpr uint32_t kGgufOwnTypeBase = 900'000;
inline constexpr const char* kGgufOwnNamesKey = "outrigger.own.names";
inline constexpr const char* kGgufOwnTypesKey = "outrigger.own.types";

/// One metadata entry. Views point into the file object that gave it.
class GgufValue {
 public:
  GgufType type() const { return type_; }
  /// For arrays: the elements' type and their number; nested arrays are refused when the file is opened.
  GgufType element_type() const { return element_type_; }
  uint64_t count() const { return count_; }

  /// Each returns kCorruptFile, naming the key and what it is instead, when the value is not of that kind. Integers convert between
  /// widths and signs when the number fits; floats take integers too.
  Result<uint64_t> as_u64() const;
  Result<int64_t> as_i64() const;
  Result<double> as_f64() const;
  Result<bool> as_bool() const;
  Result<std::string_view> as_string() const;
  /// Whole arrays, converted; strings stay views.
  Result<std::vector<std::string_view>> as_strings() const;
  Result<std::vector<float>> as_floats() const;
  Result<std::vector<int32_t>> as_i32s() const;

  const std::string& key() const { return key_; }
  /// Of the value in the file: what orders entries as they stand there.
  uint64_t file_offset() const { return offset_; }
  /// As it stands in the file: what a copy of the entry needs besides key, types and count. Empty for an array that was released.
  std::span<const std::byte> raw() const { return bytes_; }
  /// For people: `3`, `"text"`, `[49152 x string]`, cut to about 60 characters.
  std::string to_string() const;

 private:
  friend class GgufFile;
  friend class GgufParser;
  Status wrong(std::string message) const;
  Status want(const char* wanted) const;
  Status check_array() const;

  std::string key_;
  GgufType type_ = GgufType::kU8, element_type_ = GgufType::kU8;
  uint64_t count_ = 0;
  uint64_t offset_ = 0;                  ///< of the value in the file, for messages
  std::span<const std::byte> bytes_;     ///< the value's bytes as they stand in the file
  std::string_view file_;
};

/// One tensor of the directory, checked: inside the file, whole blocks, no overlap with another.
struct GgufTensor {
  std::string name;
  DType type;                           ///< of a packed tensor, what it was packed from
  uint32_t rank;                        ///< 1 to 4
  std::array<uint64_t, 4> dims;         ///< dims[0] is the row length (the format's order); unused ones are 1
  uint64_t offset;                      ///< of the first byte, from the start of the file
  uint64_t bytes;
  bool is_packed = false;               ///< `dims` are those of the matrices it holds, each padded to whole row blocks; rank 2 or 3

  uint64_t row_elements() const { return dims[0]; }
  uint64_t rows() const { return dims[1] * dims[2] * dims[3]; }
  uint64_t elements() const { return dims[0] * rows(); }
};

/// An opened GGUF file: immutable, any number of threads may read it.
class GgufFile {
 public:
  /// Reads the header only. Every count, length and size is checked against the bytes that remain before anything is allocated for it:
  /// at most 8 x header + 1 MiB in all, linear time. Errors: kCorruptFile with offset and key or tensor; kUnsupported for another
  /// version, a big-endian file, an unknown tensor type (named), another layout of packed tensors or a header beyond kGgufMaxHeaderBytes;
  /// kIo.
  /// `most_name_bytes`: of a tensor, for headers that were made from another format.
  static Result<GgufFile> open(std::shared_ptr<const ByteSource> source, uint64_t most_name_bytes = kGgufMaxNameBytes);

  const ByteSource& source() const { return *source_; }
  std::shared_ptr<const ByteSource> shared_source() const { return source_; }
  uint64_t header_bytes() const { return header_bytes_; }

  std::span<const GgufValue> values() const { return values_; }
  /// Null when absent.
  const GgufValue* find(std::string_view key) const;
  /// kCorruptFile "key missing" when absent.
  Result<const GgufValue*> require(std::string_view key) const;

  std::span<const GgufTensor> tensors() const { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const;

  /// Frees the bytes of array values (vocabularies are megabytes) once they have been turned into something else; afterwards as_strings()
  /// and the like on an array give kInternal, scalars and strings stay.
  void release_arrays();

 private:
  friend class GgufParser;
  std::shared_ptr<const ByteSource> source_;
  std::shared_ptr<const std::vector<std::byte>> header_;
  uint64_t header_bytes_ = 0;
  std::vector<GgufValue> values_;        ///< sorted by key
  std::vector<GgufTensor> tensors_;      ///< in file order
  std::vector<uint32_t> by_name_;        ///< indices into tensors_, sorted by name
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_IO_GGUF_H_
