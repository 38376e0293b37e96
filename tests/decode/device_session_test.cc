// Sessions of an engine with a device: wherever parts of the model are placed, the bits are those of the host alone.
#include <outrigger/session.h>

#include "tests/support/allocations.h"
#include "tests/support/device_plans.h"
#include "tests/support/golden_text.h"
#include "tests/support/greedy.h"

namespace outrigger::testing {
namespace {

const std::vector<Token> kPrompt = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8,
                                    4, 6, 2, 6, 4, 3, 3, 8, 3, 2, 7, 9, 5, 0, 2, 8, 8, 4};

DeviceSetup on_this(DeviceSetup setup) {
  setup.threads = std::max(setup.threads, test_device_threads());
  return setup;
}

struct Placing {
  const char* name;
  PlaceOf place_of;
  DeviceSetup setup;
};

bool is_attention(const MatrixShape& matrix) { return matrix.part == MatrixPart::kAttention; }
bool is_ffn(const MatrixShape& matrix) { return matrix.part == MatrixPart::kFeedForward; }

const std::vector<Placing>& placings() {
  static const std::vector<Placing> all = {
      {"everything", [](const MatrixShape&) { return Place::kDevice; }, {}},
      {"nothing", [](const MatrixShape&) { return Place::kHost; }, {}},
      {"attention", [](const MatrixShape& matrix) { return is_attention(matrix) ? Place::kDevice : Place::kHost; }, {}},
      {"feed forward", [](const MatrixShape& matrix) { return is_ffn(matrix) ? Place::kDevice : Place::kHost; }, {1, 2, 0, 3}},
      {"odd layers", [](const MatrixShape& matrix) { return matrix.layer % 2 == 1 ? Place::kDevice : Place::kHost; }, {1, 2, 0, 2}},
      {"the head", [](const MatrixShape& matrix) { return matrix.part == MatrixPart::kHead ? Place::kDevice : Place::kHost; }, {}},
      {"everything streams", [](const MatrixShape&) { return Place::kStreamed; }, {}},
      {"layers stream, large slots",
       [](const MatrixShape& matrix) { return matrix.part == MatrixPart::kHead ? Place::kDevice : Place::kStreamed; },
       {1, 3, 65536, 2}},
      {"feed forward streams in larger steps",
       [](const MatrixShape& matrix) { return is_ffn(matrix) ? Place::kStreamed : Place::kHost; },
       {5, 3, 0, 1}},
      {"attention, by words",
       [](const MatrixShape& matrix) { return is_attention(matrix) ? Place::kDevice : Place::kHost; },
       {.by_words = true}},
      {"feed forward, by words",
       [](const MatrixShape& matrix) { return is_ffn(matrix) ? Place::kDevice : Place::kHost; },
       {.threads = 2, .by_words = true}},
      {"even layers and the head, by words",
       [](const MatrixShape& matrix) { return matrix.layer % 2 == 0 || matrix.part == MatrixPart::kHead ? Place::kDevice : Place::kHost; },
       {.by_words = true}},
      {"everything, by words", [](const MatrixShape&) { return Place::kDevice; }, {.by_words = true}},
      {"attention in small steps by words, the rest streams in larger ones",
       [](const MatrixShape& matrix) { return is_attention(matrix) ? Place::kDevice
                                              : is_ffn(matrix)     ? Place::kStreamed
                                                                   : Place::kHost; },
       {.from_tokens = 5, .slots = 3, .by_words = true}},
      {"feed forward streams, attention stays",
       [](const MatrixShape& matrix) { return is_ffn(matrix)         ? Place::kStreamed
                                              : is_attention(matrix) ? Place::kDevice
                                                                     : Place::kHost; },
       {9, 2, 8192, 2}},
  };
  return all;
}

uint64_t kv_bytes_of(const Engine& engine) { return engine.memory().host.current.kv_cache + engine.memory().device.current.kv_cache; }

TEST_CASE("Device: every family's logits and text are the host's bits, at any placement, and every byte of the plan is taken") {
  for (const char* name : kFamilies) {
    const Model model = must(Model::open(tiny_model_path(name)));
    const StepShape shape = must(model.step_shape());
    const EngineSetup setup{.context_tokens = 64};
    const Plan host_plan = must(plan_for(model, setup));
    const Engine alone = open_engine(model, setup);
    const std::vector<Token> text = greedy(alone, kPrompt, 12, 16);
    for (const Placing& placing : placings()) {
      CAPTURE(name, placing.name);
      const Plan plan = placed_on_device(host_plan, shape, placing.place_of, on_this(placing.setup));
      const Engine engine = open_on_device(model, plan, test_device());
      CHECK(greedy(engine, kPrompt, 12, 16) == text);
      Session one = must(Session::open(engine)), other = must(Session::open(alone));
      must(one.prefill(kPrompt));
      must(other.prefill(kPrompt));
      CHECK(std::equal(one.logits().begin(), one.logits().end(), other.logits().begin(), other.logits().end()));
      const MemoryReport memory = engine.memory();
      CHECK(memory.device.current_bytes == plan.device.planned_bytes);
      CHECK(memory.device.peak_bytes == plan.device.planned_bytes);
      CHECK(memory.host.current_bytes == plan.host.planned_bytes);
      CHECK(kv_bytes_of(engine) == plan.host.breakdown.kv_cache + plan.device.breakdown.kv_cache);
      CHECK((engine.streamed().h2d_bytes > 0) == (plan.device.planned_bytes > 0));
    }
  }
}

TEST_CASE("Device: weight types, cache types, float32 numerics and streaming from disk beside it change nothing") {
  for (const char* name : {"odd-f32", "tied-q4_1", "llama3-mixed", "linear-f16", "q8_0-one-layer"}) {
    const Model model = must(Model::open(tiny_model_path(name)));
    const StepShape shape = must(model.step_shape());
    for (const KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8_0}) {
      if (type == KvType::kQ8_0 && !shape.kv_takes_q8_0) continue;
      for (const Numerics numerics : {Numerics::kFast, Numerics::kFloat32}) {
        EngineSetup setup{.context_tokens = 80, .kv_type = type, .numerics = numerics};
        const std::vector<Token> text = greedy(open_engine(model, setup), kPrompt, 8);
        for (const uint64_t host_bytes : {uint64_t{Budgets::kUnlimited}, smallest_budget(model, setup)}) {
          setup.host_bytes = host_bytes;
          const Plan host_plan = must(plan_for(model, setup));
          for (const Placing& placing : placings()) {
            CAPTURE(name, kv_type_name(type), static_cast<int>(numerics), host_bytes, placing.name);
            CHECK(greedy(open_on_device(model, placed_on_device(host_plan, shape, placing.place_of, on_this(placing.setup)), test_device(),
                                        setup),
                         kPrompt, 8) == text);
          }
        }
      }
    }
  }
}

