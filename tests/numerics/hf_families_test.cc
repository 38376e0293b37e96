// Every family through its Hugging Face directory: the same oracles as for the GGUF files beside them.
#include <algorithm>
#include <string>

#include "src/base/bytes.h"
#include "tests/numerics/golden_tokens.h"
#include "tests/support/greedy.h"
#include "tests/support/logits_difference.h"

namespace outrigger::testing {
namespace {

/// The directories that tests/golden/make_families.py writes. qwen2 is in two files with an index; llama3 and qwen3-yarn scale RoPE by
/// numbers; dtypes and the old and new ways to state RoPE are mixed. mixtral states no base of RoPE; qwen2moe's experts are in two files.
constexpr const char* kFolders[] = {"tinyllama", "smollm",     "llama3",  "mistral",  "llama-biases", "qwen2",
                                    "qwen3",     "qwen3-yarn", "mixtral", "qwen2moe", "qwen3moe",     "qwen3moe-raw"};

std::string folder_of(const std::string& name) { return std::string(OTR_SOURCE_DIR) + "/tests/golden/hf/" + name; }

EngineSetup setup_for(const Model& model, EngineSetup setup = reference_setup()) {
  setup.context_tokens = static_cast<uint32_t>(std::min<uint64_t>(model.info().context_tokens, 256));
  return setup;
}

TEST_CASE("Directories: logits in float32 are those of transformers") {
  for (const char* name : kFolders) {
    CAPTURE(name);
    const Model model = must(Model::open(folder_of(name)));
    const Difference difference = differ_from_oracle(open_engine(model, setup_for(model)), GoldenLogits::read(name));
    CAPTURE(difference.most);
    CHECK(difference.most < 3e-5);
    CHECK(difference.other_best == 0);
  }
}

TEST_CASE("Directories: greedy tokens are those of transformers, under the smallest budget too") {
  for (const char* name : kFolders) {
    CAPTURE(name);
    const Model model = must(Model::open(folder_of(name)));
    EngineSetup tight = setup_for(model);
    tight.host_bytes = smallest_budget(model, tight);
    for (const EngineSetup& setup : {setup_for(model), tight}) {
      const Engine engine = open_engine(model, setup);
      const nlohmann::json golden = golden_text(name);
      for (const nlohmann::json& row : golden.at("greedy")) {
        const std::vector<Token> expected = tokens_of(row.at("tokens"));
        CHECK(greedy(engine, tokens_of(row.at("prompt")), static_cast<uint32_t>(expected.size())) == expected);
      }
    }
  }
}

TEST_CASE("Directories: texts and conversations become the tokens that the tokenizers package makes of them") {
  for (const char* name : kFolders) {
    CAPTURE(name);
    check_golden_tokens(golden_text(name), must(must(Model::open(folder_of(name))).tokenizer()));
  }
}

/// blk.N.ffn_up_exps.E.weight of a directory is a part of the file's blk.N.ffn_up_exps.weight; other names are the same.
std::string name_in_file(const std::string& name) {
  const size_t stack = name.find("_exps.");
  return stack == std::string::npos ? name : name.substr(0, stack) + "_exps.weight";
}

TEST_CASE("Directories: facts, vocabulary and catalogue are those of the GGUF file beside them") {
  for (const char* name : kFolders) {
    CAPTURE(name);
    const Model folder = must(Model::open(folder_of(name))), file = must(Model::open(tiny_model_path(name)));
    const ModelInfo &a = folder.info(), &b = file.info();
    CHECK(a.file == folder_of(name));
    CHECK(a.name == name);
    CHECK(a.can_run);
    CHECK(a.architecture == b.architecture);
    CHECK(a.context_tokens == b.context_tokens);
    CHECK(a.layers == b.layers);
    CHECK(a.heads == b.heads);
    CHECK(a.kv_heads == b.kv_heads);
    CHECK(a.head_dim == b.head_dim);
    CHECK(a.width == b.width);
    CHECK(a.ffn_width == b.ffn_width);
    CHECK(a.vocabulary_tokens == b.vocabulary_tokens);
    const Tokenizer ours = must(folder.tokenizer()), theirs = must(file.tokenizer());
    CHECK(ours.kind() == theirs.kind());
    CHECK(ours.bos() == theirs.bos());
    CHECK(ours.eos() == theirs.eos());
    CHECK(ours.adds_bos() == theirs.adds_bos());
    for (Token token = 0; token < ours.vocabulary_tokens(); ++token) {
      CAPTURE(token);
      const std::string piece = must(theirs.piece(token, true));
      // Rows of the embedding that no token has: the GGUF file gives them a made-up text.
      CHECK(must(ours.piece(token, true)) == (piece.starts_with("[PAD") ? "" : piece));
      CHECK(ours.ends_generation(token) == theirs.ends_generation(token));
    }
    for (const TensorInfo& tensor : folder.tensors()) {
      CAPTURE(tensor.name);
      CHECK(tensor.file.starts_with(folder_of(name) + "/model"));
      const std::vector<TensorInfo> all = file.tensors();
      const std::string there = name_in_file(tensor.name);
      const auto same = std::find_if(all.begin(), all.end(), [&](const TensorInfo& other) { return other.name == there; });
      REQUIRE(same != all.end());
      std::vector<uint64_t> shape = same->shape;
      if (there != tensor.name) shape.resize(2);
      CHECK(shape == tensor.shape);
    }
  }
}

TEST_CASE("Directories: any of three files names the directory, and a trailing slash changes nothing") {
  const std::string one = folder_of("smollm"), two = folder_of("qwen2");
  for (const std::string& path : {one + "/", one + "/config.json", one + "/model.safetensors"})
    CHECK(must(Model::open(path)).info().file == one);
  CHECK(must(Model::open(two + "/model.safetensors.index.json")).info().file == two);
  CHECK(Model::open(one + "/tokenizer.json").status().code() == StatusCode::kCorruptFile);
}

TEST_CASE("Directories: a saved state goes on in another engine of the same directory, and in no other model's") {
  const Model model = must(Model::open(folder_of("qwen2")));
  const Engine engine = open_engine(model, setup_for(model));
  Session session = must(Session::open(engine));
  const std::vector<Token> prompt = {1, 2, 3, 4, 5};
  must(session.prefill(prompt));
  const std::vector<std::byte> state = must(session.save());
  const Model again = must(Model::open(folder_of("qwen2")));
  Session other = must(Session::open(open_engine(again, setup_for(again))));
  must(other.restore(state));
  GenerateOptions options;
  options.max_tokens = 8;
  options.ignore_eos = true;
  const std::vector<Token> next = {6};
  CHECK(must(other.generate(next, options)).tokens == must(session.generate(next, options)).tokens);
  const Model file = must(Model::open(tiny_model_path("qwen2")));
  Session foreign = must(Session::open(open_engine(file, setup_for(file))));
  CHECK(foreign.restore(state).code() == StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace outrigger::testing
