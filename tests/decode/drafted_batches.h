// Batches for which a similar model drafts: engines with room for it, and their requests.
#ifndef OUTRIGGER_TESTS_DECODE_DRAFTED_BATCHES_H_
#define OUTRIGGER_TESTS_DECODE_DRAFTED_BATCHES_H_

#include <outrigger/log.h>
#include <outrigger/speculation.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/batches.h"
#include "tests/support/chi_square.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/support/similar_draft.h"

namespace outrigger::testing {

/// What an engine has room for.
struct Room {
  uint32_t batch = 3, threads = 2, draft_tokens = 8;
  uint64_t draft_bytes = UINT64_MAX;  // as many as it needs
  uint64_t host_bytes = Budgets::kUnlimited;
  uint32_t context_tokens = 160;
};

inline uint64_t needed_bytes(const SimilarDraft& files, const Room& room) {
  return must(draft_model_bytes(must(Model::open(files.draft)), room.context_tokens, room.threads, room.batch));
}

inline Result<Plan> plan_with(const SimilarDraft& files, const Room& room) {
  Workload workload;
  workload.context_tokens = room.context_tokens;
  workload.prompt_tokens = workload.new_tokens = room.context_tokens / 2;
  workload.batch = room.batch;
  workload.draft_tokens = room.draft_tokens;
  workload.draft_bytes = room.draft_bytes == UINT64_MAX ? needed_bytes(files, room) : room.draft_bytes;
  return PlacementPlanner::plan(must(files.target.step_shape()), made_up_machine(room.threads), {room.host_bytes, 0}, workload);
}

inline Engine engine_with(const SimilarDraft& files, const Room& room) {
  return must(Engine::open(files.target, must(plan_with(files, room))));
}

/// Four texts with drafts of two tokens, in the smallest budget with six rows of logits or more: weights come from disk.
inline Room few_rows(const SimilarDraft& files) {
  Room room{.batch = 4, .draft_tokens = 2};
  room.host_bytes = must(plan_with(files, room)).minimum_host_bytes;
  while (must(plan_with(files, room)).logit_rows < 6) room.host_bytes += 4096;
  return room;
}

/// Greedy, of prompts of 1 to 40 tokens and of 1 to 60 tokens.
inline std::vector<BatchRequest> greedy_requests(size_t count, const DraftOptions& draft) {
  std::vector<BatchRequest> requests = mixed_requests(count);
  for (size_t i = 0; i < count; ++i) {
    requests[i].options.sampling = {};
    requests[i].options.ignore_eos = true;
    requests[i].options.max_tokens = static_cast<uint32_t>(1 + 19 * i % 60);
    requests[i].options.draft = draft;
  }
  return requests;
}

/// How often each text was drawn, of four tokens: of the first, which no draft makes, nothing is said.
inline DrawnTexts drawn_texts(const Engine& engine, const DraftOptions& draft, uint64_t samples, uint64_t first_seed,
                              const BatchOptions& options = {}) {
  std::vector<BatchRequest> requests(samples);
  for (uint64_t i = 0; i < samples; ++i) {
    requests[i].prompt = {3, 14, 15, 92, 65};
    requests[i].options.max_tokens = 4;
    requests[i].options.ignore_eos = true;
    requests[i].options.draft = draft;
    requests[i].options.sampling = {.temperature = 8, .top_k = 3, .seed = first_seed + i};
  }
  DrawnTexts counts;
  for (const Result<GenerateResult>& result : must(generate_batch(engine, requests, options)).results) counts[must(result).tokens] += 1;
  return counts;
}

/// A draft whose logits are undefined: its first step fails.
inline void make_undefined(const std::string& draft) {
  write_test_file(draft, random_dense([](const std::string& name, std::vector<float>& values) {
                    if (name == "output_norm.weight") values[0] = std::numeric_limits<float>::quiet_NaN();
                  }));
}

/// What is warned of meanwhile.
template <typename Work>
std::vector<std::string> warnings_of(const Work& work) {
  std::vector<std::string> warnings;
  set_log_sink([&](LogLevel level, std::string_view line) {
    if (level == LogLevel::kWarning) warnings.emplace_back(line);
  });
  work();
  set_log_sink({});
  return warnings;
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_DECODE_DRAFTED_BATCHES_H_
