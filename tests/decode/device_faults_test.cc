// A device that fails at any call, steps that are cancelled at any moment, and lanes that overlap.
#include <outrigger/session.h>

#include <chrono>

#include "src/decode/engine_impl.h"
#include "tests/support/device_plans.h"
#include "tests/support/faulty_backend.h"
#include "tests/support/greedy.h"
#include "tests/support/random_cancels.h"

namespace outrigger::testing {
namespace {

const std::vector<Token> kPrompt = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};

// The first layer streams, the head is on the host: every kind of call is made.
Place mixed(const MatrixShape& matrix) {
  if (matrix.part == MatrixPart::kHead) return Place::kHost;
  return matrix.layer == 0 ? Place::kStreamed : matrix.part == MatrixPart::kAttention ? Place::kDevice : Place::kHost;
}

struct Case {
  Model model = must(Model::open(tiny_model_path("tied-q4_1")));
  Plan plan = placed_on_device(must(plan_for(model, {.context_tokens = 64})), must(model.step_shape()), mixed);
  std::vector<Token> text = greedy(open_engine(model, {.context_tokens = 64}), kPrompt, 4);
};

std::unique_ptr<FaultyBackend> open_faulty() {
  return std::make_unique<FaultyBackend>(must(open_backend("emulated:memory=64MiB,link=100GB/s,latency=0us")));
}

// Opens an engine, computes a prompt and some tokens, saves the session; the first failure.
Status run(std::unique_ptr<FaultyBackend> backend, const Case& c) {
  OTR_ASSIGN(const Engine engine, open_engine_on(std::move(backend), c.model, c.plan, {}));
  OTR_ASSIGN(Session session, Session::open(engine));
  GenerateOptions options{.max_tokens = 4, .ignore_eos = true};
  OTR_ASSIGN(const GenerateResult made, session.generate(kPrompt, options));
  CHECK(made.tokens == c.text);
  return session.save().status();
}

TEST_CASE("Device faults: whichever call fails, the error comes back, and the next engine is right") {
  const Case c;
  for (size_t f = 0; f < kFaults; ++f) {
    const auto fault = static_cast<Fault>(f);
    uint64_t calls = 0;
    {
      auto counted = open_faulty();
      FaultyBackend* const backend = counted.get();
      const Engine engine = must(open_engine_on(std::move(counted), c.model, c.plan, {}));
      REQUIRE(greedy(engine, kPrompt, 4) == c.text);
      calls = backend->calls(fault);
    }
    if (fault == Fault::kWait) continue;  // no stream waits for another
    REQUIRE(calls > 0);
    for (uint64_t nth = 1; nth <= calls; nth += 1 + calls / 60) {
      CAPTURE(f, nth);
      auto backend = open_faulty();
      backend->inject(fault, nth);
      const Status status = run(std::move(backend), c);
      const bool is_memory = fault == Fault::kAllocate || fault == Fault::kAllocatePinned;
      CHECK(status.code() == (is_memory ? StatusCode::kOutOfMemory : StatusCode::kDevice));
      CHECK(status.message().starts_with("injected"));
    }
  }
  CHECK(run(open_faulty(), c).is_ok());
}

TEST_CASE("Device faults: a failed step leaves the session where it was, and a lost device says so for ever") {
  const Case c;
  auto owned = open_faulty();
  FaultyBackend* const backend = owned.get();
  const Engine engine = must(open_engine_on(std::move(owned), c.model, c.plan, {}));
  Session session = must(Session::open(engine));
  must(session.prefill(kPrompt));
  backend->inject(Fault::kLaunch, 7);
  CHECK(session.step(5).code() == StatusCode::kDevice);
  CHECK(session.tokens().size() == kPrompt.size());
  CHECK(session.step(5).code() == StatusCode::kDevice);
  CHECK(session.save().status().code() == StatusCode::kDevice);
}

TEST_CASE("Device faults: a change of the plan that fails leaves an engine that says so, and a session that goes on after the next one") {
  const Case c;
  auto owned = open_faulty();
  FaultyBackend* const backend = owned.get();
  Engine engine = must(open_engine_on(std::move(owned), c.model, c.plan, {}));
  Session session = must(Session::open(engine)), reference = must(Session::open(open_engine(c.model, {.context_tokens = 64})));
  GenerateOptions options{.max_tokens = 3, .ignore_eos = true};
  const auto goes_on = [&] { return must(session.generate(kPrompt, options)).tokens == must(reference.generate(kPrompt, options)).tokens; };
  CHECK(goes_on());

  const uint64_t before = backend->calls(Fault::kAllocate);
  must(engine.replan(c.plan));
  const uint64_t allocations = backend->calls(Fault::kAllocate) - before;  // weights, ring, activations
  REQUIRE(allocations == 3);
  for (uint64_t nth = 1; nth <= allocations; ++nth) {
    CAPTURE(nth);
    backend->inject(Fault::kAllocate, nth);
    CHECK(engine.replan(c.plan).code() == StatusCode::kOutOfMemory);
    CHECK(session.step(5).code() == StatusCode::kUnavailable);
    must(engine.replan(c.plan));
    CHECK(goes_on());
  }
}

TEST_CASE("Device faults: a plan with too little scratch for the device is refused before anything changes") {
  const Case c;
  const auto plan_for_threads = [&](uint32_t threads) {
    return placed_on_device(must(plan_for(c.model, {.context_tokens = 64})), must(c.model.step_shape()), mixed, {1, 2, 0, threads});
  };
  Engine engine = open_on_device(c.model, plan_for_threads(2), "emulated:memory=64MiB,link=20GB/s,latency=0us,threads=2");
  Session session = must(Session::open(engine));
  must(session.prefill(kPrompt));
  const Status refused = engine.replan(plan_for_threads(1));
  CHECK(refused.code() == StatusCode::kInvalidArgument);
  CHECK(refused.message().find("scratch") != std::string::npos);
  must(session.step(1));
  CHECK(engine.plan().device_threads == 2);
}

TEST_CASE("Device: steps that are cancelled at random moments leave sessions from which the text goes on as without") {
  const Case c;
  const Engine engine = open_on_device(c.model, c.plan, "emulated:memory=64MiB,link=50MB/s,latency=20us");
  check_random_cancels(engine, open_engine(c.model, {.context_tokens = 64}), kPrompt);
}

#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
TEST_CASE("Device: where everything streams over a slow link, the link is busy and the step as long as it is") {
  const Model model = must(Model::open(tiny_model_path("tied-q4_1")));
  const StepShape shape = must(model.step_shape());
  const Plan plan = placed_on_device(must(plan_for(model, {.context_tokens = 64})), shape,
                                     [](const MatrixShape&) { return Place::kStreamed; }, {1, 3, 16384, 1});
  EngineOptions options;
  options.device = "emulated:memory=64MiB,link=1500kB/s,latency=0us";
  options.trace_events = 1 << 14;
  const Engine engine = must(Engine::open(model, plan, options));
  Session session = must(Session::open(engine));
  must(session.prefill(kPrompt));
  GenerateOptions generate{.max_tokens = 8, .ignore_eos = true};
  must(session.generate(std::vector<Token>{1}, generate).status());
  // The quietest of the last steps: other processes may keep a lane from waking up in time.
  double share = 0, excess = 2;
  for (uint64_t steps = 1; steps <= 6; ++steps) {
    const LaneBusy all = engine.lane_busy(steps), but_first = engine.lane_busy(steps - 1);
    const double wall = all.wall_ms - (steps > 1 ? but_first.wall_ms : 0), link = all.h2d_ms - (steps > 1 ? but_first.h2d_ms : 0);
    share = std::max(share, link / wall);
    excess = std::min(excess, wall / link);
  }
  CHECK(share >= 0.9);
  CHECK(excess <= 1.05);
}
#endif

}  // namespace
}  // namespace outrigger::testing
