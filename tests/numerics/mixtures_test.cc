// Mixtures of experts: what sets them apart from the other families, on the tiny models of tests/golden/make_families.py.
#include <algorithm>
#include <cstring>

#include "tests/support/golden_text.h"
#include "tests/support/greedy.h"
#include "tests/support/model_bytes.h"

namespace outrigger::testing {
namespace {

constexpr const char* kMixtures[] = {"mixtral", "qwen2moe", "qwen3moe", "qwen3moe-raw"};

TEST_CASE("Experts: one tensor an expert, as files of 2023 have them, gives the bits of stacks") {
  const Model stacked = must(Model::open(tiny_model_path("mixtral"))), split = must(Model::open(tiny_model_path("mixtral-split")));
  const Difference difference = differ_from_oracle(open_engine(split, setup_for(split, reference_setup())), GoldenLogits::read("mixtral"));
  CHECK(difference.most < 3e-5);
  CHECK(difference.other_best == 0);
  for (const EngineSetup& setup : {EngineSetup(), reference_setup()}) {
    Session a = must(Session::open(open_engine(stacked, setup_for(stacked, setup))));
    Session b = must(Session::open(open_engine(split, setup_for(split, setup))));
    const std::vector<Token> tokens = {1, 270, 300, 42, 17, 99, 280, 281};
    must(a.prefill(tokens));
    must(b.prefill(tokens));
    REQUIRE(a.logits().size() == b.logits().size());
    CHECK(std::equal(a.logits().begin(), a.logits().end(), b.logits().begin()));
  }
}

// The least of the changes below moves a logit by 0.3.
TEST_CASE("Experts: each expert's each matrix that is all zero is noticed") {
  for (const char* name : kMixtures) {
    const ModelBytes original(name);
    size_t tried = 0;
    for (const GgufTensor& stack : original.file->tensors()) {
      if (stack.name.find("_exps.") == std::string::npos) continue;
      REQUIRE(stack.rank == 3);
      const uint64_t bytes = stack.bytes / stack.dims[2];
      for (uint64_t expert = 0; expert < stack.dims[2]; ++expert, ++tried) {
        CAPTURE(name, stack.name, expert);
        ModelBytes changed(name);
        std::memset(changed.of(stack) + expert * bytes, 0, bytes);  // zero is the scale of a block, or a number
        CHECK(changed.difference(name).most > 0.1);
      }
    }
    CHECK(tried >= 24);
  }
}

TEST_CASE("Experts: a router's row that is zero, and a shared expert's gate or matrix, are noticed") {
  for (const char* name : kMixtures) {
    const ModelBytes original(name);
    size_t tried = 0;
    for (const GgufTensor& tensor : original.file->tensors()) {
      const bool is_router = tensor.name.ends_with("ffn_gate_inp.weight");
      if (!is_router && tensor.name.find("shexp") == std::string::npos) continue;
      const uint64_t parts = is_router ? tensor.dims[1] : 1, bytes = tensor.bytes / parts;
      for (uint64_t part = 0; part < parts; ++part, ++tried) {
        CAPTURE(name, tensor.name, part);
        ModelBytes changed(name);
        std::memset(changed.of(tensor) + part * bytes, 0, bytes);
        CHECK(changed.difference(name).most > 0.1);
      }
    }
    CHECK(tried == (name == std::string("qwen2moe") ? 2 * (6 + 4) : name == std::string("qwen3moe-raw") ? 8 : 16));
  }
}

TEST_CASE("Experts: whether weights are divided by their sum is the file's to say") {
  ModelBytes changed("qwen3moe-raw");
  CHECK(changed.difference("qwen3moe-raw").most < 3e-5);
  *changed.value_of("qwen3moe.expert_weights_norm") = std::byte{1};
  CHECK(changed.difference("qwen3moe-raw").most > 0.1);
}

TEST_CASE("Experts: more or fewer of them a token are other logits") {
  for (const char* name : kMixtures) {
    CAPTURE(name);
    ModelBytes changed(name);
    std::byte* const used = changed.value_of(std::string(name).starts_with("mixtral") ? "llama.expert_used_count"
                                             : std::string(name) == "qwen2moe"        ? "qwen2moe.expert_used_count"
                                                                                      : "qwen3moe.expert_used_count");
    for (const int more : {-1, 1}) {
      const std::byte before = *used;
      *used = static_cast<std::byte>(static_cast<int>(before) + more);
      CHECK(changed.difference(name).most > 0.1);
      *used = before;
    }
    CHECK(changed.difference(name).most < 3e-5);
  }
}

TEST_CASE("Experts: under the smallest budget and between it and all, greedy tokens are those of transformers") {
  for (const char* name : kMixtures) {
    CAPTURE(name);
    const Model model = must(Model::open(tiny_model_path(name)));
    const EngineSetup free = setup_for(model, reference_setup());
    const uint64_t least = smallest_budget(model, free), all = must(plan_for(model, free)).host.planned_bytes;
    const nlohmann::json golden = golden_text(name);
    for (const uint64_t budget : {least, least + (all - least) / 3, least + (all - least) * 2 / 3}) {
      CAPTURE(budget);
      EngineSetup setup = free;
      setup.host_bytes = budget;
      const Engine engine = open_engine(model, setup);
      for (const nlohmann::json& row : golden.at("greedy")) {
        const auto expected = row.at("tokens").get<std::vector<Token>>();
        CHECK(greedy(engine, row.at("prompt").get<std::vector<Token>>(), static_cast<uint32_t>(expected.size())) == expected);
      }
    }
  }
}

}  // namespace
}  // namespace outrigger::testing
