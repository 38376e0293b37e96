// From logits to a token: penalties, cuts, one draw.
#include <outrigger/sampling.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/decode/random.h"

namespace outrigger {
namespace {

struct Candidate {
  float logit;
  Token token;
};

// Likelier first; equal ones by id, so that an order never depends on the sort.
bool before(const Candidate& a, const Candidate& b) { return a.logit != b.logit ? a.logit > b.logit : a.token < b.token; }

Status out_of_range(const char* name, double got, const char* need) {
  return Status(StatusCode::kInvalidArgument, formatted("{}: got {}, need {}", name, got, need));
}

}  // namespace

Status SamplingOptions::validate() const {
  if (!(temperature >= 0 && std::isfinite(temperature))) return out_of_range("temperature", temperature, "0 or more");
  if (top_k < 0) return out_of_range("top_k", top_k, "0 (all) or more");
  if (!(top_p > 0 && top_p <= 1)) return out_of_range("top_p", top_p, "more than 0, at most 1");
  if (!(min_p >= 0 && min_p <= 1)) return out_of_range("min_p", min_p, "0 to 1");
  if (!(repeat_penalty > 0 && std::isfinite(repeat_penalty)))
    return out_of_range("repeat_penalty", repeat_penalty, "more than 0; 1 is off");
  if (repeat_last_tokens < -1) return out_of_range("repeat_last_tokens", repeat_last_tokens, "-1 (all) or more");
  return {};
}

struct Sampler::State {
  SamplingOptions options;
  Random random;
  std::vector<float> penalised;          // [vocabulary], only with a repetition penalty
  std::vector<Candidate> candidates;     // the tokens that are left, likeliest first
  std::vector<double> weights;           // of the candidates, relative to the likeliest
  std::vector<TokenProbability> probabilities;

  explicit State(const SamplingOptions& chosen) : options(chosen), random(chosen.seed) {}

  std::span<const float> penalise(std::span<const float> logits, std::span<const Token> history) {
    if (options.repeat_penalty == 1) return logits;
    penalised.assign(logits.begin(), logits.end());
    const size_t last = options.repeat_last_tokens < 0 ? history.size() : std::min<size_t>(history.size(), options.repeat_last_tokens);
    for (const Token token : history.last(last)) {  // from the original logit: a token that stands there twice is penalised once
      if (token < 0 || static_cast<size_t>(token) >= logits.size()) continue;
      const float logit = logits[token];
      penalised[token] = logit > 0 ? logit / options.repeat_penalty : logit * options.repeat_penalty;
    }
    return penalised;
  }

  // The likeliest tokens in order: all that top-k keeps.
  void collect(std::span<const float> logits) {
    candidates.clear();
    candidates.reserve(logits.size());
    for (size_t i = 0; i < logits.size(); ++i) {
      // Leaves NaN out too
      if (logits[i] > -std::numeric_limits<float>::infinity()) candidates.push_back({logits[i], static_cast<Token>(i)});
    }
    const size_t keep = options.top_k == 0 ? candidates.size() : std::min<size_t>(candidates.size(), options.top_k);
    std::partial_sort(candidates.begin(), candidates.begin() + static_cast<ptrdiff_t>(keep), candidates.end(), before);
    candidates.resize(keep);
  }

  // Weighs the candidates and leaves those that top-p and min-p keep. Returns the sum of their weights.
  double weigh() {
    weights.clear();
    weights.reserve(candidates.capacity());
    const double top = candidates.front().logit;
    double total = 0;
    for (const Candidate& candidate : candidates) {
      // An infinite logit is certain: exp of (inf - inf) would be NaN.
      const double difference = candidate.logit == candidates.front().logit ? 0 : (candidate.logit - top) / options.temperature;
      weights.push_back(std::exp(difference));
      total += weights.back();
    }
    size_t keep = candidates.size();
    if (options.top_p < 1) {
      double sum = 0;
      for (keep = 0; keep < candidates.size() && sum < options.top_p * total; ++keep) sum += weights[keep];
    }
    while (keep > 1 && weights[keep - 1] < options.min_p) --keep;  // the first weight is 1

    candidates.resize(keep);
    double left = 0;
    for (size_t i = 0; i < keep; ++i) left += weights[i];
    return left;
  }

  Token draw() {
    double point = random.uniform() * weigh();
    for (size_t i = 0; i < candidates.size(); ++i) {
      if ((point -= weights[i]) < 0) return candidates[i].token;
    }
    return candidates.back().token;  // rounding
  }
};

Sampler::Sampler(std::unique_ptr<State> state) : state_(std::move(state)) {}
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;
Sampler::~Sampler() = default;

Result<Sampler> Sampler::create(const SamplingOptions& options) {
  OTR_TRY(options.validate());
  return Sampler(std::make_unique<State>(options));
}

namespace {

// The likeliest token; the vocabulary's size if none has a logit above minus infinity.
size_t likeliest(std::span<const float> logits) {
  size_t best = logits.size();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > (best == logits.size() ? -std::numeric_limits<float>::infinity() : logits[best])) best = i;
  }
  return best;
}

Status nothing_to_draw(size_t logits) {
  return Status(StatusCode::kInvalidArgument, formatted("no token can be drawn: {} logits, none above minus infinity", logits));
}

}  // namespace

Result<Token> Sampler::sample(std::span<const float> logits, std::span<const Token> history) {
  const std::span<const float> judged = state_->penalise(logits, history);
  const size_t best = likeliest(judged);
  if (best == judged.size()) return nothing_to_draw(logits.size());
  if (state_->options.temperature == 0) return static_cast<Token>(best);
  state_->collect(judged);
  return state_->draw();
}

Result<std::span<const TokenProbability>> Sampler::distribution(std::span<const float> logits, std::span<const Token> history) {
  State& state = *state_;
  const std::span<const float> judged = state.penalise(logits, history);
  const size_t best = likeliest(judged);
  if (best == judged.size()) return nothing_to_draw(logits.size());
  state.probabilities.clear();
  if (state.options.temperature == 0) {
    state.probabilities.push_back({static_cast<Token>(best), 1});
  } else {
    state.collect(judged);
    const double total = state.weigh();
    for (size_t i = 0; i < state.candidates.size(); ++i)
      state.probabilities.push_back({state.candidates[i].token, state.weights[i] / total});
  }
  return std::span<const TokenProbability>(state.probabilities);
}

}  // namespace outrigger
