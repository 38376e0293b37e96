// Steps whose host and device hand over to each other by words: what is right without faults is device_session_test's.
#include <outrigger/log.h>
#include <outrigger/session.h>

#include <fstream>
#include <iterator>

#include "src/decode/engine_impl.h"
#include "tests/support/batches.h"
#include "tests/support/deep_model.h"
#include "tests/support/device_plans.h"
#include "tests/support/faulty_backend.h"
#include "tests/support/greedy.h"
#include "tests/support/random_cancels.h"
#include "tests/support/scratch_folder.h"

namespace outrigger::testing {
namespace {

const std::vector<Token> kPrompt = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};

struct Case {
  Model model = must(Model::open(tiny_model_path("tied-q4_1")));
  StepShape shape = must(model.step_shape());
  // Attention there, feed forward at home: two turns a layer.
  Plan plan = placed_on_device(
      must(plan_for(model, {.context_tokens = 64})), shape,
      [](const MatrixShape& matrix) { return matrix.part == MatrixPart::kAttention ? Place::kDevice : Place::kHost; }, {.by_words = true});
  std::vector<Token> text = greedy(open_engine(model, {.context_tokens = 64}), kPrompt, 6);
  uint64_t layers = shape.kv_layers;
};

struct Opened {
  FaultyBackend* backend;
  Engine engine;
};

std::unique_ptr<FaultyBackend> open_faulty() {
  return std::make_unique<FaultyBackend>(must(open_backend("emulated:memory=64MiB,link=100GB/s,latency=0us")));
}

Opened open(const Case& c, std::unique_ptr<FaultyBackend> owned = open_faulty()) {
  FaultyBackend* const backend = owned.get();
  return {backend, must(open_engine_on(std::move(owned), c.model, c.plan, {}))};
}

TEST_CASE("Handoff session: a small step has a turn for each of its crossings but the first, and copies nothing in between") {
  const Case c;
  const auto [backend, engine] = open(c);
  Session session = must(Session::open(engine));
  must(session.prefill(kPrompt));
  const uint64_t handoffs = backend->handoffs(), up = backend->calls(Fault::kCopyToDevice), down = backend->calls(Fault::kCopyToHost);
  must(session.step(1));
  CHECK(backend->handoffs() - handoffs == c.layers);
  CHECK(backend->calls(Fault::kCopyToDevice) - up == 2);  // the first residual, and its angles
  CHECK(backend->calls(Fault::kCopyToHost) - down == 0);
  const StreamReport before = engine.streamed();
  must(session.step(2));
  const uint64_t rows = c.layers * c.shape.residual_row_bytes;
  CHECK(engine.streamed().d2h_bytes - before.d2h_bytes == rows);
  CHECK(engine.streamed().h2d_bytes - before.h2d_bytes > rows);
}

TEST_CASE("Handoff session: steps of up to sixteen tokens hand over by words, larger ones by copies, with the same logits") {
  const Case c;
  const auto [backend, engine] = open(c);
  const Engine alone = open_engine(c.model, {.context_tokens = 64});
  for (const size_t tokens : {1, 2, 8, 15, 16, 17, 30}) {
    CAPTURE(tokens);
    const std::vector<Token> prompt(tokens, 7);
    Session one = must(Session::open(engine)), other = must(Session::open(alone));
    const uint64_t before = backend->handoffs();
    must(one.prefill(prompt));
    must(other.prefill(prompt));
    CHECK(std::equal(one.logits().begin(), one.logits().end(), other.logits().begin(), other.logits().end()));
    CHECK((backend->handoffs() > before) == (tokens <= 16));
  }
}

TEST_CASE("Handoff session: a device without handoffs, or a plan without, hands over by copies") {
  Case c;
  auto without = open_faulty();
  without->take_handoffs();
  const auto [backend, engine] = open(c, std::move(without));
  CHECK(greedy(engine, kPrompt, 6) == c.text);
  CHECK(backend->handoffs() == 0);
  CHECK(engine.memory().host.current_bytes == c.plan.host.planned_bytes);
}

TEST_CASE("Handoff session: where the device waits in vain the step is done again by copies, and after three times so are all") {
  const Case c;
  const auto [backend, engine] = open(c);
  static std::atomic<int> warnings{0};
  set_log_sink([](LogLevel level, std::string_view text) {
    warnings += level == LogLevel::kWarning && text.find("done again by copies") != std::string_view::npos;
  });
  backend->make_impatient(1);
  CHECK(greedy(engine, kPrompt, 6) == c.text);
  set_log_sink({});
  CHECK(warnings == Engine::Impl::kMostFailedHandoffs);
  backend->make_impatient(0);
  const uint64_t before = backend->handoffs();
  CHECK(greedy(engine, kPrompt, 6) == c.text);
  CHECK(backend->handoffs() == before);
}

TEST_CASE("Handoff session: whichever call fails, the error comes back soon, and the next engine is right") {
  const Case c;
  const auto run = [&c](std::unique_ptr<FaultyBackend> backend) -> Status {
    OTR_ASSIGN(const Engine engine, open_engine_on(std::move(backend), c.model, c.plan, {}));
    OTR_ASSIGN(Session session, Session::open(engine));
    GenerateOptions options{.max_tokens = 6, .ignore_eos = true};
    OTR_ASSIGN(const GenerateResult made, session.generate(kPrompt, options));
    CHECK(made.tokens == c.text);
    return {};
  };
  for (size_t f = 0; f < kFaults; ++f) {
    const auto fault = static_cast<Fault>(f);
    uint64_t calls = 0;
    {
      const auto [backend, engine] = open(c);
      REQUIRE(greedy(engine, kPrompt, 6) == c.text);
      calls = backend->calls(fault);
    }
    for (uint64_t nth = 1; nth <= calls; nth += 1 + calls / 40) {
      CAPTURE(f, nth, calls);
      auto backend = open_faulty();
      backend->inject(fault, nth);
      const auto begin = std::chrono::steady_clock::now();
      const Status status = run(std::move(backend));
      const bool is_memory = fault == Fault::kAllocate || fault == Fault::kAllocatePinned;
      CHECK(status.code() == (is_memory ? StatusCode::kOutOfMemory : StatusCode::kDevice));
      CHECK(status.message().starts_with("injected"));
      CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(30));
    }
  }
  CHECK(run(open_faulty()).is_ok());
}

