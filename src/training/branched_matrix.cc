// BranchedMatrix: every product goes through the kernels, with the activations as the packed side where a sum is over tokens.
#include "src/training/branched_matrix.h"

#include <algorithm>

namespace outrigger {
namespace {

constexpr size_t kRowsAtOnce = 256;  // of weights' gradients: a megabyte or two of a matrix

}  // namespace

void BranchedMatrix::set(std::span<const float> values, size_t rows, size_t columns, bool can_go_back, ThreadTeam& team) {
  values_.pack({values.data(), columns}, rows, columns, &team);
  if (can_go_back) turned_values_.pack_transposed({values.data(), columns}, columns, rows, &team);
}

void BranchedMatrix::set_branch(const TrainedBranch& branch, ThreadTeam& team) {
  factors_ = {branch.rank, branch.a, {}, LeasedVector<float>(branch.b.size()), {}};
  transpose({branch.b.data(), branch.rank}, rows(), branch.rank, factors_.b.data());
  factors_.a_gradient.assign(factors_.a.size(), 0);
  factors_.b_gradient.assign(factors_.b.size(), 0);
  repack(team);
}

void BranchedMatrix::repack(ThreadTeam& team) {
  const size_t rank = factors_.rank;
  const FloatRows a{factors_.a.data(), columns()}, b{factors_.b.data(), rows()};
  a_.pack(a, rank, columns(), &team);
  turned_a_.pack_transposed(a, columns(), rank, &team);
  b_.pack_transposed(b, rows(), rank, &team);
  turned_b_.pack(b, rank, rows(), &team);
}

void BranchedMatrix::forward(const FloatRows& x, size_t tokens, float* dst, size_t dst_stride, bool adds, BranchScratch& scratch,
                             ThreadTeam& team) const {
  values_.multiply(x, tokens, dst, dst_stride, adds, &team);
  if (!has_branch()) return;
  const size_t rank = factors_.rank;
  scratch.hidden.resize(tokens * rank);
  a_.multiply(x, tokens, scratch.hidden.data(), rank, false, &team);
  b_.multiply({scratch.hidden.data(), rank}, tokens, dst, dst_stride, true, &team);
}

void BranchedMatrix::backward(const FloatRows& x, const FloatRows& y_gradient, size_t tokens, float* x_gradient, bool adds,
                              BranchScratch& scratch, ThreadTeam& team) {
  turned_values_.multiply(y_gradient, tokens, x_gradient, columns(), adds, &team);
  if (weight_sink_) show_weight_gradients(x, y_gradient, tokens, scratch, team);
  if (!has_branch()) return;
  const size_t rank = factors_.rank;
  scratch.hidden.resize(tokens * rank);
  scratch.hidden_gradient.resize(tokens * rank);
  scratch.turned.resize(tokens * rank);
  a_.multiply(x, tokens, scratch.hidden.data(), rank, false, &team);
  turned_b_.multiply(y_gradient, tokens, scratch.hidden_gradient.data(), rank, false, &team);
  turned_a_.multiply({scratch.hidden_gradient.data(), rank}, tokens, x_gradient, columns(), true, &team);

  transpose({scratch.hidden_gradient.data(), rank}, tokens, rank, scratch.turned.data());
  scratch.packed.pack_transposed(x, columns(), tokens, &team);
  scratch.packed.multiply({scratch.turned.data(), tokens}, rank, factors_.a_gradient.data(), columns(), false, &team);
  transpose({scratch.hidden.data(), rank}, tokens, rank, scratch.turned.data());
  scratch.packed.pack_transposed(y_gradient, rows(), tokens, &team);
  scratch.packed.multiply({scratch.turned.data(), tokens}, rank, factors_.b_gradient.data(), rows(), false, &team);
}

void BranchedMatrix::show_weight_gradients(const FloatRows& x, const FloatRows& y_gradient, size_t tokens, BranchScratch& scratch,
                                           ThreadTeam& team) const {
  scratch.packed.pack_transposed(x, columns(), tokens, &team);
  for (size_t first = 0, some; first < rows(); first += some) {
    some = std::min(kRowsAtOnce, rows() - first);
    scratch.turned.resize(some * tokens);
    scratch.weight_gradients.resize(some * columns());
    transpose({y_gradient.data + first, y_gradient.stride}, tokens, some, scratch.turned.data());
    scratch.packed.multiply({scratch.turned.data(), tokens}, some, scratch.weight_gradients.data(), columns(), false, &team);
    weight_sink_(first, scratch.weight_gradients);
  }
}

}  // namespace outrigger
