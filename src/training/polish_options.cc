// PolishOptions: limits, and how the rate rises and falls.
#include "src/training/polish_options.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "src/base/formatted.h"

namespace outrigger {
namespace {

// Adam's first steps go the full length in every number, whatever little is known of its gradient by then.
constexpr uint32_t kRisingSteps = 5;

}  // namespace

float PolishOptions::rate_of(uint32_t step, float greatest) const {
  const double rise = std::min(1.0, (step + 1.0) / kRisingSteps), fall = 0.5 + 0.5 * std::cos(std::numbers::pi * step / steps);
  return static_cast<float>(greatest * rise * fall);
}

Status PolishOptions::validate() const {
  const auto wrong = [](std::string message) { return Status(StatusCode::kInvalidArgument, "polishing: " + std::move(message)); };
  if (steps == 0 || steps > 100000) return wrong(formatted("steps is {}, need 1 to 100000", steps));
  if (tokens_a_step < 16 || tokens_a_step > 65536) return wrong(formatted("tokens_a_step is {}, need 16 to 65536", tokens_a_step));
  for (const auto& [name, rate] : {std::pair("learning_rate", learning_rate), {"scale_rate", scale_rate}, {"norm_rate", norm_rate}}) {
    if (!(rate > 0) || rate > 1) return wrong(formatted("{} is {}, need more than 0 and at most 1", name, rate));
  }
  if (held_out_chunks == 0 || held_out_chunks > 65536) return wrong(formatted("held_out_chunks is {}, need 1 to 65536", held_out_chunks));
  return {};
}

}  // namespace outrigger
