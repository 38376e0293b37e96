// KvCache: sizes, and copying a prefix between caches of different capacity.
#include "src/model/kv_cache.h"

#include "src/device/backend.h"
#include "src/model/model_impl.h"
#include "tests/support/engines.h"

namespace outrigger::testing {
namespace {

// The cache as plain elements, all of which must come along: also the codes and scales of q8_0, as bytes.
template <typename Element>
void check_prefix(KvType type, const char* name) {
  const Model model = must(Model::open(tiny_model_path(name)));
  EngineSetup setup;
  setup.kv_type = type;
  const Plan plan = must(plan_for(model, setup));
  const std::unique_ptr<Backend> backend = must(open_backend("cpu"));
  const ModelLayout& layout = *model.impl()->layout;
  auto residency = must(TensorResidency::create(*backend, model.impl()->file.shared_source(), layout.shape, layout.weights, plan));
  KvCache small = must(KvCache::reserve(*residency, layout.config, type, 33)),
          large = must(KvCache::reserve(*residency, layout.config, type, 100));
  CHECK(small.capacity() == 48);
  CHECK(large.capacity() == 112);
  CHECK(KvCache::bytes(layout.config, type, 33, 2) == KvCache::bytes(layout.config, type, 48, 2));

  const auto elements = [](std::byte* side) { return reinterpret_cast<Element*>(side); };
  for (uint32_t layer = 0; layer < layout.config.layers; ++layer) {
    for (size_t i = 0; i < kv_head_offset(type, layout.config.head_dim, small.capacity(), layout.config.kv_heads) / sizeof(Element); ++i) {
      elements(small.keys(layer))[i] = static_cast<Element>(layer * 20000 + i);
      elements(small.values(layer))[i] = static_cast<Element>(layer * 20000 + i + 7);
    }
  }
  std::vector<std::byte> prefix(small.prefix_bytes(17)), back(prefix.size());
  must(small.copy_prefix_to(17, prefix, *residency));
  must(large.copy_prefix_from(17, prefix, *residency));
  must(large.copy_prefix_to(17, back, *residency));
  CHECK(prefix == back);
  // Position 16 of the last head and layer: keys and values of 32 positions come along.
  const auto place = [&](const KvCache& cache) {
    const size_t head = kv_head_offset(type, layout.config.head_dim, cache.capacity(), layout.config.kv_heads - 1);
    return (head + kv_block_bytes(type, layout.config.head_dim)) / sizeof(Element);
  };
  const uint32_t last = layout.config.layers - 1;
  CHECK(elements(large.values(last))[place(large)] == elements(small.values(last))[place(small)]);
  CHECK(small.prefix_bytes(0) == 0);
}

TEST_CASE("KvCache: a prefix moves to a cache of another capacity unchanged") {
  check_prefix<uint16_t>(KvType::kF16, "tied-q4_1");
  check_prefix<float>(KvType::kF32, "tied-q4_1");
  check_prefix<uint8_t>(KvType::kQ8_0, "q8_0-one-layer");
}

}  // namespace
}  // namespace outrigger::testing
