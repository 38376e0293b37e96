// Sessions whose keys and values are on disk, on a disk that fails: an error that says where, and afterwards everything is as it was.
#include <outrigger/session.h>

#include <cerrno>

#include "tests/support/deep_model.h"
#include "src/io/spill_file.h"
#include "tests/support/spill_faults.h"

namespace outrigger::testing {
namespace {

std::vector<Token> some_tokens(size_t count, uint32_t seed = 1) {
  std::vector<Token> tokens;
  for (size_t i = 0; i < count; ++i) tokens.push_back(static_cast<Token>((seed = seed * 1664525 + 1013904223) >> 8) % 261);
  return tokens;
}

std::vector<Token> continued(Session& session, uint32_t count) {
  GenerateOptions options;
  options.max_tokens = count;
  options.ignore_eos = true;
  const std::vector<Token> one{3};
  return must(session.generate(one, options)).tokens;
}

struct Fixture {
  std::vector<std::byte> bytes = deep_model("tied-q4_1", 5, 256);
  Model model = must(Model::open_memory(bytes));
  Plan plan = must(plan_for(model, {.batch = 2, .kv_spilled_layers = 4}));
  Engine engine = must(Engine::open(model, plan));
  std::vector<Token> prompt = some_tokens(37);
  Session reference = must(Session::open(open_engine(model, {.kv_spilled_layers = 0})));

  // What follows the prompt and one more token.
  std::vector<Token> expected() {
    must(reference.truncate(0));
    must(reference.prefill(prompt));
    return continued(reference, 12);
  }
};

void check_error(const Status& status) {
  CHECK(status.code() == StatusCode::kIo);
  CHECK(status.file() == default_spill_directory());
  CHECK(status.message().find("keys and values") != std::string::npos);
}

TEST_CASE("Spill faults: whichever read or write of a step fails, the next step is right, and a fresh session too") {
  Fixture f;
  const std::vector<Token> expected = f.expected();
  for (const bool in_prefill : {true, false}) {
    for (const char* kind : {"pread", "pwrite"}) {
      int failed = 0;
      for (int nth = 0;; ++nth) {
        CAPTURE(in_prefill, kind, nth);
        Session session = must(Session::open(f.engine));
        const std::span<const Token> prompt = f.prompt;
        must(session.prefill(prompt.first(in_prefill ? 20 : 36)));
        Status status;
        {
          int calls = 0;
          const SpillFaults fault([&](const std::string& call) { return call == kind && calls++ == nth ? EIO : 0; });
          status = session.prefill(prompt.subspan(in_prefill ? 20 : 36));
        }
        if (status.is_ok()) break;
        ++failed;
        check_error(status);
        REQUIRE(session.tokens().size() == (in_prefill ? 20 : 36));
        must(session.prefill(prompt.subspan(session.tokens().size())));
        REQUIRE(continued(session, 12) == expected);
        Session fresh = must(Session::open(f.engine));
        must(fresh.prefill(prompt));
        REQUIRE(continued(fresh, 12) == expected);
      }
      CHECK(failed == 4);  // a request for each spilled layer
    }
  }
}

TEST_CASE("Spill faults: saving, forking and restoring report what fails, and a session that was to be restored is empty and good") {
  Fixture f;
  const std::vector<Token> expected = f.expected();
  Session session = must(Session::open(f.engine)), other = must(Session::open(f.engine));
  must(session.prefill(f.prompt));
  must(other.prefill(some_tokens(50, 9)));
  const std::vector<std::byte> state = must(session.save());
  for (int nth = 0; nth < 4; ++nth) {
    int calls = 0;
    {
      const SpillFaults fault([&](const std::string& call) { return call == "pread" && calls++ == nth ? EIO : 0; });
      check_error(session.save().status());
    }
    calls = 0;
    {
      const SpillFaults fault([&](const std::string& call) { return call == "pwrite" && calls++ == nth ? ENOSPC : 0; });
      check_error(other.restore(state));
    }
    CHECK(other.tokens().empty());
    CHECK(other.logits().empty());
    must(other.restore(state));
    CHECK(continued(other, 12) == expected);
  }
  {
    Session gone = std::move(other);
  }
  for (const char* kind : {"pread", "pwrite"}) {
    for (int nth = 0; nth < 4; ++nth) {
      int calls = 0;
      const SpillFaults fault([&](const std::string& call) { return call == kind && calls++ == nth ? EIO : 0; });
      check_error(session.fork().status());
    }
  }
  Session fork = must(session.fork());  // the failed ones gave their places back
  CHECK(continued(fork, 12) == expected);
  CHECK(continued(session, 12) == expected);
}

TEST_CASE("Spill faults: short and interrupted transfers change nothing") {
  Fixture f;
  const std::vector<Token> expected = f.expected();
  Session session = must(Session::open(f.engine));
  int calls = 0;
  const SpillFaults some([&](const std::string& call) {
    if (call != "pread" && call != "pwrite") return 0;
    constexpr int kTurns[] = {EINTR, -4096, -8192};
    return kTurns[calls++ % 3];
  });
  must(session.prefill(f.prompt));
  CHECK(continued(session, 12) == expected);
  CHECK(calls > 100);
}

TEST_CASE("Spill faults: a full disk is known when the engine is opened, and takes no memory with it") {
  Fixture f;
  {
    const SpillFaults full([](const std::string& call) { return call == "fallocate" ? ENOSPC : 0; });
    const Status status = Engine::open(f.model, f.plan).status();
    check_error(status);
    CHECK(status.message().find(std::to_string(f.plan.kv_spill_bytes) + " bytes") != std::string::npos);
    // Under open weights, too: the engine says so, and goes on once there is room.
    Engine engine = open_engine(f.model, {.batch = 2, .kv_spilled_layers = 0});
    check_error(engine.replan(f.plan));
    CHECK(Session::open(engine).status().code() == StatusCode::kUnavailable);
    CHECK(engine.memory().host.current.kv_cache == 0);
  }
  Engine engine = open_engine(f.model, {.batch = 2, .kv_spilled_layers = 0});
  must(engine.replan(f.plan));
  Session session = must(Session::open(engine));
  must(session.prefill(f.prompt));
  CHECK(continued(session, 12) == f.expected());
}

TEST_CASE("Spill faults: on a file system without direct transfers everything is the same") {
  Fixture f;
  const std::vector<Token> expected = f.expected();
  bool opening = true;
  int flushes = 0;
  const SpillFaults refusing([&](const std::string& call) {
    flushes += call == "fdatasync";
    return opening && call == "pwrite" ? EINVAL : 0;
  });
  const Engine engine = must(Engine::open(f.model, f.plan));
  opening = false;
  Session session = must(Session::open(engine));
  must(session.prefill(f.prompt));
  CHECK(continued(session, 12) == expected);
  CHECK(flushes > 0);
}

}  // namespace
}  // namespace outrigger::testing
