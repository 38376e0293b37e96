// How far two models' distributions of the next token are apart, without the head in memory.
#ifndef OUTRIGGER_SRC_FORWARD_HEAD_DIVERGENCE_H_
#define OUTRIGGER_SRC_FORWARD_HEAD_DIVERGENCE_H_

#include <outrigger/status.h>

#include <cstdint>
#include <span>

#include "src/base/thread_team.h"
#include "src/model/model_impl.h"

namespace outrigger {

/// Rows of the head that are there at once, a multiple of kPackRows: of a width of 4096, 17 MB as float32 and as much packed.
constexpr uint64_t kHeadSliceRows = 1024;

/// The mean over tokens of KL(p || q), in nats, of what the model's head makes of the last norms' vectors `p` and `q` [tokens, width]. The
/// same bits for any number of threads. Memory: head_divergence_bytes(). Errors: kIo; kInvalidArgument for weights that are no numbers.
/// Throws std::bad_alloc.
Result<double> head_divergence(const Model::Impl& model, std::span<const float> p, std::span<const float> q, ThreadTeam& team,
                               uint64_t slice_rows = kHeadSliceRows);

/// Bytes it takes beside its arguments: the head's rows are there a slice at a time.
uint64_t head_divergence_bytes(const ModelLayout& layout, uint64_t tokens);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_FORWARD_HEAD_DIVERGENCE_H_
