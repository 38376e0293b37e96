// Steps of several sessions: the bits of steps apart, whoever else is in them, and no allocation.
#include "src/decode/batch_step.h"

#include <filesystem>

#include "src/decode/batch_sequence.h"
#include "tests/support/allocations.h"
#include "tests/support/batches.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"

namespace outrigger::testing {
namespace {

Model tiny(const char* name = "smollm") { return must(Model::open(tiny_model_path(name))); }

std::vector<float> logits_of(const Session& session) { return {session.logits().begin(), session.logits().end()}; }

struct Several {
  std::vector<Session> sessions;
  std::vector<Session*> pointers;

  Several(const Engine& engine, size_t count) {
    for (size_t i = 0; i < count; ++i) sessions.push_back(must(Session::open(engine)));
    for (Session& session : sessions) pointers.push_back(&session);
  }
};

TEST_CASE("Step together: logits and cache are those of each session's own steps, with room for all rows or not") {
  for (const char* name : {"smollm", "qwen3moe"}) {
    for (const uint32_t logit_rows : {1u, 2u, 8u}) {
      CAPTURE(name, logit_rows);
      const Engine engine = open_engine(tiny(name), {.batch = 6, .logit_rows = logit_rows});
      Several apart(engine, 3), together(engine, 3);
      for (size_t i = 0; i < 3; ++i) {
        const std::vector<Token> prompt(3 + 7 * i, static_cast<Token>(20 + i));
        must(apart.sessions[i].prefill(prompt));
        must(together.sessions[i].prefill(prompt));
      }
      for (Token step = 0; step < 6; ++step) {
        const std::vector<Token> tokens = {step, 30 + step, 7};
        for (size_t i = 0; i < 3; ++i) must(apart.sessions[i].step(tokens[i]));
        must(step_together(together.pointers, tokens));
        for (size_t i = 0; i < 3; ++i) CHECK((logits_of(together.sessions[i]) == logits_of(apart.sessions[i])));
      }
      for (size_t i = 0; i < 3; ++i) CHECK(must(together.sessions[i].save()) == must(apart.sessions[i].save()));
    }
  }
}

TEST_CASE("Step together: what a session generated last and has not computed is computed first") {
  const Engine engine = open_engine(tiny(), {.batch = 2});
  Several both(engine, 2);
  GenerateOptions options;
  options.max_tokens = 3;
  options.ignore_eos = true;
  const std::vector<Token> prompt = {4, 8, 15};
  for (Session& session : both.sessions) must(session.generate(prompt, options));
  must(both.sessions[0].step(9));
  Session* const second = both.pointers[1];
  must(step_together({&second, 1}, std::vector<Token>{9}));
  CHECK((logits_of(both.sessions[1]) == logits_of(both.sessions[0])));
}

TEST_CASE("Step together: what does not fit together is refused, and changes nothing") {
  const Engine engine = open_engine(tiny(), {.batch = 3}), other = open_engine(tiny());
  Several some(engine, 3);
  Session stranger = must(Session::open(other));
  const std::vector<Token> tokens = {1, 2, 3};
  const auto refused = [&](const std::vector<Session*>& sessions, const std::vector<Token>& given, const char* why) {
    const Status status = step_together(sessions, given);
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(status.message().find(why) != std::string::npos);
    for (const Session& session : some.sessions) CHECK(session.tokens().empty());
  };
  refused({}, {}, "got 0 sessions");
  refused(some.pointers, {1, 2}, "got 3 sessions and 2 tokens");
  refused({some.pointers[0], some.pointers[1], some.pointers[0]}, tokens, "session 2 of 3 is busy");
  refused({some.pointers[0], &stranger}, {1, 2}, "another engine");
  refused(some.pointers, {1, 2, -7}, "got id -7");
  must(some.sessions[1].set_branch_share(0.5f));
  refused(some.pointers, tokens, "branch share");
  must(some.sessions[1].set_branch_share(1));
  const CancelToken cancel;
  cancel.cancel();
  CHECK(step_together(some.pointers, tokens, cancel).code() == StatusCode::kCancelled);
  for (const Session& session : some.sessions) CHECK(session.tokens().empty());
  must(step_together(some.pointers, tokens));
}

TEST_CASE("Step together: a step that fails leaves every session as it was") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  EngineSetup setup{.context_tokens = 64, .batch = 2};
  setup.host_bytes = smallest_budget(model, setup);
  while (must(plan_for(model, setup)).logit_rows < 2) setup.host_bytes += 4096;
  const Engine engine = open_engine(model, setup);
  Several both(engine, 2);
  for (Session& session : both.sessions) must(session.prefill(std::vector<Token>{4, 8, 15}));
  std::filesystem::resize_file(scratch / "model.gguf", 1000);
  CHECK(step_together(both.pointers, std::vector<Token>{1, 2}).code() == StatusCode::kIo);
  for (const Session& session : both.sessions) {
    CHECK(session.tokens().size() == 3);
    CHECK(session.logits().empty());
  }
}

// Some steps of places that are being written in, as a batch makes them; tells how many allocations they made.
uint64_t allocations_of_steps(std::vector<std::unique_ptr<BatchSequence>>& places, BatchStep& step, uint32_t drafted, int steps) {
  const CancelToken cancel;
  const BatchStep::OnRow on_row = [&](size_t index, size_t row, std::span<const float> logits) { places[index]->judge(row, logits); };
  std::array<BatchShare, 3> shares;
  bool is_ok = true;
  const uint64_t before = heap_allocations();
  for (int i = 0; i < steps; ++i) {
    for (size_t p = 0; p < places.size(); ++p) shares[p] = places[p]->need();
    share_step(shares, 0, {64, 64});
    step.clear();
    for (size_t p = 0; p < places.size(); ++p) {
      shares[p].drafted = std::min(shares[p].drafted, drafted);
      places[p]->join(shares[p], step);
    }
    const Status status = step.run(cancel, on_row);
    for (const auto& place : places) is_ok = is_ok && !place->end_step(status, 0, 1);
  }
  const uint64_t during = heap_allocations() - before;
  CHECK(is_ok);
  return during;
}

TEST_CASE("Batch steps: allocate nothing once they are under way, plain and with drafts, but for the texts") {
  // Without a tokenizer there is no text, which grows as it comes.
  const ScratchFolder scratch;
  const Engine engine = open_engine(write_and_open(scratch, random_dense()), {.batch = 3, .logit_rows = 32});
  REQUIRE(!engine.model().tokenizer().is_ok());
  for (const DraftKind kind : {DraftKind::kNone, DraftKind::kNgram}) {
    CAPTURE(draft_kind_name(kind));
    std::vector<std::unique_ptr<BatchSequence>> places;
    std::vector<BatchRequest> requests = mixed_requests(3);
    for (size_t i = 0; i < requests.size(); ++i) {
      requests[i].options.max_tokens = 200;
      requests[i].options.draft = {kind, "", kind == DraftKind::kNone ? 0u : 4u};
      places.push_back(std::make_unique<BatchSequence>(must(Session::open(engine))));
      must(places[i]->start(i, requests[i], {}));
    }
    BatchStep step(*engine.impl(), 3, 1);
    allocations_of_steps(places, step, 4, 3);
    CHECK(allocations_of_steps(places, step, 4, 12) == 0);
  }
}

}  // namespace
}  // namespace outrigger::testing
