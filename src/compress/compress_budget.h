// CompressBudget: whether a run can be made within its memory, and with which options.
#ifndef OUTRIGGER_SRC_COMPRESS_COMPRESS_BUDGET_H_
#define OUTRIGGER_SRC_COMPRESS_COMPRESS_BUDGET_H_

#include <outrigger/compress.h>

#include <cstdint>
#include <span>

#include "src/compress/compress_need.h"
#include "src/model/model_impl.h"

namespace outrigger {

/// Whether factors are trained, if there are some, and whether the backbone is.
bool trains_branches(const CompressOptions& options);
bool trains_backbone(const CompressOptions& options);

/// What the pass by these plans takes, and then training.
CompressNeed need_of_making(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options,
                            std::span<const MatrixPlan> plans, uint64_t training_bytes);

/// The options with errors made up for by as many columns as the budget has room for: those of a row in equal groups. Errors: kBudget where
/// there is no room for 512 either, or for what is needed besides, whatever the plan will be; those of plan_polish().
Result<CompressOptions> with_room_for_feedback(const Model::Impl& model, std::span<const Token> tokens, CompressOptions options);

CompressMemory memory_of(const MemoryLedger& ledger, uint64_t planned_bytes, const CompressOptions& options);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_COMPRESS_BUDGET_H_
