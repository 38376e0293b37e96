// Packing: a model's weights written as the kernels read them, so that what streams from disk needs no conversion.
#ifndef OUTRIGGER_PACK_H_
#define OUTRIGGER_PACK_H_

#include <outrigger/cancel.h>
#include <outrigger/export.h>
#include <outrigger/model.h>
#include <outrigger/status.h>

#include <string>

namespace outrigger {

struct PackOptions {
  Progress progress;  ///< empty: none
  CancelToken cancel;
};

/// Writes `model` to `path` as one packed GGUF file (docs/formats.md): the same metadata and the same values, its matrices in the layout
/// and the order in which steps read them, aligned for direct reads. Model::open opens it like any other; its logits are the same bits.
/// Packing a packed model writes the same bytes again. Padding makes the file some percent larger, more where rows are few. The file
/// appears under its name complete, replacing what stood there, or not at all; until then it has no name where the file system allows that.
/// At most about 8 MiB of weights are in memory at once. Errors: kUnsupported with the reason when the model cannot run; kInvalidArgument
/// when `path` is the model's own file, or one of its directory; kIo when the model cannot be read or has changed, or `path` cannot be
/// written (no room, no permission, a directory); kCancelled; kOutOfMemory; kInternal when `progress` throws.
OTR_API Status pack_model(const Model& model, const std::string& path, const PackOptions& options = {});

}  // namespace outrigger

#endif  // OUTRIGGER_PACK_H_
