// Every malformed file of the catalogue, opened as a model; and memory that runs out at any moment.
#include <outrigger/model.h>

#include "src/base/bytes.h"
#include "src/io/byte_source.h"
#include "tests/support/bad_gguf.h"
#include "tests/support/engines.h"
#include "tests/support/heap_watch.h"

namespace outrigger::testing {
namespace {

// What a person gets who wants to run the file: the error of opening, or the reason why it cannot run.
Status outcome(const std::string& file) {
  const Result<Model> model = Model::open(file);
  if (!model.is_ok()) return model.status();
  if (const Status status = model.value().step_shape().status(); !status.is_ok()) return status;
  return model.value().tokenizer().status();
}

TEST_CASE("Model: each malformed file gives its documented error, with at most 8 x file + 1 MiB of memory") {
  size_t rows = 0;
  for (const char* level : {"container", "model"}) {
    for (const BadGguf& row : bad_ggufs(OTR_BAD_GGUF_DIR, level)) {
      INFO(row.file);
      restart_heap_peak();
      const uint64_t before = heap_bytes();
      const Status status = outcome(row.file);
      const uint64_t used = heap_peak_bytes() - before;
      CHECK(difference(row, status) == "");
      CHECK(used <= 8 * must(open_file(row.file))->size_bytes() + 1_MiB);
      ++rows;
    }
  }
  CHECK(rows >= 350);
}

TEST_CASE("Model: the well-formed models that the catalogue is derived from run") {
  for (const char* file :
       {OTR_BAD_GGUF_DIR "/valid.gguf", OTR_BAD_GGUF_DIR "/valid_bpe.gguf", OTR_BAD_GGUF_DIR "/valid_qwen2.gguf",
        OTR_BAD_GGUF_DIR "/valid_qwen3.gguf", OTR_BAD_GGUF_DIR "/valid_mixtral.gguf", OTR_BAD_GGUF_DIR "/valid_mixtral_split.gguf",
        OTR_BAD_GGUF_DIR "/valid_qwen2moe.gguf", OTR_BAD_GGUF_DIR "/valid_qwen3moe.gguf", OTR_BAD_GGUF_DIR "/valid_packed.gguf"}) {
    INFO(file);
    const Model model = must(Model::open(file));
    Session session = must(Session::open(open_engine(model, {.context_tokens = 16})));
    must(session.prefill(must(must(model.tokenizer()).encode("hi", {.add_special = true}))));
    CHECK(session.logits().size() == model.info().vocabulary_tokens);
  }
}

// Everything from the file to a token; each step may run out of memory.
Status one_token(const std::string& file, const EngineOptions& engine_options, const GenerateOptions& options) {
  const Result<Model> model = Model::open(file);
  if (!model.is_ok()) return model.status();
  const Result<Plan> plan = plan_for(model.value(), {.threads = 1, .context_tokens = 16});
  if (!plan.is_ok()) return plan.status();
  const Result<Engine> engine = Engine::open(model.value(), plan.value(), engine_options);
  if (!engine.is_ok()) return engine.status();
  Result<Session> session = Session::open(engine.value());
  if (!session.is_ok()) return session.status();
  const Token prompt[] = {1, 2};
  return session->generate(prompt, options).status();
}

TEST_CASE("Model to token: whichever allocation fails, the call says OUT_OF_MEMORY or does without, and nothing leaks") {
  const std::string file = OTR_BAD_GGUF_DIR "/valid.gguf";
  const EngineOptions engine_options;
  GenerateOptions options;
  options.max_tokens = 2;
  options.ignore_eos = true;
  must(one_token(file, engine_options, options));
  const uint64_t before = heap_bytes();
  bool reached_end = false;
  for (uint64_t nth = 1; !reached_end && nth < 20000; ++nth) {
    Status status;
    {
      const FailingAllocation failing(nth);
      status = one_token(file, engine_options, options);
      reached_end = !failing.has_happened();
    }
    INFO(nth << ": " << status.to_string());
    REQUIRE((status.is_ok() || status.code() == StatusCode::kOutOfMemory));
  }
  CHECK(reached_end);
  CHECK(heap_bytes() <= before + 64_KiB);  // the runtime's own caches
}

}  // namespace
}  // namespace outrigger::testing
