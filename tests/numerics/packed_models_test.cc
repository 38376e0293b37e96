// Packed models compute the same bits as those they were made from: resident, streamed through the smallest budget, from files and
// directories.
#include <outrigger/pack.h>

#include <algorithm>
#include <cstring>

#include "tests/support/golden_text.h"
#include "tests/support/greedy.h"
#include "tests/support/scratch_folder.h"

namespace outrigger::testing {
namespace {

EngineSetup setup_for(const Model& model, EngineSetup setup) {
  setup.context_tokens = static_cast<uint32_t>(std::min<uint64_t>(model.info().context_tokens, 256));
  return setup;
}

/// The logits after each token of a prompt and of what follows it greedily.
std::vector<float> all_logits(const Model& model, EngineSetup setup, uint64_t* streamed_bytes) {
  const Engine engine = open_engine(model, setup);
  Session session = must(Session::open(engine));
  std::vector<Token> prompt(40);
  for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<Token>(i * 37 % 250);
  std::vector<float> all;
  const auto keep = [&all](std::span<const float> logits) { all.insert(all.end(), logits.begin(), logits.end()); };
  must(session.evaluate(prompt, [&keep](size_t, std::span<const float> logits) { keep(logits); }));
  for (int i = 0; i < 6; ++i) {
    const std::span<const float> logits = session.logits();
    must(session.step(static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin())));
    keep(session.logits());
  }
  *streamed_bytes = engine.streamed().disk_bytes;
  return all;
}

void check_same_bits(const std::string& path) {
  const ScratchFolder scratch;
  const Model plain = must(Model::open(path));
  must(pack_model(plain, scratch / "packed.gguf"));
  const Model packed = must(Model::open(scratch / "packed.gguf"));
  for (const Numerics numerics : {Numerics::kFast, Numerics::kFloat32}) {
    EngineSetup setup = setup_for(plain, {.threads = numerics == Numerics::kFast ? 2u : 1u, .numerics = numerics});
    uint64_t streamed_bytes = 0;
    const std::vector<float> expected = all_logits(plain, setup, &streamed_bytes);
    CHECK(streamed_bytes == 0);
    for (const bool streams : {false, true}) {
      if (streams) setup.host_bytes = smallest_budget(packed, setup);
      const std::vector<float> logits = all_logits(packed, setup, &streamed_bytes);
      CHECK((streamed_bytes > 0) == streams);
      REQUIRE(logits.size() == expected.size());
      CHECK(std::memcmp(logits.data(), expected.data(), logits.size() * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("Packed models: every tiny model gives the same logits, resident and streamed through the smallest budget") {
  for (const char* name : {"odd-f32", "tied-q4_1", "llama3-mixed", "linear-f16", "q8_0-one-layer", "mixtral-split"}) {
    CAPTURE(name);
    check_same_bits(tiny_model_path(name));
  }
  for (const char* name : kFamilies) {
    CAPTURE(name);
    check_same_bits(tiny_model_path(name));
  }
}

TEST_CASE("Packed models: so does every directory, whose tokenizer and chat template come along") {
  for (const char* name : kFamilies) {
    CAPTURE(name);
    const std::string folder = std::string(OTR_SOURCE_DIR) + "/tests/golden/hf/" + name;
    check_same_bits(folder);
    const ScratchFolder scratch;
    const Model plain = must(Model::open(folder));
    must(pack_model(plain, scratch / "packed.gguf"));
    const Model packed = must(Model::open(scratch / "packed.gguf"));
    CHECK(packed.info().name == plain.info().name);
    CHECK(packed.info().chat_template == plain.info().chat_template);
    const nlohmann::json golden = golden_text(name);
    for (const nlohmann::json& row : golden.at("cases")) {
      const std::string text = row.at("text");
      CHECK(must(must(packed.tokenizer()).encode(text)) == must(must(plain.tokenizer()).encode(text)));
    }
  }
}

TEST_CASE("Packed models: a plan is that of the packed file, not of the one it was made from") {
  const ScratchFolder scratch;
  const Model plain = must(Model::open(tiny_model_path("llama3-mixed")));
  must(pack_model(plain, scratch / "packed.gguf"));
  const Model packed = must(Model::open(scratch / "packed.gguf"));
  const Plan plan = must(plan_for(packed, {.host_bytes = smallest_budget(packed, {})}));
  CHECK(check_plan(plan, must(packed.step_shape())).is_ok());
  CHECK(Engine::open(plain, plan).status().code() == StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace outrigger::testing