TEST_CASE("Handoff session: steps that are cancelled at random moments leave sessions from which the text goes on as without") {
  const Case c;
  const auto [backend, engine] =
      open(c, std::make_unique<FaultyBackend>(must(open_backend("emulated:memory=64MiB,link=50MB/s,latency=50us"))));
  check_random_cancels(engine, open_engine(c.model, {.context_tokens = 64}), kPrompt);
}

// More nodes than are submitted at once: the device's work is several batches, which the host comes into between.
TEST_CASE("Handoff session: a model of many layers has the host's bits, whatever its turns cut the batches into") {
  const std::vector<std::byte> bytes = deep_model("tied-q4_1", 70, 128);
  const Model model = must(Model::open_memory(bytes));
  const StepShape shape = must(model.step_shape());
  const Plan host = must(plan_for(model, {.context_tokens = 64}));
  const std::vector<Token> text = greedy(open_engine(model, {.context_tokens = 64}), kPrompt, 6);
  const PlaceOf places[] = {
      [](const MatrixShape& matrix) { return matrix.part == MatrixPart::kAttention ? Place::kDevice : Place::kHost; },
      [](const MatrixShape& matrix) { return matrix.part == MatrixPart::kFeedForward ? Place::kDevice : Place::kHost; },
      [](const MatrixShape& matrix) { return matrix.layer == 40 ? Place::kHost : Place::kDevice; },
      // A turn at the beginning, and then more work than a device's queue has room for.
      [](const MatrixShape& matrix) {
        return matrix.layer == 0 && matrix.part == MatrixPart::kFeedForward ? Place::kHost : Place::kDevice;
      },
      [](const MatrixShape&) { return Place::kDevice; },
  };
  const uint64_t turns[] = {70, 70, 1, 1, 0};  // the head is at home in the first two
  for (size_t i = 0; i < std::size(places); ++i) {
    CAPTURE(i);
    auto owned = open_faulty();
    const FaultyBackend* const backend = owned.get();
    const Engine engine = must(open_engine_on(std::move(owned), model, placed_on_device(host, shape, places[i], {.by_words = true}), {}));
    CHECK(greedy(engine, kPrompt, 6) == text);
    Session session = must(Session::open(engine));
    must(session.prefill(std::vector<Token>(20, 3)));  // by copies
    const uint64_t before = backend->handoffs();
    must(session.step(1));  // and none of the steps before has waited in vain
    CHECK(backend->handoffs() - before == turns[i]);
  }
}

