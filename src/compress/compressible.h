// What compressing can be asked of a model.
#ifndef OUTRIGGER_SRC_COMPRESS_COMPRESSIBLE_H_
#define OUTRIGGER_SRC_COMPRESS_COMPRESSIBLE_H_

#include <outrigger/compress.h>

#include "src/model/model_impl.h"

namespace outrigger {

/// Precondition: the options are valid. Errors: why the model cannot run; kUnsupported for a mixture of experts that is to be trained, what
/// is compressed already, and rows of no multiple of group_weights; kInvalidArgument where the matrices have as few bits as are asked for.
Status check_compressible(const Model::Impl& model, const CompressOptions& options);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_COMPRESSIBLE_H_
