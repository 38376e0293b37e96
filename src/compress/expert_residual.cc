// Residuals of experts: gated by what each token takes of a result, and put one after the other.
#include "src/compress/expert_residual.h"

#include "src/memory/leased_vector.h"

namespace outrigger {
namespace {

ExpertCorrection correction_of(const CompressedMatrix& made, ThreadTeam& team) {
  if (made.residual.share <= 0) return {};
  return [&residual = made.residual, &team](std::span<const float> src, std::span<const float> weights, float* dst) {
    residual.add_to(src, weights.size(), dst, residual.columns.rows, team, weights);
  };
}

// Memory for all is taken at once: it would be moved for every expert otherwise.
template <typename Vector>
void append(const Vector& one, uint32_t experts, Vector* stack) {
  if (stack->empty()) {
    *stack = Vector(MemoryUse::kBranches);
    stack->reserve(experts * one.size());
  }
  stack->insert(stack->end(), one.begin(), one.end());
}

}  // namespace

ExpertCorrections corrections_of(std::span<const CompressedMatrix> made, ThreadTeam& team) {
  return {correction_of(made[0], team), correction_of(made[1], team), made.size() > 2 ? correction_of(made[2], team) : ExpertCorrection()};
}

void append_residual(const SelectiveResidual& one, uint32_t experts, SelectiveResidual* stack) {
  if (one.share <= 0) return;
  stack->share = one.share;
  stack->columns.type = one.columns.type;
  stack->columns.rows = one.columns.rows;
  stack->columns.columns = one.columns.columns;
  append(one.columns.bytes, experts, &stack->columns.bytes);
  append(one.columns.norms, experts, &stack->columns.norms);
  append(one.columns.bias, experts, &stack->columns.bias);
  append(one.means, experts, &stack->means);
  stack->thresholds.push_back(one.thresholds.front());
}

}  // namespace outrigger