// Each text has attention of its own, and each token's heads are normalised alone: the most operations that a layer can be.
TEST_CASE("Handoff session: sixteen texts at once, of as many operations as there can be, wait for nothing but their turns") {
  const std::vector<std::byte> bytes = deep_model("qwen3", 40, 128);
  const Model model = must(Model::open_memory(bytes));
  const StepShape shape = must(model.step_shape());
  const Plan host = must(plan_for(model, {.context_tokens = 32, .batch = 17}));
  const PlaceOf place = [](const MatrixShape& matrix) {
    return matrix.layer == 0 && matrix.part == MatrixPart::kFeedForward ? Place::kHost : Place::kDevice;
  };
  auto owned = open_faulty();
  const FaultyBackend* const backend = owned.get();
  const Engine engine = must(open_engine_on(std::move(owned), model, placed_on_device(host, shape, place, {.by_words = true}), {}));
  std::vector<BatchRequest> requests(16);
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt = std::vector<Token>(1, static_cast<Token>(i + 1));
    requests[i].options.max_tokens = 8;
    requests[i].options.ignore_eos = true;
  }
  BatchReport report;
  CHECK(together(engine, requests, {}, &report) == one_by_one(engine, requests));
  CHECK(report.most_at_once == 16);
  const uint64_t before = backend->handoffs();
  CHECK(together(engine, requests, {}, &report) == one_by_one(engine, requests));
  CHECK(backend->handoffs() > before);  // none has waited in vain
}

TEST_CASE("Handoff session: a trace tells how long either side worked, and shows the turns") {
  const Case c;
  EngineOptions options;
  options.device = "emulated:memory=64MiB,link=100GB/s,latency=0us";
  options.trace_events = 1 << 12;
  const Engine engine = must(Engine::open(c.model, c.plan, options));
  Session session = must(Session::open(engine));
  must(session.prefill(kPrompt));
  for (Token token = 1; token <= 8; ++token) must(session.step(token));
  const LaneBusy busy = engine.lane_busy(8);
  CHECK(busy.steps == 8);
  CHECK(busy.host_ms > 0);
  CHECK(busy.device_ms > 0);
  CHECK(busy.host_ms <= busy.wall_ms);
  CHECK(busy.device_ms <= busy.wall_ms);
  CHECK(busy.host_ms + busy.device_ms <= 1.5 * busy.wall_ms);  // they take turns; whoever is woken late counts what it slept
  const ScratchFolder scratch;
  must(engine.write_trace(scratch / "trace.json"));
  std::ifstream file(scratch / "trace.json");
  const std::string trace((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  for (const char* name : {"blk.0 send residual", "blk.1 receive residual", "\"finish\"", "\"submit\""}) {
    CAPTURE(name);
    CHECK(trace.find(name) != std::string::npos);
  }
}

TEST_CASE("Handoff session: plans with and without take each other's place under an open session") {
  const Case c;
  auto [backend, engine] = open(c);
  const Plan by_copies = placed_on_device(must(plan_for(c.model, {.context_tokens = 64})), c.shape, [](const MatrixShape& matrix) {
    return matrix.part == MatrixPart::kAttention ? Place::kDevice : Place::kHost;
  });
  Session session = must(Session::open(engine)), reference = must(Session::open(open_engine(c.model, {.context_tokens = 64})));
  const GenerateOptions options{.max_tokens = 2, .ignore_eos = true};
  must(session.generate(kPrompt, options).status());
  must(reference.generate(kPrompt, options).status());
  for (const Plan* plan : {&by_copies, &c.plan}) {
    must(engine.replan(*plan));
    const uint64_t before = backend->handoffs();
    CHECK(must(session.generate(kPrompt, options)).tokens == must(reference.generate(kPrompt, options)).tokens);
    CHECK((backend->handoffs() > before) == (plan == &c.plan));
    CHECK(engine.memory().host.current_bytes == plan->host.planned_bytes);
  }
}

}  // namespace
}  // namespace outrigger::testing
