// How far a layer's outputs are from wanted ones.
#ifndef OUTRIGGER_SRC_TRAINING_BLOCK_LOSS_H_
#define OUTRIGGER_SRC_TRAINING_BLOCK_LOSS_H_

#include <cstddef>
#include <span>

#include "src/base/thread_team.h"

namespace outrigger {

/// The mean over tokens of |got - wanted|^2 / |wanted|^2, of rows [tokens, width]. Each token counts alike: plain squares would be those of
/// the few tokens, the first above all, whose vectors are a hundred times as long. Sets the loss's gradient of `got`, unless that is null.
/// The same bits for any number of threads. Throws std::bad_alloc.
double block_loss(std::span<const float> wanted, std::span<const float> got, size_t width, float* gradient, ThreadTeam& team);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_BLOCK_LOSS_H_
