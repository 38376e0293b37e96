// Norms and what is made of them, launched together.
#include "cuda/device/joined_norm.h"

#include "tests/support/catch.h"

namespace outrigger::cuda {
namespace {

constexpr size_t kTokens = 2, kWidth = 576, kCount = kTokens * kWidth;

struct Window {
  std::vector<float> memory = std::vector<float>(8 * kCount);
  std::vector<std::byte> bytes = std::vector<std::byte>(4 * activation_panel_bytes(kTokens, kWidth));

  float* floats(size_t i) { return memory.data() + i * kCount; }
  std::byte* panel(size_t i) { return bytes.data() + i * activation_panel_bytes(kTokens, kWidth); }
  RmsNormArgs norm() { return {floats(0), floats(1), floats(2), kTokens, kWidth, 1e-5f}; }
  QuantizeArgs quantize(size_t src, size_t to) { return {floats(src), kWidth, panel(to), kTokens, kWidth}; }
  RemainderArgs lost() { return {quantize(2, 0), floats(3)}; }
  SiluMulArgs silu() { return {floats(0), floats(1), floats(0), kCount}; }
};

TEST_CASE("joined norm: a norm, its panel, what that lost and the panel of it are one launch, and so is each beginning of them but one") {
  Window window;
  const std::vector<DeviceOp> row = {window.norm(), window.quantize(2, 0), window.lost(), window.quantize(3, 1)};
  for (size_t count = 1; count <= row.size(); ++count) {
    JoinedNorm joined;
    REQUIRE(joined.is_empty());
    REQUIRE(joined.launches() == 0);
    for (size_t i = 0; i < count; ++i) REQUIRE(joined.add(row[i]));
    REQUIRE_FALSE(joined.is_empty());
    REQUIRE(joined.launches() == (count == 3 ? 2 : 1));
    if (count == 4) REQUIRE_FALSE(joined.add(row[3]));
    REQUIRE_FALSE(joined.add(window.norm()));
    REQUIRE_FALSE(joined.add(AddArgs{window.floats(5), kWidth, window.floats(6), kWidth, kTokens, kWidth}));
  }
}

TEST_CASE("joined norm: SwiGLU's middle waits for its panel and nothing else") {
  Window window;
  JoinedNorm joined;
  REQUIRE(joined.add(window.silu()));
  REQUIRE_FALSE(joined.add(window.lost()));
  REQUIRE(joined.add(window.quantize(0, 0)));
  REQUIRE(joined.launches() == 1);
  REQUIRE_FALSE(joined.add(RemainderArgs{window.quantize(0, 0), window.floats(3)}));
  REQUIRE_FALSE(joined.add(window.quantize(0, 0)));
}

TEST_CASE("joined norm: what reads other floats, or writes what others read or write, is launched alone") {
  Window window;
  const auto refuses = [&](const std::vector<DeviceOp>& before, const DeviceOp& op) {
    JoinedNorm joined;
    for (const DeviceOp& each : before) REQUIRE(joined.add(each));
    return !joined.add(op);
  };
  RmsNormArgs in_place = window.norm(), odd = window.norm(), heads = window.norm();
  in_place.dst = window.floats(0);
  odd.width = 577;
  heads.width = 128;
  for (const RmsNormArgs& norm : {in_place, odd, heads}) REQUIRE(refuses({}, norm));

  QuantizeArgs shorter = window.quantize(2, 0), wider = shorter, onto_src = shorter, onto_dst = shorter, onto_weight = shorter;
  shorter.tokens = 1;
  wider.src_stride = kWidth + 1;
  onto_src.panel = reinterpret_cast<std::byte*>(window.floats(0));
  onto_dst.panel = reinterpret_cast<std::byte*>(window.floats(2) + 1);
  onto_weight.panel = reinterpret_cast<std::byte*>(window.floats(1) + kWidth - 1);
  for (const QuantizeArgs& panel : {shorter, wider, onto_src, onto_dst, onto_weight, window.quantize(0, 0)})
    REQUIRE(refuses({window.norm()}, panel));

  const std::vector<DeviceOp> panelled = {window.norm(), window.quantize(2, 0)};
  RemainderArgs other = window.lost(), onto = window.lost(), in_its_place = window.lost();
  other.of.panel = window.panel(2);
  onto.remainder = reinterpret_cast<float*>(window.panel(0));
  in_its_place.remainder = window.floats(2);
  for (const RemainderArgs& lost : {other, onto, in_its_place}) REQUIRE(refuses(panelled, lost));
  REQUIRE(refuses({window.norm()}, window.lost()));

  const std::vector<DeviceOp> lost = {window.norm(), window.quantize(2, 0), window.lost()};
  QuantizeArgs onto_panel = window.quantize(3, 0), onto_lost = window.quantize(3, 1);
  onto_lost.panel = reinterpret_cast<std::byte*>(window.floats(3));
  for (const QuantizeArgs& panel : {onto_panel, onto_lost, window.quantize(2, 1)}) REQUIRE(refuses(lost, panel));

  QuantizeArgs rows = window.quantize(0, 0), onto_up = rows;
  rows.tokens = 1;
  onto_up.panel = reinterpret_cast<std::byte*>(window.floats(1));
  for (const QuantizeArgs& panel : {rows, onto_up, window.quantize(2, 0)}) REQUIRE(refuses({window.silu()}, panel));
}

}  // namespace
}  // namespace outrigger::cuda
