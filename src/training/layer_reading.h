// A layer's matrices for training, as somebody gives them.
#ifndef OUTRIGGER_SRC_TRAINING_LAYER_READING_H_
#define OUTRIGGER_SRC_TRAINING_LAYER_READING_H_

#include <outrigger/status.h>

#include <cstdint>
#include <vector>

#include "src/forward/float_matrix.h"
#include "src/memory/leased_vector.h"
#include "src/model/model_impl.h"
#include "src/training/layer_pass.h"

namespace outrigger {

/// The model's own. `model` must outlive it.
MatrixReader own_matrices(const Model::Impl& model);

/// One of the layout's matrices. Errors: the reader's; kInvalidArgument, with the tensor's name, for weights that are no numbers.
Result<LeasedVector<float>> read_checked(const Model::Impl& model, uint32_t matrix, const MatrixReader& reader);

/// The seven of a dense layer, of which one at a time is in memory as the reader gives it. Errors: as read_checked; kInternal for another
/// size than the layout's. Throws std::bad_alloc.
Status read_layer(const Model::Impl& model, uint32_t layer, const MatrixReader& reader, bool can_go_back, ThreadTeam& team,
                  LayerMatrices* matrices);

/// dst [tokens, width] = the model's last norm of `residual`; may be the same.
void norm_output(const ModelLayout& layout, const float* fixed, std::span<const float> residual, std::span<float> dst, ThreadTeam& team);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_LAYER_READING_H_
