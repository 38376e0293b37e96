// HfExperts: names of a mixture's tensors both ways, and how directories of the three families appear. What is refused is in the catalogue
// of malformed directories (tests/golden/make_bad_hf.py).
#include "src/model/hf_experts.h"

#include <outrigger/model.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/engines.h"

namespace outrigger::testing {
namespace {

struct Pair {
  const char* architecture;
  const char* theirs;
  const char* ours;
};

TEST_CASE("Experts: names of a directory and of GGUF lead to each other") {
  for (const Pair& pair : {Pair{"llama", "block_sparse_moe.gate.weight", "ffn_gate_inp.weight"},
                           {"llama", "block_sparse_moe.experts.0.w1.weight", "ffn_gate_exps.0.weight"},
                           {"llama", "block_sparse_moe.experts.17.w3.weight", "ffn_up_exps.17.weight"},
                           {"llama", "block_sparse_moe.experts.4095.w2.weight", "ffn_down_exps.4095.weight"},
                           {"qwen2moe", "mlp.gate.weight", "ffn_gate_inp.weight"},
                           {"qwen2moe", "mlp.shared_expert_gate.weight", "ffn_gate_inp_shexp.weight"},
                           {"qwen2moe", "mlp.shared_expert.gate_proj.weight", "ffn_gate_shexp.weight"},
                           {"qwen2moe", "mlp.shared_expert.up_proj.weight", "ffn_up_shexp.weight"},
                           {"qwen2moe", "mlp.shared_expert.down_proj.weight", "ffn_down_shexp.weight"},
                           {"qwen3moe", "mlp.experts.0.gate_proj.weight", "ffn_gate_exps.0.weight"},
                           {"qwen3moe", "mlp.experts.9.up_proj.weight", "ffn_up_exps.9.weight"},
                           {"qwen3moe", "mlp.experts.127.down_proj.weight", "ffn_down_exps.127.weight"}}) {
    CAPTURE(pair.theirs);
    CHECK(gguf_mixture_name(pair.theirs, pair.architecture) == pair.ours);
    CHECK(hf_mixture_name(pair.ours, pair.architecture) == pair.theirs);
  }
}

TEST_CASE("Experts: what is spelled otherwise is no expert's") {
  for (const char* name :
       {"", "mlp.gate.weight", "mlp.experts.0.gate_proj.weight", "block_sparse_moe.experts..w1.weight",
        "block_sparse_moe.experts.00.w1.weight", "block_sparse_moe.experts.-1.w1.weight", "block_sparse_moe.experts.1.w4.weight",
        "block_sparse_moe.experts.1.w1.bias", "block_sparse_moe.experts.1", "block_sparse_moe.experts.18446744073709551616.w1.weight"}) {
    CAPTURE(name);
    CHECK(!gguf_mixture_name(name, "llama"));
  }
  CHECK(!gguf_mixture_name("", "qwen2moe"));
  CHECK(!gguf_mixture_name("block_sparse_moe.gate.weight", "qwen3moe"));
  CHECK(!hf_mixture_name("ffn_gate_shexp.weight", "llama"));
  CHECK(!hf_mixture_name("ffn_gate_exps.weight", "llama"));
  CHECK(!expert_part("ffn_gate_exps.0.bias"));
  CHECK(!expert_part("ffn_norm.weight"));
}

const TensorInfo* find(const std::vector<TensorInfo>& tensors, const std::string& name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const TensorInfo& tensor) { return tensor.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

TEST_CASE("Experts: a directory's are one tensor each, with the router and the shared expert under GGUF's names and shapes") {
  using Shape = std::vector<uint64_t>;
  struct Row {
    const char* folder;
    const char* architecture;
    uint64_t ffn;
    uint64_t tensors;  ///< embedding, norm, head; two norms and four matrices of attention; router; 4 x 3; what else the family has
  };
  for (const Row& row : {Row{"/valid_mixtral", "llama", 64, 22}, Row{"/valid_qwen2_moe", "qwen2moe", 24, 22 + 4 + 3},
                         Row{"/valid_qwen3_moe", "qwen3moe", 24, 22 + 2}}) {
    CAPTURE(row.folder);
    const Model model = must(Model::open(OTR_BAD_HF_DIR + std::string(row.folder)));
    CHECK(model.info().architecture == row.architecture);
    const std::vector<TensorInfo> tensors = model.tensors();
    CHECK(tensors.size() == row.tensors);
    for (const std::string expert : {"0", "3"}) {
      for (const std::string part : {"gate", "up", "down"}) {
        const TensorInfo* tensor = find(tensors, "blk.0.ffn_" + part + "_exps." + expert + ".weight");
        REQUIRE(tensor != nullptr);
        CHECK(tensor->shape == (part == "down" ? Shape{row.ffn, 32} : Shape{32, row.ffn}));
      }
    }
    REQUIRE(find(tensors, "blk.0.ffn_gate_inp.weight") != nullptr);
    CHECK(find(tensors, "blk.0.ffn_gate_inp.weight")->shape == Shape{32, 4});
    const TensorInfo* gate = find(tensors, "blk.0.ffn_gate_inp_shexp.weight");
    REQUIRE((gate != nullptr) == (row.architecture == std::string("qwen2moe")));
    if (gate == nullptr) continue;
    CHECK(gate->shape == Shape{32});
    CHECK(find(tensors, "blk.0.ffn_down_shexp.weight")->shape == Shape{48, 32});
    CHECK(find(tensors, "blk.0.ffn_up_shexp.weight")->shape == Shape{32, 48});
  }
}

}  // namespace
}  // namespace outrigger::testing
