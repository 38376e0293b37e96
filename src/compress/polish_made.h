// Polishing what was just compressed.
#ifndef OUTRIGGER_SRC_COMPRESS_POLISH_MADE_H_
#define OUTRIGGER_SRC_COMPRESS_POLISH_MADE_H_

#include <outrigger/compress.h>

#include <span>
#include <vector>

#include "src/compress/compressed_file.h"
#include "src/compress/compressor.h"
#include "src/compress/polish_memory.h"
#include "src/model/model_impl.h"
#include "src/training/polish_options.h"

namespace outrigger {

/// How the branches of `plans` are to be trained within the options' memory. Errors: kBudget; those of make_polish_task().
Result<PolishPlan> plan_polish(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options,
                               std::span<const MatrixPlan> plans);

/// Trains the branches of rank above 0 of `made`, by matrix of the layout like `plans`, in place, or the backbone in `file`, whose matrices
/// were all written, or both, and says in `result` what came of it. Errors: those of polish_branches() or polish_blocks(), and kIo.
Status polish_made(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options,
                   std::span<const MatrixPlan> plans, const PolishPlan& polish, const PolishWatch& watch, CompressedFile* file,
                   std::vector<CompressedMatrix>* made, CompressReport* result);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_POLISH_MADE_H_
