// Whether two models speak of the same tokens.
#ifndef OUTRIGGER_SRC_DECODE_VOCABULARY_MATCH_H_
#define OUTRIGGER_SRC_DECODE_VOCABULARY_MATCH_H_

#include <outrigger/model.h>
#include <outrigger/status.h>

namespace outrigger {

/// Every id is the same bytes in both; two files without a tokenizer need as many tokens. Further tokens of one that a file names as
/// unused, as those that pad a vocabulary are, do not matter. Preconditions: both can run. Errors: kInvalidArgument with the first id that
/// differs and both pieces.
Status check_same_vocabulary(const Model& target, const Model& draft);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_VOCABULARY_MATCH_H_
