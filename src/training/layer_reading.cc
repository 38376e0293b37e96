// A layer's matrices for training: checked, since one number that is none spoils all.
#include "src/training/layer_reading.h"

#include <algorithm>
#include <cmath>

#include "src/base/macros.h"
#include "src/kernels/rms_norm.h"

namespace outrigger {

MatrixReader own_matrices(const Model::Impl& model) {
  return [&model](MatrixIndex part) { return read_matrix(model.file.source(), model.layout->weights[part.matrix], part.expert); };
}

Result<LeasedVector<float>> read_checked(const Model::Impl& model, uint32_t matrix, const MatrixReader& reader) {
  OTR_ASSIGN(LeasedVector<float> values, reader(matrix));
  if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) {
    return Status(StatusCode::kInvalidArgument, "the weights are not all finite")
        .in_file(model.info.file)
        .about(model.layout->shape.matrices[matrix].name);
  }
  return values;
}

Status read_layer(const Model::Impl& model, uint32_t layer, const MatrixReader& reader, bool can_go_back, ThreadTeam& team,
                  LayerMatrices* matrices) {
  const std::array<uint32_t, 7> indices = matrices_of(model.layout->layers[layer]);
  const std::array<BranchedMatrix*, 7> targets = matrices->all();
  for (size_t i = 0; i < indices.size(); ++i) {
    OTR_ASSIGN(const LeasedVector<float> values, read_checked(model, indices[i], reader));
    const WeightSource& weight = model.layout->weights[indices[i]];
    if (values.size() != weight.rows * weight.columns) return Status(StatusCode::kInternal, "a matrix of another size than the layout's");
    targets[i]->set(values, weight.rows, weight.columns, can_go_back, team);
  }
  return {};
}

void norm_output(const ModelLayout& layout, const float* fixed, std::span<const float> residual, std::span<float> dst, ThreadTeam& team) {
  const ModelConfig& config = layout.config;
  team.run([&](const TeamMember& member) {
    size_t begin, end;
    member.share(residual.size() / config.width, 1, &begin, &end);
    if (begin == end) return;
    const size_t at = begin * config.width;
    rms_norm({residual.data() + at, fixed + layout.output_norm, dst.data() + at, end - begin, config.width, config.norm_epsilon});
  });
}

}  // namespace outrigger
