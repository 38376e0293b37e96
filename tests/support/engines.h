// Opens models and engines for tests.
#ifndef OUTRIGGER_TESTS_SUPPORT_ENGINES_H_
#define OUTRIGGER_TESTS_SUPPORT_ENGINES_H_

#include <outrigger/engine.h>
#include <outrigger/session.h>

#include <cstdlib>
#include <string>

#include "tests/support/catch.h"

namespace outrigger::testing {

/// A committed tiny model by name: "odd-f32", "tied-q4_1", "llama3-mixed", "linear-f16", "dense-f16" (rows of 64 and 128), "mixture-f16"
/// (the same with three equal experts), "q8_0-one-layer"; and one of each family (golden_text.h).
inline std::string tiny_model_path(const std::string& name) {
  return std::string(OTR_SOURCE_DIR) + "/tests/golden/logits/" + name + ".gguf";
}

/// The default model, where `bootstrap model` puts it; OUTRIGGER_MODEL names another place.
inline std::string default_model_path() {
  if (const char* path = std::getenv("OUTRIGGER_MODEL")) return path;
  const char* cache = std::getenv("OUTRIGGER_CACHE");
  const char* home = std::getenv("HOME");
  return (cache ? std::string(cache) : std::string(home ? home : "") + "/.cache/outrigger") + "/SmolLM2-135M-Instruct.Q4_1.gguf";
}

/// The value, or a failed test with the error's text.
template <typename T>
T must(Result<T> result) {
  INFO(result.status().to_string());
  REQUIRE(result.is_ok());
  return std::move(result).value();
}
inline void must(const Status& status) {
  INFO(status.to_string());
  REQUIRE(status.is_ok());
}

/// Rates that make every lane matter, so that plans in tests do not depend on the machine they run on.
inline MachineProfile made_up_machine(uint32_t threads) {
  MachineProfile machine;
  machine.machine = "made up";
  machine.threads = threads;
  machine.host_stream_bytes.per_s = 40e9;
  machine.host_int8_ops.per_s = 600e9;
  machine.host_small_batch_ops.per_s = 300e9;
  machine.host_attention_flops.per_s = 100e9;
  machine.host_repack_bytes.per_s = 4e9;
  machine.disk_bytes.per_s = 1e9;
  machine.host_step_overhead_us = 50;
  return machine;
}

struct EngineSetup {
  uint64_t host_bytes = Budgets::kUnlimited;
  uint32_t threads = 2;
  uint32_t context_tokens = 256;
  uint32_t batch = 1;
  uint32_t logit_rows = 8;
  KvType kv_type = KvType::kF16;
  Numerics numerics = Numerics::kFast;
  uint32_t kv_spilled_layers = Workload::kAsItPays;
};

/// Everything in float32.
inline EngineSetup reference_setup() {
  EngineSetup setup;
  setup.kv_type = KvType::kF32;
  setup.numerics = Numerics::kFloat32;
  return setup;
}

inline Result<Plan> plan_for(const Model& model, const EngineSetup& setup) {
  const Result<StepShape> shape = model.step_shape();
  if (!shape.is_ok()) return shape.status();
  Workload workload;
  workload.prompt_tokens = setup.context_tokens / 2;
  workload.new_tokens = setup.context_tokens - workload.prompt_tokens;
  workload.batch = setup.batch;
  workload.context_tokens = setup.context_tokens;
  workload.logit_rows = setup.logit_rows;
  workload.kv_type = setup.kv_type;
  workload.kv_spilled_layers = setup.kv_spilled_layers;
  return PlacementPlanner::plan(shape.value(), made_up_machine(setup.threads), {setup.host_bytes, Budgets::kUnlimited}, workload);
}

/// The smallest budget that setup's workload can run in.
inline uint64_t smallest_budget(const Model& model, EngineSetup setup) {
  setup.host_bytes = 1;
  return plan_for(model, setup).status().needed_bytes();
}

inline Engine open_engine(const Model& model, const EngineSetup& setup = {}) {
  EngineOptions options;
  options.numerics = setup.numerics;
  return must(Engine::open(model, must(plan_for(model, setup)), options));
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_ENGINES_H_
