// A product on all the host's threads.
#include "src/device/host_product.h"

#include <cmath>
#include <vector>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "src/base/macros.h"
#include "src/kernels/activations.h"
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

Result<HostProduct> HostProduct::create(Backend& backend, ThreadTeam& team, size_t rows, size_t columns, size_t tokens) {
  HostProduct product;
  product.rows_ = rows, product.columns_ = columns, product.tokens_ = tokens;
  OTR_ASSIGN(product.weights_, backend.allocate(packed_bytes(kMeasuredKind, rows, columns)));
  OTR_ASSIGN(product.panel_, backend.allocate(activation_panel_bytes(tokens, columns)));
  OTR_ASSIGN(product.dst_, backend.allocate(tokens * rows * sizeof(float)));
  team.run([&product](const TeamMember& member) {  // each thread touches what it will read
    size_t begin, end;
    member.share(matmul_blocks(product.rows_), 1, &begin, &end);
    const uint64_t block = packed_block_bytes(kMeasuredKind, product.columns_);
    fill_weights(product.weights_.data() + begin * block, (end - begin) * block);
  });
  std::vector<float> src(tokens * columns);
  for (size_t i = 0; i < src.size(); ++i) src[i] = std::sin(static_cast<float>(i));
  quantize_activations({src.data(), columns, product.panel_.data(), tokens, columns}, 0, tokens);
  return product;
}

void HostProduct::run(ThreadTeam& team) const {
  const MatmulArgs args = {kMeasuredKind, weights_.data(), rows_, columns_, nullptr, 0, panel_.data(), reinterpret_cast<float*>(dst_.data()),
                           rows_,         tokens_,         false};
  team.run([&args](const TeamMember& member) {
    size_t begin, end;
    member.share(matmul_blocks(args.rows), 1, &begin, &end);
    if (begin < end) matmul(args, begin, end);
  });
}

void HostProduct::evict(ThreadTeam& team) const {
  team.run([this](const TeamMember& member) {
    size_t begin, end;
    member.share(weights_.bytes() / kLineBytes, 1, &begin, &end);
    for (size_t line = begin; line < end; ++line) flush_line(weights_.data() + line * kLineBytes);
  });
}

}  // namespace outrigger
