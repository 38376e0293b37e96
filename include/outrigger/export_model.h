// Exporting: a compressed model as files that other engines read.
#ifndef OUTRIGGER_EXPORT_MODEL_H_
#define OUTRIGGER_EXPORT_MODEL_H_

#include <outrigger/cancel.h>
#include <outrigger/export.h>
#include <outrigger/model.h>
#include <outrigger/status.h>

#include <cstdint>
#include <string>

namespace outrigger {

struct ExportOptions {
  std::string adapter_path;  ///< where the low-rank branches go; empty: they are left out
  Progress progress;         ///< empty: none
  CancelToken cancel;
};

struct ExportReport {
  uint64_t input_bytes = 0, backbone_bytes = 0;  ///< of the files
  uint64_t adapter_bytes = 0;                    ///< of the file; 0 without one
  uint64_t recoded_matrices = 0;                 ///< of the backbone: those whose format other engines do not have
  uint64_t branches = 0;                         ///< that the model has: in the adapter, or left out
  double adapter_error = 0;  ///< the most that rounding changed a factor of a branch: root mean square, relative to the factor's own
};

/// Writes a compressed model as an ordinary GGUF file and, if `options` names one, its low-rank branches as an ordinary GGUF LoRA adapter
/// of it (docs/formats.md): what llama.cpp runs as `-m BACKBONE --lora ADAPTER`.
///
/// In the backbone the matrices of our own formats are Q4_1, which has the same values, bit for bit, in 5 bits a weight, but those whose
/// levels are a codebook's, which no other format has: these are float16, the nearest to each weight. All else stays as it is, but for our
/// own metadata. Of a model that was compressed from a Hugging Face directory, rows of q and k, one-dimensional tensors and numbers of the
/// metadata become what converters to GGUF make of them. Factors of the adapter are float16, or float32 where that loses more than a unit
/// in the last place.
///
/// Each file appears under its name complete, replacing what stood there, or not at all; the adapter first, so that a backbone has its
/// adapter. At most some 16 MiB of weights are in memory at once, and a head's rows. Errors: kUnsupported when the model cannot run, was
/// packed, or has sparse residuals, which no other engine computes; kInvalidArgument when it was not compressed, when an adapter is asked
/// for and there are no branches, or when a path is the model's own or both are one; kIo when the model cannot be read or has changed, or a
/// path cannot be written; kCancelled; kOutOfMemory; kInternal when `progress` throws.
OTR_API Result<ExportReport> export_model(const Model& model, const std::string& backbone_path, const ExportOptions& options = {});

}  // namespace outrigger

#endif  // OUTRIGGER_EXPORT_MODEL_H_
