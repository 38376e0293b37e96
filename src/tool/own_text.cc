// Text that a model writes itself: one chunk after the other.
#include "src/tool/own_text.h"

#include <outrigger/sampling.h>
#include <outrigger/session.h>

#include "src/tool/interrupt.h"
#include "src/tool/loading.h"
#include "src/tool/progress.h"

namespace outrigger::tool {
namespace {

// What a text begins with: the token that says so, or, where a model has none, each time another.
Token first_token(const Tokenizer& tokenizer, uint32_t chunk) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;
  if (tokenizer.bos() >= 0) return tokenizer.bos();
  return static_cast<Token>((chunk + 1) * kOdd % static_cast<uint64_t>(tokenizer.vocabulary_tokens()));
}

// Appends a chunk. An end of text that is drawn is a token like any other: what follows it is the beginning of the next.
Status write_chunk(Session& session, Sampler& sampler, Token first, uint32_t chunk_tokens, std::vector<Token>* all) {
  const size_t begin = all->size();
  all->push_back(first);
  Status status = session.truncate(0);
  if (status.is_ok()) status = session.prefill({&all->back(), 1}, {}, interrupt_token());
  while (status.is_ok() && all->size() - begin < chunk_tokens) {
    const auto token = sampler.sample(session.logits(), std::span(*all).subspan(begin));
    if (!token.is_ok()) return token.status();
    all->push_back(token.value());
    if (interrupt_token().is_cancelled()) return Status(StatusCode::kCancelled, "writing the calibration text was cancelled");
    status = session.step(token.value());
  }
  return status;
}

}  // namespace

Result<std::vector<Token>> own_text(const Model& model, const CommonOptions& options, uint32_t chunks, uint32_t chunk_tokens) {
  const auto tokenizer = model.tokenizer();
  if (!tokenizer.is_ok()) return tokenizer.status();
  Workload workload;
  workload.prompt_tokens = 1;
  workload.new_tokens = chunk_tokens - 1;
  const auto engine = load_engine(model, options, workload);
  if (!engine.is_ok()) return engine.status();
  auto session = Session::open(engine.value());
  if (!session.is_ok()) return session.status();
  SamplingOptions sampling;
  sampling.temperature = 1;
  sampling.seed = 1;
  auto sampler = Sampler::create(sampling);
  if (!sampler.is_ok()) return sampler.status();
  const Interruptible interruptible;
  ProgressLine progress(options.progress, "writing the calibration text");
  const Progress tell = progress.callback();
  std::vector<Token> all;
  all.reserve(size_t{chunks} * chunk_tokens);
  for (uint32_t chunk = 0; chunk < chunks; ++chunk) {
    if (tell) (void)tell(static_cast<double>(chunk) / chunks);
    if (Status status = write_chunk(session.value(), sampler.value(), first_token(tokenizer.value(), chunk), chunk_tokens, &all); !status.is_ok()) return status;
  }
  if (tell) (void)tell(1);
  return all;
}

}  // namespace outrigger::tool
