// Survey: what each matrix of a model loses in few bits, measured before anything is decided.
#ifndef OUTRIGGER_SRC_COMPRESS_SURVEY_H_
#define OUTRIGGER_SRC_COMPRESS_SURVEY_H_

#include <outrigger/compress.h>

#include <functional>
#include <span>
#include <vector>

#include "src/compress/allocation.h"
#include "src/compress/saved_work.h"
#include "src/model/model_impl.h"

namespace outrigger {

struct SurveyResult {
  std::vector<MatrixLoss> losses;  ///< in the order of a step
  CompressSurvey measured;         ///< without a curve
};

/// Compresses the whole model once without branches, in base_bits(options), keeps what it becomes in memory (its bytes in those bits), and
/// measures its distance from the model with one part after the other put right, on two of the chunks. `most_rank`: so many components of
/// each matrix's residual are looked at; `columns`: what shares of its columns restore. `watch` hears the share that is done.
/// `saved`: null, or what keeps the windows of the first part.
/// Errors: those of Compressor and KlMeter, and the watch's.
Result<SurveyResult> survey_model(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options,
                                  uint32_t most_rank, bool columns, SavedWork* saved, const std::function<Status(double share)>& watch);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_SURVEY_H_
