// The default model drafts for itself: in float16, under about half of it, with four-bit copies of what streams.
#include <outrigger/speculation.h>

#include <filesystem>

#include "tests/support/engines.h"
#include "tests/support/half_model.h"
#include "tests/support/scratch_folder.h"

namespace outrigger::testing {
namespace {

constexpr uint32_t kContext = 320;

Result<Plan> plan_with(const Model& model, StandIns stand_ins, uint64_t host_bytes) {
  Workload workload;
  workload.context_tokens = kContext;
  workload.prompt_tokens = workload.new_tokens = kContext / 2;
  workload.draft_tokens = 8;
  workload.stand_ins = stand_ins;
  return PlacementPlanner::plan(must(model.step_shape()), made_up_machine(2), {host_bytes, 0}, workload);
}

GenerateResult generated(const Engine& engine, const std::string& text, const DraftOptions& draft) {
  GenerateOptions options;
  options.max_tokens = 48;
  options.ignore_eos = true;
  options.draft = draft;
  Session session = must(Session::open(engine));
  return must(session.generate(must(must(engine.model().tokenizer()).encode(text, {.add_special = true})), options));
}

TEST_CASE(
    "The default model in float16: under about half of it, most tokens drafted with copies of four bits are accepted, and the text is the "
    "plain one") {
  const ScratchFolder scratch;
  write_as_f16(must(Model::open(default_model_path())), scratch / "half.gguf");
  const Model model = must(Model::open(scratch / "half.gguf"));
  const Engine plain = must(Engine::open(model, must(plan_with(model, StandIns::kNone, Budgets::kUnlimited))));
  const Engine engine =
      must(Engine::open(model, must(plan_with(model, StandIns::kFourBits, std::filesystem::file_size(scratch / "half.gguf") / 2))));
  CHECK(engine.plan().self_draft_bits == 4);
  CHECK(engine.plan().decode.streamed_bytes > (uint64_t{64} << 20));
  for (const char* text :
       {"Alice has a red box, a green box and a blue box. In the red box there is", "Write a short poem about the sea."}) {
    CAPTURE(text);
    const GenerateResult result = generated(engine, text, {DraftKind::kSelf, "", 4});
    CHECK(result.tokens == generated(plain, text, {}).tokens);
    CHECK(result.speculation.drafted > 40);
    CHECK(result.speculation.accepted * 10 > result.speculation.drafted * 3);
  }
  CHECK(engine.memory().host.peak_bytes <= engine.plan().host.budget_bytes);
}

}  // namespace
}  // namespace outrigger::testing
