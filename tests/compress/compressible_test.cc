// What stands in few bits already is not compressed to as many, or more.
#include <outrigger/compress.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "src/io/gguf.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"

namespace outrigger::testing {
namespace {

/// A block of 32 weights: a float16 scale, and of Q4_1 a minimum, before codes that are anything.
void fill_with_blocks(DType type, std::mt19937& random, std::span<std::byte> bytes) {
  const size_t block = traits(type).block_bytes;
  const uint16_t scale = 0x2400, minimum = 0xac00;  // 1 / 64 and -1 / 16
  for (std::byte& code : bytes) code = static_cast<std::byte>(random());
  for (size_t at = 0; at + block <= bytes.size(); at += block) {
    std::memcpy(&bytes[at], &scale, 2);
    if (type == DType::kQ4_1) std::memcpy(&bytes[at + 2], &minimum, 2);
  }
}

/// The random model of three layers with the matrices of the first `layers` in `type`: the type's number stands in the place of float32's,
/// and made-up blocks in that of its values, which take more room than they.
std::vector<std::byte> random_dense_in(DType type, uint32_t layers) {
  std::vector<std::byte> bytes = random_dense();
  const ScratchFolder scratch;
  write_test_file(scratch / "float32.gguf", bytes);
  const GgufFile file = must(GgufFile::open(must(open_file(scratch / "float32.gguf"))));
  std::mt19937 random(3);
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.rank != 2 || !tensor.name.starts_with("blk.") || tensor.name[4] - '0' >= static_cast<int>(layers)) continue;
    const auto name = std::as_bytes(std::span(tensor.name));
    const auto type_at =
        std::search(bytes.begin(), bytes.end(), name.begin(), name.end()) + static_cast<ptrdiff_t>(name.size() + 4 + 8 * tensor.rank);
    const auto number = static_cast<uint32_t>(type);
    std::memcpy(&*type_at, &number, sizeof number);
    fill_with_blocks(type, random, std::span(bytes).subspan(tensor.offset, *row_bytes(type, tensor.elements())));
  }
  return bytes;
}

Status compress_to(const Model& model, const ScratchFolder& scratch, int bits, double mixed_bits = 0) {
  std::vector<Token> text(64);
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<Token>((i * i * 31 + i * 7) % 200);
  CompressOptions options;
  options.bits = bits;
  options.mixed_bits = mixed_bits;
  options.chunk_tokens = 32;
  options.threads = 1;
  return compress_model(model, text, scratch / "small.gguf", options).status();
}

TEST_CASE("A model whose matrices have as many bits as are asked for is refused with both, and compressed to fewer") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense_in(DType::kQ4_0, 3));
  const Status status = compress_to(model, scratch, 4);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message().find("4.50 bits a weight, with scales, gain nothing: the matrices of the layers have 4.50 (Q4_0)") == 0);
  CHECK(status.file() == scratch / "model.gguf");
  CHECK(compress_to(model, scratch, 4, 4.5).code() == StatusCode::kInvalidArgument);
  CHECK(scratch.names() == std::vector<std::string>{"model.gguf"});
  must(compress_to(model, scratch, 4, 4.4));
  must(compress_to(model, scratch, 3));
}

TEST_CASE("A model is judged by all its matrices together, and five bits are more than four and scales") {
  const ScratchFolder scratch;
  must(compress_to(write_and_open(scratch, random_dense_in(DType::kQ4_1, 3)), scratch, 4));
  must(compress_to(write_and_open(scratch, random_dense_in(DType::kQ4_0, 2)), scratch, 4));
}

}  // namespace
}  // namespace outrigger::testing
