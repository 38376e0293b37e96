// GgufFile: what is read from a well-formed file, and how values convert. Malformed files: bad_gguf_test.cc and gguf_mutation_test.cc.
#include "src/io/gguf.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "src/base/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/gguf_writer.h"

namespace outrigger {
namespace {

/// A file in memory, kept alive beside the object that views it.
struct Opened {
  std::vector<std::byte> bytes;
  GgufFile file;

  explicit Opened(const GgufWriter& writer, uint64_t alignment = 32) : bytes(writer.finish(alignment)), file(open(bytes)) {}

  static GgufFile open(std::span<const std::byte> bytes) {
    Result<GgufFile> result = GgufFile::open(wrap_memory(bytes));
    INFO(result.status().to_string());
    REQUIRE(result.is_ok());
    return std::move(result).value();
  }
  const GgufValue& operator[](std::string_view key) const {
    const GgufValue* value = file.find(key);
    REQUIRE(value != nullptr);
    return *value;
  }
};

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

TEST_CASE("GgufFile: every scalar type comes back as it was written") {
  GgufWriter writer;
  writer.add_u8("u8", 255);
  writer.add_i8("i8", -128);
  writer.add_u16("u16", 65535);
  writer.add_i16("i16", -32768);
  writer.add_u32("u32", 4294967295u);
  writer.add_i32("i32", std::numeric_limits<int32_t>::min());
  writer.add_u64("u64", std::numeric_limits<uint64_t>::max());
  writer.add_i64("i64", std::numeric_limits<int64_t>::min());
  writer.add_f32("f32", 1e-5f);
  writer.add_f64("f64", -2.5);
  writer.add_bool("yes", true);
  writer.add_bool("no", false);
  writer.add_string("text", "a \xe2\x9c\x93");
  const Opened opened(writer);

  CHECK(opened["u8"].as_u64().value() == 255);
  CHECK(opened["i8"].as_i64().value() == -128);
  CHECK(opened["u16"].as_u64().value() == 65535);
  CHECK(opened["i16"].as_i64().value() == -32768);
  CHECK(opened["u32"].as_u64().value() == 4294967295u);
  CHECK(opened["i32"].as_i64().value() == std::numeric_limits<int32_t>::min());
  CHECK(opened["u64"].as_u64().value() == std::numeric_limits<uint64_t>::max());
  CHECK(opened["i64"].as_i64().value() == std::numeric_limits<int64_t>::min());
  CHECK(opened["f32"].as_f64().value() == double{1e-5f});
  CHECK(opened["f64"].as_f64().value() == -2.5);
  CHECK(opened["yes"].as_bool().value());
  CHECK_FALSE(opened["no"].as_bool().value());
  CHECK(opened["text"].as_string().value() == "a \xe2\x9c\x93");
  CHECK(opened.file.values().size() == 13);
}

TEST_CASE("GgufFile: integers convert when the number fits, and the error names key, value and place when it does not") {
  GgufWriter writer;
  writer.add_i8("small", 5);
  writer.add_i32("negative", -1);
  writer.add_u64("huge", uint64_t{1} << 63);
  writer.add_f32("float", 2.0f);
  writer.add_string("word", "five");
  writer.add_bool("flag", true);
  const Opened opened(writer);

  CHECK(opened["small"].as_u64().value() == 5);
  CHECK(opened["small"].as_f64().value() == 5.0);
  CHECK(opened["negative"].as_f64().value() == -1.0);
  CHECK(opened["huge"].as_f64().value() == 0x1p63);

  const Status negative = opened["negative"].as_u64().status();
  CHECK(negative.code() == StatusCode::kCorruptFile);
  CHECK(negative.subject() == "negative");
  CHECK(negative.file() == "memory");
  CHECK(negative.byte_offset() > 24);
  CHECK(contains(negative.message(), "-1"));
  CHECK(opened["huge"].as_i64().status().code() == StatusCode::kCorruptFile);
  CHECK(opened["float"].as_u64().status().code() == StatusCode::kCorruptFile);
  CHECK(opened["flag"].as_u64().status().code() == StatusCode::kCorruptFile);
  CHECK(opened["small"].as_bool().status().code() == StatusCode::kCorruptFile);
  CHECK(contains(opened["word"].as_f64().status().message(), "\"five\""));
  CHECK(opened["flag"].as_string().status().code() == StatusCode::kCorruptFile);
  CHECK(opened["word"].as_strings().status().code() == StatusCode::kCorruptFile);
}

TEST_CASE("GgufFile: arrays come back whole, converted, and empty ones are empty") {
  GgufWriter writer;
  const std::vector<std::string> words = {"", "two", std::string("\0nul", 4), "\xff not UTF-8"};
  writer.add_strings("words", words);
  writer.add_strings("none", {});
  writer.add_floats("floats", std::vector<float>{1.5f, -0.0f, INFINITY});
  writer.add_i32s("ints", std::vector<int32_t>{-7, 0, 7});
  writer.add_u32s("unsigned", std::vector<uint32_t>{1, 0x80000000u});
  const Opened opened(writer);

  const auto strings = opened["words"].as_strings().value();
  CHECK(std::vector<std::string>(strings.begin(), strings.end()) == words);
  CHECK(opened["none"].as_strings().value().empty());
  CHECK(opened["floats"].as_floats().value() == std::vector<float>{1.5f, -0.0f, INFINITY});
  CHECK(opened["ints"].as_floats().value() == std::vector<float>{-7, 0, 7});
  CHECK(opened["ints"].as_i32s().value() == std::vector<int32_t>{-7, 0, 7});
  CHECK(contains(opened["unsigned"].as_i32s().status().message(), "element 1"));
  CHECK(opened["words"].as_floats().status().code() == StatusCode::kCorruptFile);
  CHECK(opened["floats"].as_i32s().status().code() == StatusCode::kCorruptFile);
  CHECK(opened["floats"].as_strings().status().code() == StatusCode::kCorruptFile);
}

// A tensor of two rows of bytes, and what the two arrays say of it.
GgufWriter with_own_type(const std::string& name, int32_t type, uint64_t row_bytes, DType stored = DType::kI8) {
  GgufWriter writer;
  writer.add_strings("outrigger.own.names", std::vector<std::string>{name});
  writer.add_i32s("outrigger.own.types", std::vector<int32_t>{type});
  writer.add_tensor("other", DType::kF32, {1}, std::vector<std::byte>(4));
  writer.add_tensor("small", stored, {row_bytes, 2}, std::vector<std::byte>(2 * row_bytes * (stored == DType::kI8 ? 1 : 4)));
  return writer;
}

TEST_CASE("GgufFile: tensors of our own types, which stand as bytes, are what the arrays say") {
  for (const auto& [type, block_bytes] : {std::pair{DType::kO2, 20u},
                                          {DType::kO3, 28u},
                                          {DType::kO4, 36u},
                                          {DType::kN3, 28u},
                                          {DType::kN4, 36u},
                                          {DType::kO2_128, 36u},
                                          {DType::kN4_128, 68u}}) {
    const Opened opened(with_own_type("small", static_cast<int32_t>(type), 3 * block_bytes));
    const GgufTensor* const tensor = opened.file.find_tensor("small");
    REQUIRE(tensor != nullptr);
    CHECK(tensor->type == type);
    CHECK((tensor->dims[0] == 3 * traits(type).block_elements && tensor->dims[1] == 2));
    CHECK(tensor->bytes == 6 * block_bytes);
    CHECK_FALSE(tensor->is_packed);
    CHECK(opened.file.find_tensor("other")->type == DType::kF32);
  }
}

TEST_CASE("GgufFile: what the arrays of our own types say wrongly is refused, naming it") {
  const auto refused = [](const GgufWriter& writer, StatusCode code, const char* naming) {
    const std::vector<std::byte> bytes = writer.finish();
    const Status status = GgufFile::open(wrap_memory(bytes)).status();
    CHECK(status.code() == code);
    CHECK(contains(status.to_string(), naming));
  };
  refused(with_own_type("missing", 900002, 60), StatusCode::kCorruptFile, "missing");
  refused(with_own_type("small", 900002, 61), StatusCode::kCorruptFile, "small");
  refused(with_own_type("small", 900002, 60, DType::kF32), StatusCode::kCorruptFile, "small");
  refused(with_own_type("small", 900005, 60), StatusCode::kUnsupported, "900005");
  refused(with_own_type("small", 900105, 60), StatusCode::kUnsupported, "900105");
  refused(with_own_type("small", 3, 60), StatusCode::kUnsupported, "small");
  refused(with_own_type("small", -1, 60), StatusCode::kUnsupported, "small");
  GgufWriter alone;
  alone.add_strings("outrigger.own.names", std::vector<std::string>{"small"});
  refused(alone, StatusCode::kCorruptFile, "outrigger.own.types");
  GgufWriter uneven;
  uneven.add_strings("outrigger.own.names", std::vector<std::string>{"a", "b"});
  uneven.add_i32s("outrigger.own.types", std::vector<int32_t>{900002});
  refused(uneven, StatusCode::kCorruptFile, "outrigger.own.names");
  GgufWriter no_strings;
  no_strings.add_i32s("outrigger.own.names", std::vector<int32_t>{1});
  no_strings.add_i32s("outrigger.own.types", std::vector<int32_t>{900002});
  refused(no_strings, StatusCode::kCorruptFile, "outrigger.own.names");
}

TEST_CASE("GgufValue: shown to people in one short line") {
  GgufWriter writer;
  writer.add_u32("number", 3);
  writer.add_f32("float", 1e-5f);
  writer.add_bool("flag", true);
  writer.add_string("text", "two\nlines\x1b[1m");
  writer.add_string("long", std::string(59, 'a') + "\xe2\x9c\x93 and more");
  writer.add_strings("array", std::vector<std::string>(300, "x"));
  const Opened opened(writer);
  CHECK(opened["number"].to_string() == "3");
  CHECK(opened["float"].to_string() == "1e-05");
  CHECK(opened["flag"].to_string() == "true");
  CHECK(opened["text"].to_string() == "\"two\\nlines\ufffd[1m\"");
  CHECK(opened["long"].to_string() == "\"" + std::string(59, 'a') + "\u2713...\"");
  CHECK(opened["array"].to_string() == "[300 x string]");
}

TEST_CASE("GgufFile: tensors keep the file's order, are found by name, and lie where the alignment puts them") {
  for (uint64_t alignment : {1, 8, 32, 4096}) {
    CAPTURE(alignment);
    GgufWriter writer;
    if (alignment != 32) writer.add_u32("general.alignment", static_cast<uint32_t>(alignment));
    const std::vector<float> values = {1, 2, 3, 4, 5, 6};
    writer.add_tensor_f32("z.weight", {3, 2}, values);
    writer.add_tensor("a.weight", DType::kQ4_1, {64, 2, 1, 3}, std::vector<std::byte>(2 * 2 * 3 * 20, std::byte{7}));
    writer.add_tensor_f32("scalar", {1}, std::vector<float>{9});
    const Opened opened(writer, alignment);

    REQUIRE(opened.file.tensors().size() == 3);
    const GgufTensor& z = opened.file.tensors()[0];
    CHECK(z.name == "z.weight");
    CHECK(z.rank == 2);
    CHECK(z.row_elements() == 3);
    CHECK(z.rows() == 2);
    CHECK(z.bytes == 24);
    CHECK(z.offset % alignment == 0);
    float third;
    std::memcpy(&third, opened.bytes.data() + z.offset + 8, sizeof third);
    CHECK(third == 3);

    const GgufTensor* a = opened.file.find_tensor("a.weight");
    REQUIRE(a == &opened.file.tensors()[1]);
    CHECK(a->elements() == 64 * 2 * 3);
    CHECK(a->bytes == 2 * 2 * 3 * 20);
    CHECK(opened.bytes[a->offset] == std::byte{7});
    CHECK(opened.file.find_tensor("scalar")->bytes == 4);
    CHECK(opened.file.find_tensor("b.weight") == nullptr);
    CHECK(opened.file.find_tensor("") == nullptr);
  }
}

TEST_CASE("GgufFile: a missing key is an error that names it") {
  GgufWriter writer;
  writer.add_u32("present", 1);
  const Opened opened(writer);
  CHECK(opened.file.require("present").value()->as_u64().value() == 1);
  const Status missing = opened.file.require("absent").status();
  CHECK(missing.code() == StatusCode::kCorruptFile);
  CHECK(missing.subject() == "absent");
  CHECK(opened.file.find("absent") == nullptr);
}

TEST_CASE("GgufFile: released arrays are gone, everything else stays") {
  GgufWriter writer;
  writer.add_string("name", "kept");
  writer.add_strings("tokens", std::vector<std::string>(1000, "token"));
  writer.add_u32("number", 42);
  Opened opened(writer);
  opened.file.release_arrays();
  opened.file.release_arrays();
  CHECK(opened["tokens"].as_strings().status().code() == StatusCode::kInternal);
  CHECK(opened["tokens"].count() == 1000);
  CHECK(opened["tokens"].to_string() == "[1000 x string]");
  CHECK(opened["name"].as_string().value() == "kept");
  CHECK(opened["number"].as_u64().value() == 42);
}

TEST_CASE("GgufFile: bytes after the last tensor, and gaps between tensors, are nobody's business") {
  GgufWriter writer;
  writer.add_tensor_f32("one", {4}, std::vector<float>(100, 1.0f));  // 400 bytes for a tensor of 16
  writer.add_tensor_f32("two", {4}, std::vector<float>(100, 2.0f));
  std::vector<std::byte> bytes = writer.finish();
  bytes.insert(bytes.end(), 777, std::byte{0xff});
  const GgufFile file = Opened::open(bytes);
  CHECK(file.tensors()[1].offset - file.tensors()[0].offset == 416);
}

TEST_CASE("GgufFile: a file without tensors needs no padding after its header") {
  GgufWriter writer;
  writer.add_u8("odd", 1);
  std::vector<std::byte> bytes = writer.finish();
  bytes.resize(24 + 8 + 3 + 4 + 1);
  const GgufFile file = Opened::open(bytes);
  CHECK(file.header_bytes() == bytes.size());
  CHECK(file.tensors().empty());
}

/// A source that claims any size and counts what is read of it; the bytes beyond `head` are zeros.
class HugeSource final : public ByteSource {
 public:
  HugeSource(std::vector<std::byte> head, uint64_t size) : head_(std::move(head)), size_(size) {}
  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return size_; }
  Status read(uint64_t offset, std::span<std::byte> dst) const override {
    bytes_read_ += dst.size();
    for (std::byte& b : dst) b = offset < head_.size() ? head_[offset++] : std::byte{0};
    return {};
  }
  Result<const std::byte*> read_direct(uint64_t, uint64_t, std::span<std::byte>) const override {
    return Status(StatusCode::kInternal, "not asked for");
  }
  uint64_t direct_staging_bytes(uint64_t) const override { return 0; }
  bool is_direct() const override { return false; }
  Status check_unchanged() const override { return {}; }
  uint64_t bytes_read() const { return bytes_read_; }

