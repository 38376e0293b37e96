// check_compressible: what is refused before anything is read.
#include "src/compress/compressible.h"

#include <set>
#include <string>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/compress/matrix_plan.h"
#include "src/compress/planning.h"
#include "src/tensor/own_form.h"

namespace outrigger {
namespace {

Status unsupported(const std::string& message) { return Status(StatusCode::kUnsupported, message); }

Status check_matrix(const ModelLayout& layout, uint32_t matrix, const CompressOptions& options) {
  const WeightSource& weight = layout.weights[matrix];
  if (is_own_type(weight.type) || layout.branches[matrix].rank > 0)
    return unsupported("the model is compressed already; compress the one it was made from");
  if (weight.columns % options.group_weights == 0) return {};
  return unsupported(formatted("rows of {} weights cannot be compressed, need a multiple of {}", weight.columns, options.group_weights));
}

// Of all matrices together: some may have fewer bits than are asked for where others have more.
Status check_bits(const Model::Impl& model, const CompressOptions& options) {
  const ModelLayout& layout = *model.layout;
  uint64_t weights = 0, bytes = 0;
  std::set<std::string> types;
  for (const uint32_t matrix : matrices_of_layers(layout)) {
    const WeightSource& weight = layout.weights[matrix];
    const uint64_t rows = weight.rows * weight.experts;
    weights += rows * weight.columns;
    bytes += rows * *row_bytes(weight.type, weight.columns);
    types.insert(traits(weight.type).name);
  }
  const double has = 8 * static_cast<double>(bytes) / static_cast<double>(weights),
               asked = options.mixed_bits > 0 ? options.mixed_bits : options.bits + form_of(options).scale_bits();
  if (has > asked) return {};
  return Status(StatusCode::kInvalidArgument,
                formatted("{:.2f} bits a weight, with scales, gain nothing: the matrices of the layers have {:.2f} ({}); need fewer bits, "
                          "or the model that this one was made from",
                          asked, has, joined(types, ", ")))
      .in_file(model.info.file);
}

}  // namespace

Status check_compressible(const Model::Impl& model, const CompressOptions& options) {
  if (!model.layout) return model.run_status;
  const ModelLayout& layout = *model.layout;
  if (layout.config.experts > 0 && options.polish_steps > 0) {
    return unsupported(
               "a mixture of experts cannot be trained by this version, neither its branches nor its backbone; set polish_steps to 0")
        .in_file(model.info.file);
  }
  for (const uint32_t matrix : matrices_of_layers(layout)) {
    Status status = check_matrix(layout, matrix, options);
    if (!status.is_ok()) return std::move(status).in_file(model.info.file).about(layout.shape.matrices[matrix].name);
  }
  return check_bits(model, options);
}

}  // namespace outrigger
