// Pupils: balanced, moved, rounded, shown to their matrices.
#include "src/training/pupils.h"

#include <cmath>
#include <utility>

#include "src/base/macros.h"

namespace outrigger {
namespace {

LeasedVector<float> balance(const TrainedBranch& branch) {
  const size_t columns = branch.a.size() / branch.rank, rows = branch.b.size() / branch.rank;
  LeasedVector<float> scales(branch.rank, 1);
  for (size_t j = 0; j < branch.rank; ++j) {
    double of_a = 0, of_b = 0;
    for (size_t c = 0; c < columns; ++c) of_a += static_cast<double>(branch.a[j * columns + c]) * branch.a[j * columns + c];
    for (size_t r = 0; r < rows; ++r) of_b += static_cast<double>(branch.b[r * branch.rank + j]) * branch.b[r * branch.rank + j];
    if (of_a > 0 && of_b > 0)
      scales[j] =
          static_cast<float>(std::sqrt(std::sqrt(of_a / static_cast<double>(columns)) / std::sqrt(of_b / static_cast<double>(rows))));
  }
  return scales;
}

void rescale(TrainedBranch* branch, const LeasedVector<float>& scales, bool is_back) {
  const size_t columns = branch->a.size() / branch->rank;
  for (size_t i = 0; i < branch->a.size(); ++i) branch->a[i] *= is_back ? scales[i / columns] : 1 / scales[i / columns];
  for (size_t i = 0; i < branch->b.size(); ++i) branch->b[i] *= is_back ? 1 / scales[i % branch->rank] : scales[i % branch->rank];
}

}  // namespace

void Pupils::add(const TrainedBranch& branch, BranchedMatrix* matrix) {
  TrainedBranch balanced = branch;
  LeasedVector<float> scales = balance(branch);
  rescale(&balanced, scales, false);
  matrix->set_branch(balanced, team_);
  const TrainedFactors& factors = matrix->factors();
  pupils_.push_back({matrix, Adam(factors.a.size()), Adam(factors.b.size()), factors.a, factors.b, std::move(scales), std::move(balanced)});
}

Status Pupils::step(float rate) {
  for (Pupil& pupil : pupils_) {
    const TrainedFactors& factors = pupil.matrix->factors();
    pupil.adam_a.step(pupil.a, factors.a_gradient, rate, team_);
    pupil.adam_b.step(pupil.b, factors.b_gradient, rate, team_);
    OTR_TRY(show(&pupil));
  }
  return {};
}

// In place: what training may allocate is counted beforehand.
Status Pupils::retreat(std::span<const TrainedBranch> first, float part) {
  const auto leave = [part](float was, float* is) { *is = was + part * (*is - was); };
  for (size_t i = 0; i < pupils_.size(); ++i) {
    Pupil& pupil = pupils_[i];
    const size_t rows = pupil.matrix->rows(), rank = pupil.scales.size(), columns = pupil.a.size() / rank;
    for (size_t j = 0; j < rank; ++j) {
      for (size_t c = 0; c < columns; ++c) leave(first[i].a[j * columns + c] / pupil.scales[j], &pupil.a[j * columns + c]);
      for (size_t r = 0; r < rows; ++r) leave(first[i].b[r * rank + j] * pupil.scales[j], &pupil.b[j * rows + r]);
    }
    OTR_TRY(show(&pupil));
  }
  return {};
}

void Pupils::give_back(size_t i, TrainedBranch* branch) const { restore(pupils_[i], branch); }

void Pupils::restore(const Pupil& pupil, TrainedBranch* branch) {
  const size_t rows = pupil.matrix->rows();
  branch->a = pupil.a;
  transpose({pupil.b.data(), rows}, branch->rank, rows, branch->b.data());
  rescale(branch, pupil.scales, true);
}

// As they are, or as storing would make them.
Status Pupils::show(Pupil* pupil) {
  TrainedFactors& factors = pupil->matrix->factors();
  if (!round_) {
    factors.a = pupil->a;
    factors.b = pupil->b;
  } else {
    TrainedBranch& rounded = pupil->rounded;
    restore(*pupil, &rounded);
    OTR_TRY(round_(&rounded));
    rescale(&rounded, pupil->scales, false);
    factors.a = rounded.a;
    transpose({rounded.b.data(), rounded.rank}, pupil->matrix->rows(), rounded.rank, factors.b.data());
  }
  pupil->matrix->repack(team_);
  return {};
}

}  // namespace outrigger
