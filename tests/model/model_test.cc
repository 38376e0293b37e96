// Model: what opens, what it says about itself, and why something cannot run.
#include <outrigger/model.h>

#include <cstring>
#include <fstream>

#include "tests/support/engines.h"
#include "tests/support/gguf_writer.h"

namespace outrigger::testing {
namespace {

std::vector<std::byte> file_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::vector<char> chars((std::istreambuf_iterator<char>(in)), {});
  std::vector<std::byte> bytes(chars.size());
  std::memcpy(bytes.data(), chars.data(), chars.size());
  return bytes;
}

TEST_CASE("Model: facts come from the header") {
  const ModelInfo info = must(Model::open(tiny_model_path("llama3-mixed"))).info();
  CHECK(info.architecture == "llama");
  CHECK(info.name == "llama3-mixed");
  CHECK(info.layers == 2);
  CHECK(info.heads == 6);
  CHECK(info.kv_heads == 3);
  CHECK(info.head_dim == 16);
  CHECK(info.width == 96);
  CHECK(info.ffn_width == 96);
  CHECK(info.vocabulary_tokens == 261);
  CHECK(info.context_tokens == 256);
  CHECK(info.tokenizer == "bpe (gpt-2)");
  CHECK(info.can_run);
  CHECK(info.why_not.empty());
}

TEST_CASE("Model: the same bytes from memory give the same logits") {
  const std::vector<std::byte> bytes = file_bytes(tiny_model_path("tied-q4_1"));
  Session from_memory = must(Session::open(open_engine(must(Model::open_memory(bytes)))));
  Session from_file = must(Session::open(open_engine(must(Model::open(tiny_model_path("tied-q4_1"))))));
  const std::vector<Token> tokens = {1, 2, 3};
  must(from_memory.prefill(tokens));
  must(from_file.prefill(tokens));
  CHECK(std::equal(from_memory.logits().begin(), from_memory.logits().end(), from_file.logits().begin(), from_file.logits().end()));
}

ProductKind product_of(const StepShape& shape, const std::string& name) {
  for (const MatrixShape& matrix : shape.matrices) {
    if (matrix.name == name) return matrix.product;
  }
  FAIL("no matrix " << name);
  return ProductKind::kInt8;
}

TEST_CASE("Model: the shape of a step says what kind of product each matrix needs") {
  const StepShape mixed = must(must(Model::open(tiny_model_path("llama3-mixed"))).step_shape());
  CHECK(product_of(mixed, "blk.0.attn_q.weight") == ProductKind::kFloat32);    // F16
  CHECK(product_of(mixed, "blk.0.attn_k.weight") == ProductKind::kFloat32);    // BF16, in a window whose panel is int8
  CHECK(product_of(mixed, "blk.0.attn_v.weight") == ProductKind::kInt8Twice);  // Q4_0
  CHECK(product_of(mixed, "blk.0.attn_output.weight") == ProductKind::kInt8);  // Q8_0
  const StepShape floats = must(must(Model::open(tiny_model_path("linear-f16"))).step_shape());
  CHECK(product_of(floats, "blk.0.attn_k.weight") == ProductKind::kBf16);
  CHECK(product_of(floats, "blk.0.attn_v.weight") == ProductKind::kFloat32);  // F16
  const StepShape tied = must(must(Model::open(tiny_model_path("tied-q4_1"))).step_shape());
  CHECK(product_of(tied, "token_embd.weight") == ProductKind::kInt8Twice);
  CHECK(product_of(tied, "blk.0.ffn_down.weight") == ProductKind::kInt8);
  for (const MatrixShape& matrix : must(must(Model::open(tiny_model_path("odd-f32"))).step_shape()).matrices)
    CHECK(matrix.product == ProductKind::kFloat32);
}

TEST_CASE("Model: what is well formed but not computed opens, says why, and is refused by name") {
  GgufWriter writer;
  writer.add_string("general.architecture", "mamba");
  writer.add_tensor("some.weight", DType::kF32, {32}, std::vector<std::byte>(128));
  const std::vector<std::byte> bytes = writer.finish();
  const Model model = must(Model::open_memory(bytes));
  CHECK(!model.info().can_run);
  CHECK(model.info().why_not == "architecture \"mamba\" is not computed by this version (llama, qwen2, qwen2moe, qwen3 and qwen3moe are)");
  CHECK(model.step_shape().status().code() == StatusCode::kUnsupported);
  CHECK(Engine::open(model, Plan()).status().code() == StatusCode::kUnsupported);
  CHECK(model.tokenizer().status().code() == StatusCode::kUnsupported);
}

TEST_CASE("Model: a missing file, a folder and an empty file are told apart") {
  CHECK(Model::open("/no/such/model.gguf").status().code() == StatusCode::kNotFound);
  CHECK(Model::open("/").status().code() == StatusCode::kIo);
  CHECK(Model::open_memory({}).status().code() == StatusCode::kCorruptFile);
}

TEST_CASE("Engine: a plan of another model, and one that was tampered with, are refused") {
  const Model model = must(Model::open(tiny_model_path("tied-q4_1"))), other = must(Model::open(tiny_model_path("odd-f32")));
  Plan plan = must(plan_for(model, {}));
  CHECK(Engine::open(other, plan).status().code() == StatusCode::kInvalidArgument);
  plan.host.breakdown.activations -= 64;
  CHECK(Engine::open(model, plan).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Engine: devices that are not there or not named right are refused") {
  const Model model = must(Model::open(tiny_model_path("tied-q4_1")));
  EngineOptions options;
  options.device = "cuda:9999";
  CHECK(Engine::open(model, must(plan_for(model, {})), options).status().code() == StatusCode::kUnavailable);
  options.device = "emulated:memory=1MiB";
  CHECK(Engine::open(model, must(plan_for(model, {})), options).status().code() == StatusCode::kInvalidArgument);
  options.device = "abacus";
  CHECK(Engine::open(model, must(plan_for(model, {})), options).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Engine: measured bytes equal the plan's, category by category") {
  const Model model = must(Model::open(tiny_model_path("llama3-mixed")));
  EngineSetup setup{.batch = 2};
  for (const uint64_t extra : {0, 50000, 10000000}) {
    setup.host_bytes = smallest_budget(model, setup) + extra;
    const Engine engine = open_engine(model, setup);
    const Session a = must(Session::open(engine)), b = must(Session::open(engine));
    const TierUse host = engine.memory().host;
    const TierBreakdown& planned = engine.plan().host.breakdown;
    CHECK(host.current.weights_resident == planned.weights_resident);
    CHECK(host.current.stream_slots == planned.stream_slots);
    CHECK(host.current.kv_cache == planned.kv_cache);
    CHECK(host.current.activations == planned.activations);
    CHECK(host.current_bytes == engine.plan().host.planned_bytes);
    CHECK(host.peak_bytes == host.current_bytes);
  }
}

TEST_CASE("Engine: loading can be cancelled from its progress") {
  const Model model = must(Model::open(tiny_model_path("odd-f32")));
  EngineOptions options;
  options.progress = [](double) { return false; };
  CHECK(Engine::open(model, must(plan_for(model, {})), options).status().code() == StatusCode::kCancelled);
}

}  // namespace
}  // namespace outrigger::testing
