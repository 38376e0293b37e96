// Which operations are joined to a norm.
#include "cuda/device/joined_norm.h"

#include <initializer_list>
#include <utility>

namespace outrigger::cuda {
namespace {

struct Range {
  const void* begin;
  uint64_t bytes;
};
Range floats(const float* begin, size_t count) { return {begin, count * sizeof(float)}; }
Range of(const QuantizeArgs& args) { return {args.panel, activation_panel_bytes(args.tokens, args.width)}; }

bool is_apart(const Range& a, const Range& b) {
  const auto x = reinterpret_cast<uintptr_t>(a.begin), y = reinterpret_cast<uintptr_t>(b.begin);
  return x + a.bytes <= y || y + b.bytes <= x;
}
bool is_apart(const Range& range, std::initializer_list<Range> others) {
  for (const Range& other : others) {
    if (!is_apart(range, other)) return false;
  }
  return true;
}

bool is_same(const QuantizeArgs& a, const QuantizeArgs& b) {
  return a.src == b.src && a.src_stride == b.src_stride && a.panel == b.panel && a.tokens == b.tokens && a.width == b.width;
}

}  // namespace

// All that the first wrote, row by row, and into memory that it has nothing to do with.
bool JoinedNorm::follows(const QuantizeArgs& panel) const {
  if (panel.src_stride != panel.width) return false;
  if (const auto* const norm = std::get_if<RmsNormArgs>(&first_)) {
    const size_t count = norm->tokens * norm->width;
    return panel.src == norm->dst && panel.tokens == norm->tokens && panel.width == norm->width &&
           is_apart(of(panel), {floats(norm->src, count), floats(norm->dst, count), floats(norm->weight, norm->width)});
  }
  const auto& silu = std::get<SiluMulArgs>(first_);
  return panel.src == silu.dst && panel.tokens * panel.width == silu.count &&
         is_apart(of(panel), {floats(silu.gate, silu.count), floats(silu.up, silu.count), floats(silu.dst, silu.count)});
}

bool JoinedNorm::add_panel(const QuantizeArgs& panel) {
  if (!panel_) {
    if (!follows(panel)) return false;
    panel_ = panel;
    return true;
  }
  if (!lost_ || lost_panel_ || panel.src != lost_->remainder || panel.src_stride != panel.width || panel.tokens != panel_->tokens ||
      panel.width != panel_->width)
    return false;
  const auto& norm = std::get<RmsNormArgs>(first_);
  const size_t count = norm.tokens * norm.width;
  if (!is_apart(of(panel), {of(*panel_), floats(norm.src, count), floats(norm.dst, count), floats(norm.weight, norm.width),
                            floats(lost_->remainder, count)}))
    return false;
  lost_panel_ = panel;
  return true;
}

bool JoinedNorm::add(const DeviceOp& op) {
  if (is_empty()) {
    const auto* const norm = std::get_if<RmsNormArgs>(&op);
    const auto* const silu = std::get_if<SiluMulArgs>(&op);
    if (norm != nullptr && can_quantize_normed(*norm)) {
      const size_t count = norm->tokens * norm->width;
      if (!is_apart(floats(norm->dst, count), {floats(norm->src, count), floats(norm->weight, norm->width)})) return false;
      first_ = *norm;
    } else if (silu != nullptr) {
      first_ = *silu;
    }
    return !is_empty();
  }
  if (const auto* const panel = std::get_if<QuantizeArgs>(&op)) return add_panel(*panel);
  const auto* const lost = std::get_if<RemainderArgs>(&op);
  const auto* const norm = std::get_if<RmsNormArgs>(&first_);
  if (lost == nullptr || norm == nullptr || !panel_ || lost_ || !is_same(lost->of, *panel_)) return false;
  const size_t count = norm->tokens * norm->width;
  if (!is_apart(floats(lost->remainder, count),
                {of(*panel_), floats(norm->src, count), floats(norm->dst, count), floats(norm->weight, norm->width)}))
    return false;
  lost_ = *lost;
  return true;
}

size_t JoinedNorm::launches() const { return is_empty() ? 0 : lost_ && !lost_panel_ ? 2 : 1; }

CudaCode JoinedNorm::launch(const Launcher& launcher) {
  const JoinedNorm all = std::exchange(*this, {});
  if (all.is_empty()) return kCudaOk;
  if (const auto* const silu = std::get_if<SiluMulArgs>(&all.first_))
    return all.panel_ ? launch_silu(launcher, *silu, *all.panel_) : launch_op(launcher, *silu);
  const auto& norm = std::get<RmsNormArgs>(all.first_);
  if (!all.panel_) return launch_op(launcher, norm);
  if (all.lost_panel_) return launch_normed(launcher, {norm, *all.panel_, *all.lost_, *all.lost_panel_});
  const CudaCode code = launch_normed(launcher, {norm, *all.panel_, {}, {}});
  return code == kCudaOk && all.lost_ ? launch_op(launcher, *all.lost_) : code;
}

}  // namespace outrigger::cuda
