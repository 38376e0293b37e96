// A backend may keep operations together and repeat what it has seen: the bits are those of the operations one by one.
#ifndef OUTRIGGER_TESTS_CONTRACT_BACKEND_REPEAT_CONTRACT_H_
#define OUTRIGGER_TESTS_CONTRACT_BACKEND_REPEAT_CONTRACT_H_

#include <cmath>

#include "src/kernels/activations.h"
#include "tests/contract/backend_case.h"

namespace outrigger::contract {

/// A few layers' worth of operations on memory of its own. What a step computes is the next one's input.
class Layers {
 public:
  static constexpr size_t kHeads = 2, kHeadDim = 32, kWidth = kHeads * kHeadDim, kCapacity = 1040, kLayers = 3;

  explicit Layers(Backend& backend)
      : backend_(backend),
        q_(on_device<float>(backend, values())),
        keys_(zeros(kv_head_offset(KvType::kF16, kHeadDim, kCapacity, 1))),
        values_(zeros(keys_.bytes())),
        dst_(zeros(kWidth * 4)),
        gate_(zeros(2 * kWidth * 4)),
        panel_(zeros(activation_panel_bytes(1, kWidth))),
        scratch_(zeros(backend.scratch_bytes(shape()))),
        norm_weight_(on_device<float>(backend, std::vector<float>(kNormWidth, 0.7f))),
        normed_(zeros(3 * kNormWidth * 4)),
        panels_(zeros(3 * activation_panel_bytes(1, kNormWidth))),
        weights_(on_device<std::byte>(backend, std::vector<std::byte>(packed_bytes(PackedKind::kQ4_0, kWidth, kWidth), std::byte{0x3a}))) {}

  /// Apart: one operation at a time with a point behind each, which no backend keeps together.
  void step(size_t position, bool apart) const {
    const auto submit = [&](const DeviceOp& op) {
      require_ok(backend_.launch(Stream::kCompute, op));
      if (apart) must(backend_.record(Stream::kCompute));
    };
    for (size_t layer = 0; layer < kLayers; ++layer) {
      AppendKvArgs append{};
      append.k = as<float>(q_), append.v = as<float>(q_) + kHeadDim, append.k_stride = append.v_stride = kWidth;
      append.k_cache = keys_.data(), append.v_cache = values_.data();
      append.tokens = append.kv_heads = 1, append.head_dim = kHeadDim, append.capacity = kCapacity,
      append.first_position = position + layer;
      submit(append);
      submit(attention(position + layer));
      submit(QuantizeArgs{as<float>(dst_), kWidth, panel_.data(), 1, kWidth});
      submit(product(0));
      submit(product(1));
      normalize(submit);
      if (layer + 1 == kLayers) break;  // what nothing comes after
      submit(AddArgs{as<float>(gate_) + kWidth, kWidth, as<float>(q_), kWidth, 1, kWidth});
    }
    must(backend_.record(Stream::kCompute));
  }
  void finish() const { require_ok(outcome(backend_, Stream::kCompute)); }
  std::vector<std::byte> result() const {
    finish();
    std::vector<std::byte> all;
    for (const DeviceMemory* memory : {&q_, &keys_, &values_, &dst_, &gate_, &normed_, &panels_}) {
      const std::vector<std::byte> bytes = bytes_of(backend_, *memory);
      all.insert(all.end(), bytes.begin(), bytes.end());
    }
    return all;
  }

 private:
  static std::vector<float> values() {
    std::vector<float> values(kWidth);
    for (size_t i = 0; i < kWidth; ++i) values[i] = std::sin(static_cast<float>(i * i));
    return values;
  }
  DeviceMemory zeros(uint64_t bytes) const { return must(backend_.allocate(bytes)); }

  static AttentionArgs shape() {
    AttentionArgs args{};
    args.tokens = args.kv_heads = 1, args.heads = kHeads, args.head_dim = kHeadDim, args.capacity = kCapacity;
    return args;
  }
  AttentionArgs attention(size_t position) const {
    AttentionArgs args = shape();
    args.q = as<float>(q_), args.q_stride = kWidth, args.k_cache = keys_.data(), args.v_cache = values_.data();
    args.dst = as<float>(dst_), args.dst_stride = kWidth;
    args.first_position = position, args.scale = 0.2f, args.scratch = scratch_.data();
    return args;
  }
  MatmulArgs product(size_t which) const {
    MatmulArgs args{};
    args.kind = PackedKind::kQ4_0, args.weights = weights_.data(), args.rows = args.columns = kWidth, args.panel = panel_.data();
    args.dst = as<float>(gate_) + which * kWidth, args.dst_stride = 2 * kWidth, args.tokens = 1;
    return args;
  }

  // A norm with all that is made of it, and SwiGLU's middle with its panel. What was computed before is the first elements.
  template <typename Submit>
  void normalize(const Submit& submit) const {
    float *const x = as<float>(normed_), *const normed = x + kNormWidth, *const lost = normed + kNormWidth;
    std::byte *const panel = panels_.data(), *const lost_panel = panel + activation_panel_bytes(1, kNormWidth),
                *const silu_panel = lost_panel + activation_panel_bytes(1, kNormWidth);
    submit(AddArgs{as<float>(gate_), 2 * kWidth, x, kNormWidth, 1, 2 * kWidth});
    const QuantizeArgs quantize{normed, kNormWidth, panel, 1, kNormWidth};
    submit(RmsNormArgs{x, as<float>(norm_weight_), normed, 1, kNormWidth, 1e-5f});
    submit(quantize);
    submit(RemainderArgs{quantize, lost});
    submit(QuantizeArgs{lost, kNormWidth, lost_panel, 1, kNormWidth});
    submit(SiluMulArgs{normed, x, normed, kNormWidth});
    submit(QuantizeArgs{normed, kNormWidth, silu_panel, 1, kNormWidth});
  }

  static constexpr size_t kNormWidth = 576;
  Backend& backend_;
  DeviceMemory q_, keys_, values_, dst_, gate_, panel_, scratch_, norm_weight_, normed_, panels_, weights_;
};

inline bool is_equal(const Layers& a, const Layers& b) { return a.result() == b.result(); }

/// Steps at growing positions, also across the parts that attention is cut into.
inline void check_repeat_contract(const OpenBackend& open) {
  const std::unique_ptr<Backend> backend = open();
  const Layers together(*backend), apart(*backend);
  for (size_t position = 500; position < 530; ++position) {
    together.step(position, false);
    if (position % 4 == 0) together.finish();
    apart.step(position, true);
  }
  REQUIRE(is_equal(together, apart));
}

}  // namespace outrigger::contract

#endif  // OUTRIGGER_TESTS_CONTRACT_BACKEND_REPEAT_CONTRACT_H_
