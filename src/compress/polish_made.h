// Polishing what was just compressed.
#ifndef OUTRIGGER_SRC_COMPRESS_POLISH_MADE_H_
#define OUTRIGGER_SRC_COMPRESS_POLISH_MADE_H_

#include <outrigger/compress.h>

#include <functional>
#include <span>
#include <vector>

#include "src/compress/compressor.h"
#include "src/compress/polish_memory.h"
#include "src/model/model_impl.h"
#include "src/training/polish_options.h"

namespace outrigger {

/// How the branches of `plans` are to be trained within the options' memory. Errors: kBudget; those of make_polish_task().
Result<PolishPlan> plan_polish(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options,
                               std::span<const MatrixPlan> plans);

/// Fills `bytes` with a matrix's codes in few bits.
using BackboneReader = std::function<Status(uint32_t matrix, std::span<std::byte> bytes)>;

/// Trains the branches of rank above 0 of `made`, by matrix of the layout like `plans`, in place, and says in `result` what came of it.
/// Nothing happens where there are none. Errors: those of polish_branches() or polish_blocks(), and of `backbone`.
Status polish_made(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options,
                   std::span<const MatrixPlan> plans, const PolishPlan& polish, const BackboneReader& backbone, const PolishWatch& watch,
                   std::vector<CompressedMatrix>* made, CompressReport* result);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_POLISH_MADE_H_
