// When to quote: expected time of a token either way.
#include "src/decode/quote_choice.h"

namespace outrigger {

uint32_t QuoteChoice::next(size_t match, double other_ms) const {
  if (match < kLeastMatch || other_ms <= 0) return 0;
  const uint32_t best = length_.best();
  const bool is_trial = !length_.is_known() || passes_since_quote_ >= kPassesPerTrial;
  return is_trial || length_.ms_per_token(best) < other_ms ? best : 0;
}

void QuoteChoice::record_own(const PassRecord& pass) {
  length_.record(pass);
  if (pass.drafted > 0) passes_since_quote_ = 0;
}

}  // namespace outrigger