 private:
  std::string name_ = "huge";
  std::vector<std::byte> head_;
  uint64_t size_;
  mutable uint64_t bytes_read_ = 0;
};

TEST_CASE("GgufFile: of a large file only the header is read") {
  GgufWriter writer;
  writer.add_strings("tokens", std::vector<std::string>(100000, "token"));
  std::vector<std::byte> bytes = writer.finish();
  const auto source = std::make_shared<HugeSource>(bytes, 100_GiB);
  Result<GgufFile> opened = GgufFile::open(source);
  REQUIRE(opened.is_ok());
  CHECK(opened->find("tokens")->as_strings().value().size() == 100000);
  CHECK(source->bytes_read() <= 2 * bytes.size());
}

TEST_CASE("GgufFile: a header beyond the limit is refused before it is read") {
  GgufWriter writer;
  std::vector<std::byte> length(12);  // element type 0, u8, then the number of them
  const uint64_t count = uint64_t{1} << 32;
  std::memcpy(length.data() + 4, &count, sizeof count);
  writer.add_raw("big", static_cast<uint32_t>(GgufType::kArray), length);
  const auto source = std::make_shared<HugeSource>(writer.finish(), 100_GiB);
  const Status status = GgufFile::open(source).status();
  CHECK(status.code() == StatusCode::kUnsupported);
  CHECK(status.subject() == "big");
  CHECK(contains(status.message(), "256.0 MiB"));
  CHECK(source->bytes_read() <= 1_MiB);
}

TEST_CASE("GgufFile: a read error is passed on with its place") {
  class Broken final : public ByteSource {
   public:
    const std::string& name() const override { return name_; }
    uint64_t size_bytes() const override { return 1000; }
    Status read(uint64_t offset, std::span<std::byte>) const override { return Status(StatusCode::kIo, "no").at_offset(offset + 1); }
    Result<const std::byte*> read_direct(uint64_t, uint64_t, std::span<std::byte>) const override { return Status(StatusCode::kIo, "no"); }
    uint64_t direct_staging_bytes(uint64_t) const override { return 0; }
    bool is_direct() const override { return false; }
    Status check_unchanged() const override { return {}; }

   private:
    std::string name_ = "broken";
  };
  const Status status = GgufFile::open(std::make_shared<Broken>()).status();
  CHECK(status.code() == StatusCode::kIo);
  CHECK(status.byte_offset() == 1);
}

}  // namespace
}  // namespace outrigger
