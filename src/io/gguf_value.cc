// GgufValue: a metadata entry as the type that is asked for.
#include <cstring>
#include <optional>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/gguf.h"
#include "src/io/printable.h"

namespace outrigger {
namespace {

// Any of the eight integer types: two's complement in 64 bits.
struct Integer {
  uint64_t bits;
  bool is_negative;
};

template <typename T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

template <typename T>
Integer load_integer_as(const std::byte* bytes) {
  const T value = load<T>(bytes);
  return {static_cast<uint64_t>(value), value < T{0}};
}

std::optional<Integer> load_integer(GgufType type, const std::byte* bytes) {
  switch (type) {
    case GgufType::kU8:
      return load_integer_as<uint8_t>(bytes);
    case GgufType::kI8:
      return load_integer_as<int8_t>(bytes);
    case GgufType::kU16:
      return load_integer_as<uint16_t>(bytes);
    case GgufType::kI16:
      return load_integer_as<int16_t>(bytes);
    case GgufType::kU32:
      return load_integer_as<uint32_t>(bytes);
    case GgufType::kI32:
      return load_integer_as<int32_t>(bytes);
    case GgufType::kU64:
      return load_integer_as<uint64_t>(bytes);
    case GgufType::kI64:
      return load_integer_as<int64_t>(bytes);
    default:
      return std::nullopt;
  }
}

std::optional<double> load_number(GgufType type, const std::byte* bytes) {
  if (type == GgufType::kF32) return load<float>(bytes);
  if (type == GgufType::kF64) return load<double>(bytes);
  const std::optional<Integer> integer = load_integer(type, bytes);
  if (!integer) return std::nullopt;
  return integer->is_negative ? static_cast<double>(static_cast<int64_t>(integer->bits)) : static_cast<double>(integer->bits);
}

std::string_view text_at(const std::byte* bytes) { return {reinterpret_cast<const char*>(bytes) + 8, load<uint64_t>(bytes)}; }

}  // namespace

const char* gguf_type_name(GgufType type) {
  constexpr const char* kNames[] = {"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[static_cast<uint32_t>(type)];
}

uint64_t gguf_fixed_bytes(GgufType type) {
  constexpr uint64_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return kBytes[static_cast<uint32_t>(type)];
}

Status GgufValue::wrong(std::string message) const {
  return Status(StatusCode::kCorruptFile, std::move(message)).at_offset(offset_).in_file(std::string(file_)).about(printable(key_));
}

Status GgufValue::want(const char* wanted) const { return wrong(formatted("is {}; {} is needed", to_string(), wanted)); }

Status GgufValue::check_array() const {
  if (type_ != GgufType::kArray) return want("an array");
  if (bytes_.data() != nullptr) return {};
  return Status(StatusCode::kInternal, "the array was released before it was read").in_file(std::string(file_)).about(printable(key_));
}

Result<uint64_t> GgufValue::as_u64() const {
  const std::optional<Integer> integer = load_integer(type_, bytes_.data());
  if (!integer || integer->is_negative) return want("a whole number of at least 0");
  return integer->bits;
}

Result<int64_t> GgufValue::as_i64() const {
  const std::optional<Integer> integer = load_integer(type_, bytes_.data());
  if (!integer || (!integer->is_negative && integer->bits > INT64_MAX)) return want("a whole number below 2^63");
  return static_cast<int64_t>(integer->bits);
}

Result<double> GgufValue::as_f64() const {
  const std::optional<double> number = load_number(type_, bytes_.data());
  if (!number) return want("a number");
  return *number;
}

Result<bool> GgufValue::as_bool() const {
  if (type_ != GgufType::kBool) return want("a bool");
  return bytes_[0] != std::byte{0};
}

Result<std::string_view> GgufValue::as_string() const {
  if (type_ != GgufType::kString) return want("a string");
  return text_at(bytes_.data());
}

Result<std::vector<std::string_view>> GgufValue::as_strings() const {
  OTR_TRY(check_array());
  if (element_type_ != GgufType::kString) return want("an array of strings");
  std::vector<std::string_view> strings(count_);
  const std::byte* next = bytes_.data();
  for (std::string_view& text : strings) {
    text = text_at(next);
    next += 8 + text.size();
  }
  return strings;
}

Result<std::vector<float>> GgufValue::as_floats() const {
  OTR_TRY(check_array());
  const uint64_t stride = gguf_fixed_bytes(element_type_);
  if (stride == 0 || element_type_ == GgufType::kBool) return want("an array of numbers");
  std::vector<float> floats(count_);
  for (uint64_t i = 0; i < count_; ++i) floats[i] = static_cast<float>(*load_number(element_type_, bytes_.data() + i * stride));
  return floats;
}

Result<std::vector<int32_t>> GgufValue::as_i32s() const {
  OTR_TRY(check_array());
  const uint64_t stride = gguf_fixed_bytes(element_type_);
  std::vector<int32_t> numbers(count_);
  for (uint64_t i = 0; i < count_; ++i) {
    const std::optional<Integer> integer = load_integer(element_type_, bytes_.data() + i * stride);
    if (!integer) return want("an array of whole numbers");
    if (integer->is_negative ? static_cast<int64_t>(integer->bits) < INT32_MIN : integer->bits > INT32_MAX) {
      return wrong(formatted("element {} does not fit 32 bits", i));
    }
    numbers[i] = static_cast<int32_t>(integer->bits);
  }
  return numbers;
}

std::string GgufValue::to_string() const {
  switch (type_) {
    case GgufType::kArray:
      return formatted("[{} x {}]", count_, gguf_type_name(element_type_));
    case GgufType::kString:
      return formatted("\"{}\"", printable(text_at(bytes_.data()), 60));
    case GgufType::kBool:
      return bytes_[0] != std::byte{0} ? "true" : "false";
    case GgufType::kF32:
      return formatted("{}", load<float>(bytes_.data()));
    case GgufType::kF64:
      return formatted("{}", load<double>(bytes_.data()));
    default:
      break;
  }
  const Integer integer = *load_integer(type_, bytes_.data());
  return integer.is_negative ? formatted("{}", static_cast<int64_t>(integer.bits)) : formatted("{}", integer.bits);
}

}  // namespace outrigger
