// What generating one text and generating many share: options and results across the boundary.
#ifndef OUTRIGGER_CAPI_GENERATION_H_
#define OUTRIGGER_CAPI_GENERATION_H_

#include "capi/capi_common.h"

namespace outrigger::capi {

/// The caller's options, which may be null. Errors: kInvalidArgument naming `what`.
Status read_follow_load(const otr_follow_load_options* given, const char* what, FollowLoad* wanted);
/// The same.
Status read_sampling(const otr_sampling_options* given, const char* what, SamplingOptions* sampling);
/// The caller's options, which may be null. What they point to must outlive *wanted, but for texts and numbers. Errors: kInvalidArgument.
Status read_generate_options(const otr_generate_options* given, GenerateOptions* wanted);
/// All but the tokens and the text.
otr_generate_result result_of(const GenerateResult& made, size_t prompt_tokens);

}  // namespace outrigger::capi

#endif  // OUTRIGGER_CAPI_GENERATION_H_