TEST_CASE("Device: steps of every size around the one that streams give the same logits, and only those stream") {
  const Model model = must(Model::open(tiny_model_path("tied-q4_1")));
  const StepShape shape = must(model.step_shape());
  const Placing& placing = placings()[8];
  const Plan plan = placed_on_device(must(plan_for(model, {})), shape, placing.place_of, on_this(placing.setup));
  uint64_t moved = 0;
  for (const MatrixShape& matrix : shape.matrices) moved += is_ffn(matrix) ? matrix.packed_bytes : 0;
  const Engine engine = open_on_device(model, plan, test_device()), alone = open_engine(model);
  for (const size_t count : {1, 2, 4, 5, 6, 8, 9, 33}) {
    CAPTURE(count);
    Session one = must(Session::open(engine)), other = must(Session::open(alone));
    const uint64_t before = engine.streamed().h2d_bytes;
    must(one.prefill(std::span(kPrompt).first(count)));
    must(other.prefill(std::span(kPrompt).first(count)));
    CHECK(std::equal(one.logits().begin(), one.logits().end(), other.logits().begin(), other.logits().end()));
    const uint64_t copied = engine.streamed().h2d_bytes - before;
    if (count < 5) CHECK(copied == 0);
    if (count >= 5) CHECK(copied >= moved);
  }
}

