// Every family against transformers in float32 on a tiny model of its own (tests/golden/make_families.py).
#include <cmath>
#include <cstring>

#include "tests/numerics/golden_tokens.h"
#include "tests/support/greedy.h"
#include "tests/support/heap_watch.h"
#include "tests/support/model_bytes.h"

namespace outrigger::testing {
namespace {

TEST_CASE("Families: logits in float32 are those of transformers") {
  for (const char* name : kFamilies) {
    CAPTURE(name);
    const Model model = must(Model::open(tiny_model_path(name)));
    const Difference difference = differ_from_oracle(open_engine(model, setup_for(model, reference_setup())), GoldenLogits::read(name));
    CAPTURE(difference.most);
    CHECK(difference.most < 3e-5);  // logits reach 7: some 60 units in the last place
    CHECK(difference.other_best == 0);
  }
}

TEST_CASE("Families: the fast path stays close to float32, and would be noticed if nothing were rounded") {
  for (const char* name : kFamilies) {
    CAPTURE(name);
    const Model model = must(Model::open(tiny_model_path(name)));
    const Difference difference = differ_from_oracle(open_engine(model, setup_for(model)), GoldenLogits::read(name));
    CAPTURE(difference.most);
    const bool has_int8_products = std::string(name) != "llama-biases";  // F16 weights: only keys and values are rounded
    // Mixtral's is the one whose experts' weights move most with the rounding of what its routers read; an expert that is wrong moves a
    // logit by 1.5.
    CHECK(difference.most < (!has_int8_products ? 0.02 : std::string(name) == "mixtral" ? 0.5 : 0.25));
    CHECK(difference.most > (has_int8_products ? 4e-3 : 1e-5));
  }
}

TEST_CASE("Families: greedy tokens are those of transformers") {
  for (const char* name : kFamilies) {
    CAPTURE(name);
    const Model model = must(Model::open(tiny_model_path(name)));
    const Engine engine = open_engine(model, setup_for(model, reference_setup()));
    const nlohmann::json golden = golden_text(name);
    for (const nlohmann::json& row : golden.at("greedy")) {
      const std::vector<Token> expected = tokens_of(row.at("tokens"));
      CHECK(greedy(engine, tokens_of(row.at("prompt")), static_cast<uint32_t>(expected.size())) == expected);
    }
  }
}

TEST_CASE("Families: greedy text on the fast path is the same for 1, 2 and 3 threads and prompts in chunks of 1, 7, 64 and 512") {
  constexpr uint32_t kNew = 16;
  for (const char* name : kFamilies) {
    CAPTURE(name);
    const Model model = must(Model::open(tiny_model_path(name)));
    const EngineSetup setup = setup_for(model);
    std::vector<Token> prompt(setup.context_tokens - kNew);
    for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<Token>(i * 37 % model.info().vocabulary_tokens);
    std::vector<Token> expected;
    for (const uint32_t threads : {1u, 2u, 3u}) {
      EngineSetup with = setup;
      with.threads = threads;
      const Engine engine = open_engine(model, with);
      for (const size_t chunk : {1, 7, 64, 512}) {
        CAPTURE(threads, chunk);
        const std::vector<Token> tokens = greedy(engine, prompt, kNew, chunk);
        if (expected.empty()) expected = tokens;
        CHECK(tokens.size() == kNew);
        CHECK(tokens == expected);
      }
    }
  }
}

TEST_CASE("Families: texts and conversations become the tokens that the tokenizers package makes of them") {
  for (const char* name : kFamilies) {
    CAPTURE(name);
    const nlohmann::json golden = golden_text(name);
    const Tokenizer tokenizer = must(must(Model::open(tiny_model_path(name))).tokenizer());
    check_golden_tokens(golden, tokenizer);

    const nlohmann::json& chat = golden.at("chat");
    std::vector<ChatMessage> messages;
    for (const nlohmann::json& message : chat.at("messages")) messages.push_back({message.at("role"), message.at("content")});
    // SentencePiece spells a space before every text, also after a mark: its conversations are compared where the layouts are tested.
    if (tokenizer.kind() == "spm") continue;
    CHECK(must(tokenizer.decode(must(tokenizer.chat(messages)), true)) == chat.at("text").get<std::string>());
  }
}

TEST_CASE("Families: a bias that is not added and a norm that does not weigh are noticed, each of them") {
  for (const char* name : {"llama-biases", "qwen2", "qwen3", "qwen3-yarn", "llama3", "mixtral", "qwen2moe", "qwen3moe"}) {
    const ModelBytes original(name);
    size_t tried = 0;
    for (const GgufTensor& tensor : original.file->tensors()) {
      const bool is_bias = tensor.name.ends_with(".bias");
      if (tensor.rank != 1) continue;
      CAPTURE(name, tensor.name);
      ModelBytes changed(name);
      for (uint64_t i = 0; i < tensor.elements(); ++i) {
        const float neutral = is_bias ? 0 : 1;
        std::memcpy(changed.of(tensor) + i * sizeof neutral, &neutral, sizeof neutral);
      }
      // A key's bias adds the same to all scores of a query, except that RoPE turns it with the position: its effect is the smallest.
      CHECK(changed.difference(name).most > 1e-3);
      ++tried;
    }
    CHECK(tried >= 5);
  }
}

// The rows of each head from pairs side by side to halves.
void separate_halves(std::byte* rows, uint64_t heads, uint64_t head_rows, uint64_t row_bytes) {
  for (uint64_t head = 0; head < heads; ++head) {
    std::byte* const first = rows + head * head_rows * row_bytes;
    const std::vector<std::byte> before(first, first + head_rows * row_bytes);
    for (uint64_t i = 0; i < head_rows; ++i)
      std::memcpy(first + (i / 2 + i % 2 * (head_rows / 2)) * row_bytes, before.data() + i * row_bytes, row_bytes);
  }
}

TEST_CASE("Families: with rope.halves, rows of q and k in Hugging Face's order give the same logits") {
  const char* const name = "tinyllama";
  ModelBytes changed(name);
  for (const GgufTensor& tensor : changed.file->tensors()) {
    const bool is_q = tensor.name.ends_with("attn_q.weight");
    if (is_q || tensor.name.ends_with("attn_k.weight")) separate_halves(changed.of(tensor), is_q ? 4 : 2, 8, tensor.bytes / tensor.rows());
  }
  CHECK(changed.difference(name).most > 1e-2);
  *changed.value_of("llama.rope.halves") = std::byte{1};
  CHECK(changed.difference(name).most < 2e-5);
}

TEST_CASE("Families: a context beyond the sliding window is refused with the reason, within it the window changes nothing") {
  const Model model = must(Model::open(tiny_model_path("mistral")));
  CHECK(model.info().context_tokens == 64);
  CHECK(plan_for(model, {.context_tokens = 64}).is_ok());
  const Status refused = plan_for(model, {.context_tokens = 65}).status();
  CHECK(refused.code() == StatusCode::kInvalidArgument);
  CHECK(refused.to_string().find("looks back over 64 tokens") != std::string::npos);
}

TEST_CASE("Families: biases and norms are planned and held as fixed memory") {
  struct Row {
    const char* name;
    uint64_t floats;  // each tensor takes whole lines of 16
  };
  // Two layers, width 32, ffn 64, q 32, k and v 16 rows; norms: two a layer and the last one. llama-biases: width, q, k and v 40, ffn 52.
  for (const Row& row : {Row{"tinyllama", 5 * 32}, Row{"qwen2", 5 * 32 + 2 * (32 + 16 + 16)}, Row{"qwen3", 5 * 32 + 2 * (16 + 16)},
                         Row{"llama3", 5 * 32 + 16}, Row{"llama-biases", 5 * 48 + 2 * (3 * 48 + 48 + 2 * 64 + 48)}}) {
    CAPTURE(row.name);
    CHECK(must(must(Model::open(tiny_model_path(row.name))).step_shape()).fixed_bytes == row.floats * sizeof(float));
  }
}

TEST_CASE("Families: steps allocate nothing") {
  for (const char* name : kFamilies) {
    CAPTURE(name);
    const Model model = must(Model::open(tiny_model_path(name)));
    Session session = must(Session::open(open_engine(model, setup_for(model))));
    const std::vector<Token> prompt = {1, 2, 3, 4, 5, 6, 7};
    must(session.prefill(prompt));
    const uint64_t before = heap_allocations();
    for (Token token = 10; token < 20; ++token) {
      if (!session.step(token).is_ok()) FAIL("a step failed");
    }
    const uint64_t during = heap_allocations() - before;
    CHECK(during == 0);
  }
}

TEST_CASE("Families: a rope_freqs tensor with a factor that is no positive number is refused when the engine opens") {
  for (const float factor : {0.0f, -1.0f, NAN, INFINITY}) {
    ModelBytes changed("llama3");
    std::memcpy(changed.of(*changed.file->find_tensor("rope_freqs.weight")) + 4, &factor, sizeof factor);
    const Model model = must(Model::open_memory(changed.bytes));
    const Status refused = Engine::open(model, must(plan_for(model, {})), {}).status();
    CHECK(refused.code() == StatusCode::kCorruptFile);
    CHECK(refused.to_string().find("rope_freqs.weight: factor 1 is") != std::string::npos);
  }
}

}  // namespace
}  // namespace outrigger::testing
