// Text that a model writes itself: chunks as texts of a batch.
#include "src/tool/own_text.h"

#include <outrigger/batch.h>

#include <algorithm>

#include "src/tool/interrupt.h"
#include "src/tool/loading.h"
#include "src/tool/progress.h"

namespace outrigger::tool {
namespace {

// Chunks that are written together: sixteen take some six times the time of one where the weights are in memory, and hardly longer where
// they stream.
constexpr uint32_t kMostAtOnce = 16;

// What a text begins with: the token that says so, or, where a model has none, each time another.
Token first_token(const Tokenizer& tokenizer, uint32_t chunk) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;
  if (tokenizer.bos() >= 0) return tokenizer.bos();
  return static_cast<Token>((chunk + 1) * kOdd % static_cast<uint64_t>(tokenizer.vocabulary_tokens()));
}

// A plan for as many chunks at once as the budget has room for: a pass over the weights takes next to as long for one as for all of them.
Result<Engine> load_for_chunks(const Model& model, const CommonOptions& options, uint32_t chunks, uint32_t chunk_tokens,
                               uint32_t* at_once) {
  Workload workload;
  workload.prompt_tokens = 1;
  workload.new_tokens = chunk_tokens - 1;
  for (*at_once = std::min(chunks, kMostAtOnce);; *at_once /= 2) {
    workload.batch = *at_once;
    auto engine = load_engine(model, options, workload);
    if (engine.is_ok() || engine.status().code() != StatusCode::kBudget || *at_once == 1) return engine;
  }
}

// An end of text that is drawn is a token like any other: what follows it is the beginning of the next.
std::vector<BatchRequest> requests_of(const Tokenizer& tokenizer, uint32_t chunks, uint32_t chunk_tokens) {
  std::vector<BatchRequest> requests(chunks);
  for (uint32_t chunk = 0; chunk < chunks; ++chunk) {
    requests[chunk].prompt = {first_token(tokenizer, chunk)};
    GenerateOptions& options = requests[chunk].options;
    options.max_tokens = chunk_tokens - 1;
    options.sampling.temperature = 1;
    options.sampling.seed = chunk + 1;
    options.ignore_eos = true;
    options.draft.kind = DraftKind::kNone;
  }
  return requests;
}

// The chunks one after the other, or why there is one less.
Result<std::vector<Token>> joined(const std::vector<BatchRequest>& requests, BatchResult& written) {
  std::vector<Token> all;
  for (size_t chunk = 0; chunk < requests.size(); ++chunk) {
    Result<GenerateResult>& text = written.results[chunk];
    if (!text.is_ok()) return text.status();
    if (text->stop_reason == StopReason::kCancelled) return Status(StatusCode::kCancelled, "writing the calibration text was cancelled");
    all.push_back(requests[chunk].prompt.front());
    all.insert(all.end(), text->tokens.begin(), text->tokens.end());
  }
  return all;
}

}  // namespace

Result<std::vector<Token>> own_text(const Model& model, const CommonOptions& options, uint32_t chunks, uint32_t chunk_tokens) {
  const auto tokenizer = model.tokenizer();
  if (!tokenizer.is_ok()) return tokenizer.status();
  if (chunks == 0) return std::vector<Token>();
  uint32_t at_once = 0;
  const auto engine = load_for_chunks(model, options, chunks, chunk_tokens, &at_once);
  if (!engine.is_ok()) return engine.status();
  const Interruptible interruptible;
  ProgressLine progress(options.progress, "writing the calibration text");
  const Progress tell = progress.callback();
  std::vector<BatchRequest> requests = requests_of(tokenizer.value(), chunks, chunk_tokens);
  size_t tokens = 0;
  for (BatchRequest& request : requests) {
    request.options.on_token = [&](const GeneratedToken&) {
      if (tell && tokens++ % chunks == 0) (void)tell(static_cast<double>(tokens) / (static_cast<double>(chunks) * (chunk_tokens - 1)));
      return true;
    };
  }
  BatchOptions batch;
  batch.sequences = at_once;
  batch.cancel = interrupt_token();
  auto written = generate_batch(engine.value(), requests, batch);
  if (!written.is_ok()) return written.status();
  if (tell) (void)tell(1);
  return joined(requests, written.value());
}

}  // namespace outrigger::tool