TEST_CASE("Device: a step allocates nothing, wherever parts are") {
  const Model model = must(Model::open(tiny_model_path("tied-q4_1")));
  const StepShape shape = must(model.step_shape());
  const Plan host_plan = must(plan_for(model, {}));
  for (const Placing& placing : placings()) {
    CAPTURE(placing.name);
    const Engine engine =
        open_on_device(model, placed_on_device(host_plan, shape, placing.place_of, on_this(placing.setup)), test_device());
    Session session = must(Session::open(engine));
    must(session.prefill(kPrompt));
    must(session.step(1));
    CHECK(allocations_of_steps(session, std::vector<Token>{2, 3, 5, 7, 11, 13}) == 0);
  }
}

TEST_CASE("Device: a session is saved, restored and forked with keys and values on either side, and between engines") {
  const Model model = must(Model::open(tiny_model_path("llama3-mixed")));
  const StepShape shape = must(model.step_shape());
  const EngineSetup setup{.batch = 2};
  const Plan host_plan = must(plan_for(model, setup));
  const Engine alone = open_engine(model, setup);
  GenerateOptions options{.max_tokens = 10, .ignore_eos = true};
  for (const Placing& placing : placings()) {
    CAPTURE(placing.name);
    const Engine engine =
        open_on_device(model, placed_on_device(host_plan, shape, placing.place_of, on_this(placing.setup)), test_device());
    std::vector<std::byte> state, state_alone;
    {
      Session session = must(Session::open(engine)), other = must(Session::open(alone));
      must(session.prefill(kPrompt));
      must(other.prefill(kPrompt));
      state = must(session.save());
      state_alone = must(other.save());
      CHECK(state == state_alone);
      Session fork = must(session.fork());
      CHECK(must(fork.generate(std::vector<Token>{7}, options)).tokens == must(session.generate(std::vector<Token>{7}, options)).tokens);
    }
    Session restored = must(Session::open(engine)), restored_alone = must(Session::open(alone));
    must(restored.restore(state_alone));
    must(restored_alone.restore(state));
    CHECK(must(restored.generate(std::vector<Token>{7}, options)).tokens ==
          must(restored_alone.generate(std::vector<Token>{7}, options)).tokens);
  }
}

TEST_CASE("Device: plans are changed under an open session as long as its keys and values stay where they are") {
  const Model model = must(Model::open(tiny_model_path("tied-q4_1")));
  const StepShape shape = must(model.step_shape());
  const EngineSetup setup{.context_tokens = 256};
  const Plan host_plan = must(plan_for(model, setup));
  const auto plan_of = [&](size_t i) { return placed_on_device(host_plan, shape, placings()[i].place_of, on_this(placings()[i].setup)); };
  Session reference = must(Session::open(open_engine(model, setup)));
  Engine engine = open_on_device(model, plan_of(0), test_device());
  Session session = must(Session::open(engine));
  GenerateOptions options{.max_tokens = 6, .ignore_eos = true};
  for (const size_t placing : {6, 7, 9, 0}) {
    CAPTURE(placings()[placing].name);
    must(engine.replan(plan_of(placing)));
    CHECK(must(session.generate(kPrompt, options)).tokens == must(reference.generate(kPrompt, options)).tokens);
    CHECK(engine.memory().device.current_bytes == engine.plan().device.planned_bytes);
  }
  const Status other_layers = engine.replan(plan_of(4));
  CHECK(other_layers.code() == StatusCode::kInvalidArgument);
  CHECK(must(session.generate(kPrompt, options)).tokens == must(reference.generate(kPrompt, options)).tokens);
}

TEST_CASE("Device: a plan for one is refused without it, with one that is too small, and with one that needs more scratch") {
  const Model model = must(Model::open(tiny_model_path("tied-q4_1")));
  const Plan plan = placed_on_device(must(plan_for(model, {})), must(model.step_shape()), placings()[0].place_of);
  const auto opened_on = [&](const char* device) {
    EngineOptions options;
    options.device = device;
    return Engine::open(model, plan, options).status();
  };
  CHECK(opened_on("cpu").code() == StatusCode::kInvalidArgument);
  CHECK(opened_on("cpu").message().find("open the engine with the device") != std::string::npos);
  CHECK(opened_on("emulated:memory=64KiB,link=2GB/s").code() == StatusCode::kOutOfMemory);
  const Status scratch = opened_on("emulated:memory=64MiB,link=2GB/s,threads=2");
  CHECK(scratch.code() == StatusCode::kInvalidArgument);
  CHECK(scratch.message().find("scratch") != std::string::npos);
}

}  // namespace
}  // namespace outrigger::testing
