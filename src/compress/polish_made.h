// Polishing what was just compressed.
#ifndef OUTRIGGER_SRC_COMPRESS_POLISH_MADE_H_
#define OUTRIGGER_SRC_COMPRESS_POLISH_MADE_H_

#include <outrigger/compress.h>

#include <span>
#include <vector>

#include "src/compress/compressor.h"
#include "src/compress/polish.h"
#include "src/model/model_impl.h"

namespace outrigger {

/// Trains the branches of rank above 0 of `made`, by matrix of the layout like `plans`, in place, and says in `result` what came of it. Nothing happens
/// where there are none. Errors: those of polish_branches().
Status polish_made(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options, std::span<const MatrixPlan> plans, const PolishWatch& watch,
                   std::vector<CompressedMatrix>* made, CompressReport* result);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_POLISH_MADE_H_
