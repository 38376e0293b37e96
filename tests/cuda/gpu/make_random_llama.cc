// Writes a llama of random weights in our own formats, as large as asked for: make_random_llama OUT.gguf BITS [LAYERS [RANK]]
//
// The shapes are Llama 3's with 8 billion parameters: rows of 4096 and 14336, 32 heads that share 8 of keys and values, 128256 tokens. Its
// text means nothing and it has no vocabulary: it is what speed is measured on where no model can be fetched. With a RANK every matrix of a
// layer has a low-rank branch of so many components. The same bytes each time.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "src/io/gguf.h"
#include "src/io/gguf_header.h"
#include "src/tensor/half.h"

namespace outrigger {
namespace {

constexpr uint64_t kWidth = 4096, kFfn = 14336, kHeads = 32, kKvHeads = 8, kKvWidth = 1024, kVocabulary = 128256;
constexpr uint64_t kAlignment = 4096;

struct Tensor {
  std::string name;
  DType type = DType::kF32;
  uint64_t columns = 0, rows = 0;  // no rows: a norm
  bool is_own() const { return type == DType::kO2 || type == DType::kO3 || type == DType::kO4; }
  uint64_t bytes() const { return rows == 0 ? columns * sizeof(float) : rows * *row_bytes(type, columns); }
};

std::vector<Tensor> tensors_of(DType type, uint64_t layers, uint64_t rank) {
  std::vector<Tensor> all = {{"token_embd.weight", DType::kQ4_0, kWidth, kVocabulary},
                             {"output_norm.weight", DType::kF32, kWidth, 0},
                             {"output.weight", DType::kQ4_0, kWidth, kVocabulary}};
  const auto add_matrix = [&](const std::string& name, uint64_t columns, uint64_t rows) {
    all.push_back({name + ".weight", type, columns, rows});
    if (rank == 0) return;
    all.push_back({name + ".branch_a", DType::kQ4_0, columns, rank});
    all.push_back({name + ".branch_b", DType::kQ4_0, rank, rows});
  };
  for (uint64_t layer = 0; layer < layers; ++layer) {
    const std::string part = "blk." + std::to_string(layer) + ".";
    for (const char* norm : {"attn_norm", "ffn_norm"}) all.push_back({part + norm + ".weight", DType::kF32, kWidth, 0});
    add_matrix(part + "attn_q", kWidth, kWidth);
    add_matrix(part + "attn_k", kWidth, kKvWidth);
    add_matrix(part + "attn_v", kWidth, kKvWidth);
    add_matrix(part + "attn_output", kWidth, kWidth);
    add_matrix(part + "ffn_gate", kWidth, kFfn);
    add_matrix(part + "ffn_up", kWidth, kFfn);
    add_matrix(part + "ffn_down", kFfn, kWidth);
  }
  return all;
}

std::string make_header(const std::vector<Tensor>& tensors, uint64_t layers) {
  GgufHeader header;
  header.add_string("general.architecture", "llama");
  header.add_u32("general.alignment", kAlignment);
  header.add_u32("llama.block_count", static_cast<uint32_t>(layers));
  header.add_u32("llama.context_length", 8192);
  header.add_u32("llama.embedding_length", kWidth);
  header.add_u32("llama.feed_forward_length", kFfn);
  header.add_u32("llama.attention.head_count", kHeads);
  header.add_u32("llama.attention.head_count_kv", kKvHeads);
  header.add_f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  header.add_u32("llama.rope.dimension_count", kWidth / kHeads);
  header.add_f32("llama.rope.freq_base", 500000);
  header.begin_array(kGgufOwnNamesKey, GgufType::kString);
  for (const Tensor& tensor : tensors) {
    if (tensor.is_own()) header.add_element(tensor.name);
  }
  header.end_array();
  header.begin_array(kGgufOwnTypesKey, GgufType::kI32);
  for (const Tensor& tensor : tensors) {
    if (tensor.is_own()) header.add_element(static_cast<int32_t>(tensor.type));
  }
  header.end_array();
  for (const Tensor& tensor : tensors) {
    const uint64_t dims[] = {tensor.is_own() ? *row_bytes(tensor.type, tensor.columns) : tensor.columns, tensor.rows};
    header.add_tensor(tensor.name, tensor.is_own() ? DType::kI8 : tensor.type, std::span(dims).first(tensor.rows == 0 ? 1 : 2));
  }
  const auto aligned = [](uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; };
  std::vector<uint64_t> places;
  uint64_t next = aligned(header.bytes());
  for (const Tensor& tensor : tensors) {
    places.push_back(next);
    next += aligned(tensor.bytes());
  }
  return header.finish(places, kAlignment);
}

void put_half(std::vector<std::byte>& bytes, uint64_t at, float value) {
  const uint16_t half = float_to_f16(value);
  std::memcpy(bytes.data() + at, &half, sizeof half);
}

// Codes at random; scales, and minima where there are, that make the weights' mean 0 and their deviation 1 / sqrt(columns), so that
// activations keep their size from layer to layer.
void fill(const Tensor& tensor, std::mt19937_64& random, std::vector<std::byte>& bytes) {
  bytes.resize(tensor.bytes());
  if (tensor.rows == 0) {
    std::fill_n(reinterpret_cast<float*>(bytes.data()), tensor.columns, 1.0f);
    return;
  }
  for (uint64_t at = 0; at < bytes.size(); at += 8) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + at, &word, std::min<uint64_t>(8, bytes.size() - at));
  }
  const auto levels = static_cast<float>(tensor.type == DType::kO2 ? 4 : tensor.type == DType::kO3 ? 8 : 16);
  const float scale = std::sqrt(12.0f / (levels * levels - 1) / static_cast<float>(tensor.columns));
  const DTypeTraits& file = traits(tensor.type);
  for (uint64_t block = 0; block < bytes.size(); block += file.block_bytes) {
    put_half(bytes, block, scale);
    if (tensor.is_own()) put_half(bytes, block + 2, -scale * (levels - 1) / 2);
  }
}

int run(const char* path, int bits, uint64_t layers, uint64_t rank) {
  const std::vector<Tensor> tensors = tensors_of(bits == 2 ? DType::kO2 : bits == 3 ? DType::kO3 : DType::kO4, layers, rank);
  std::FILE* const file = std::fopen(path, "wb");
  if (file == nullptr) return std::perror(path), 1;
  const std::string header = make_header(tensors, layers);
  bool is_written = std::fwrite(header.data(), 1, header.size(), file) == header.size();
  std::mt19937_64 random(1);
  std::vector<std::byte> bytes;
  for (const Tensor& tensor : tensors) {
    fill(tensor, random, bytes);
    bytes.resize((bytes.size() + kAlignment - 1) / kAlignment * kAlignment);
    is_written = is_written && std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  }
  is_written = std::fclose(file) == 0 && is_written;
  if (!is_written) std::perror(path);
  return is_written ? 0 : 1;
}

}  // namespace
}  // namespace outrigger

int main(int argc, char** argv) {
  const int bits = argc > 2 ? std::atoi(argv[2]) : 0, layers = argc > 3 ? std::atoi(argv[3]) : 32, rank = argc > 4 ? std::atoi(argv[4]) : 0;
  if (bits < 2 || bits > 4 || layers < 1 || rank < 0 || rank % 32 != 0) {
    std::fprintf(stderr, "usage: make_random_llama OUT.gguf BITS [LAYERS [RANK]]; BITS 2, 3 or 4, RANK a multiple of 32\n");
    return 2;
  }
  return outrigger::run(argv[1], bits, static_cast<uint64_t>(layers), static_cast<uint64_t>(rank));
}
