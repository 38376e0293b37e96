// A product on all the host's threads.
#include "src/device/host_product.h"

#include <cmath>
#include <cstring>
#include <vector>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "src/base/macros.h"
#include "src/kernels/activations.h"
#include "src/kernels/bf16_activations.h"
#include "src/kernels/matmul.h"

namespace outrigger {
namespace {

constexpr uint64_t kLineBytes = 64;

void flush_line([[maybe_unused]] const std::byte* line) {
#if defined(__x86_64__)
  _mm_clflush(line);
#endif
}

}  // namespace

void fill_weights(std::byte* data, uint64_t bytes) {
  uint32_t state = 1;
  for (uint64_t i = 0; i < bytes; ++i) {
    state = state * 1664525 + 1013904223;
    data[i] = static_cast<std::byte>((state >> 24 & 0x2e) | 0x11);
  }
}

void evict(const std::byte* data, uint64_t bytes) {
  for (uint64_t i = 0; i < bytes; i += kLineBytes) flush_line(data + i);
}

Result<HostProduct> HostProduct::create(Backend& backend, ThreadTeam& team, PackedKind kind, size_t rows, size_t columns, size_t tokens) {
  HostProduct product;
  product.kind_ = kind, product.rows_ = rows, product.columns_ = columns, product.tokens_ = tokens;
  const uint64_t float_bytes = tokens * columns * sizeof(float);
  OTR_ASSIGN(product.weights_, backend.allocate(packed_bytes(kind, rows, columns)));
  OTR_ASSIGN(product.activations_, backend.allocate(takes_int8_activations(kind) ? activation_panel_bytes(tokens, columns) : float_bytes));
  OTR_ASSIGN(product.dst_, backend.allocate(tokens * rows * sizeof(float)));
  team.run([&product](const TeamMember& member) {  // each thread touches what it will read
    size_t begin, end;
    member.share(matmul_blocks(product.rows_), 1, &begin, &end);
    const uint64_t block = packed_block_bytes(product.kind_, product.columns_);
    fill_weights(product.weights_.data() + begin * block, (end - begin) * block);
  });
  std::vector<float> src(tokens * columns);
  for (size_t i = 0; i < src.size(); ++i) src[i] = std::sin(static_cast<float>(i));
  std::byte* const activations = product.activations_.data();
  if (takes_int8_activations(kind)) {
    quantize_activations({src.data(), columns, activations, tokens, columns}, 0, tokens);
  } else if (takes_bf16_activations(kind)) {
    round_activations({src.data(), columns, activations, columns}, 0, tokens);
  } else {
    std::memcpy(activations, src.data(), float_bytes);
  }
  return product;
}

void HostProduct::run(ThreadTeam& team, int times) const {
  MatmulArgs args{};
  args.kind = kind_, args.weights = weights_.data(), args.rows = rows_, args.columns = columns_;
  if (takes_int8_activations(kind_) || takes_bf16_activations(kind_)) {
    args.panel = activations_.data();
  } else {
    args.src = reinterpret_cast<const float*>(activations_.data()), args.src_stride = columns_;
  }
  args.dst = reinterpret_cast<float*>(dst_.data()), args.dst_stride = rows_, args.tokens = tokens_;
  team.run([&args, times](const TeamMember& member) {
    size_t begin, end;
    member.share(matmul_blocks(args.rows), 1, &begin, &end);
    for (int i = 0; i < times && begin < end; ++i) matmul(args, begin, end);
  });
}

void HostProduct::evict(ThreadTeam& team) const {
  team.run([this](const TeamMember& member) {
    size_t begin, end;
    member.share(weights_.bytes() / kLineBytes, 1, &begin, &end);
    outrigger::evict(weights_.data() + begin * kLineBytes, (end - begin) * kLineBytes);
  });
}

}  // namespace outrigger
