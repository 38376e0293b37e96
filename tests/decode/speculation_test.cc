// Speculation: whoever drafts, the tokens are those of plain decoding, and so is all that a caller can see.
#include <outrigger/log.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <thread>

#include "tests/decode/seen.h"
#include "tests/support/allocations.h"
#include "tests/support/device_plans.h"
#include "tests/support/engines.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/support/streaming_setup.h"

namespace outrigger::testing {
namespace {

/// Proposes what it was told will come, the tokens at `wrong` places spoilt; in the end it may fail.
class Script final : public DraftSource {
 public:
  Script(std::vector<Token> text, std::function<bool(size_t place)> is_wrong = {})
      : text_(std::move(text)), is_wrong_(std::move(is_wrong)) {}

  Status propose(std::span<const Token> tokens, uint32_t most, const CancelToken& cancel, Draft* draft) override {
    ++calls;
    if (on_call) on_call();
    if (cancel.is_cancelled()) return Status(StatusCode::kCancelled, "cancelled while drafting");
    for (size_t at = tokens.size(); at < text_.size() && draft->tokens().size() < most; ++at) {
      draft->add(is_wrong_ && is_wrong_(at) ? (text_[at] + 1) % 100 : text_[at]);
    }
    return failure_at == calls ? Status(StatusCode::kIo, "the draft broke on purpose") : Status();
  }

  uint64_t calls = 0, failure_at = 0;
  std::function<void()> on_call;

 private:
  std::vector<Token> text_;
  std::function<bool(size_t)> is_wrong_;
};

// Plain, and then with drafts that are all right, all wrong, and right up to a changing place, in each length: the same, and the session
// goes on in the same way.
void check_same(const Engine& engine, const GenerateOptions& options, uint32_t context = 0) {
  const Seen plain = generated(engine, options, context);
  const std::vector<Token> text = whole_text(engine, options, context);
  for (const uint32_t tokens : {1u, 2u, 3u, 7u}) {
    for (const uint32_t spoilt : {0u, 1u, 2u, 3u, 5u}) {
      CAPTURE(tokens, spoilt);
      GenerateOptions drafted = options;
      drafted.draft = {DraftKind::kNgram, "", tokens};
      const Seen seen = scripted(engine, drafted,
                                 std::make_unique<Script>(text, [=](size_t place) { return spoilt > 0 && place % spoilt == 0; }), context);
      CHECK(seen.tokens == plain.tokens);
      CHECK(seen.session == plain.session);
      CHECK(seen.text == plain.text);
      CHECK(seen.calls == plain.calls);
      CHECK(seen.reason == plain.reason);
      CHECK((seen.logits == plain.logits));
      CHECK(seen.goes_on == plain.goes_on);
      if (spoilt == 1) CHECK(seen.accepted == 0);
      if (spoilt == 0 && plain.tokens.size() > 8) CHECK(seen.accepted > 0);
    }
  }
}

TEST_CASE("Speculation: greedy text is the plain one, for drafts that are right, wrong and in between, of every length") {
  for (const char* name : {"smollm", "odd-f32", "tied-q4_1", "llama3-mixed", "qwen2", "qwen3-yarn", "qwen2moe"}) {
    CAPTURE(name);
    const Engine engine = open_engine(tiny(name), {.batch = 2});
    check_same(engine, plain_options());
  }
}

TEST_CASE("Speculation: the same where weights, experts or keys and values come from disk") {
  const ScratchFolder scratch;
  for (const Model& model : {write_and_open(scratch, random_dense()), tiny("qwen3moe")}) {
    CAPTURE(model.info().architecture);
    const EngineSetup setup = streaming_setup(model);
    const Engine engine = open_engine(model, setup);
    CHECK(engine.plan().decode.streamed_bytes + engine.plan().decode.expert_bytes > 0);
    check_same(engine, plain_options(24));
    CHECK(engine.memory().host.peak_bytes <= setup.host_bytes);
  }
  EngineSetup setup;
  setup.kv_spilled_layers = 1;
  check_same(open_engine(tiny(), setup), plain_options(24));
}

TEST_CASE("Speculation: the same where steps of many tokens stream to a device and single ones do not, and where all is on it") {
  const Model model = tiny("tied-q4_1");
  const StepShape shape = must(model.step_shape());
  const auto streams = [](const MatrixShape& matrix) { return matrix.part == MatrixPart::kFeedForward ? Place::kStreamed : Place::kHost; };
  const auto stays = [](const MatrixShape&) { return Place::kDevice; };
  for (const PlaceOf& place_of : {PlaceOf(streams), PlaceOf(stays)}) {
    const Plan plan = placed_on_device(must(plan_for(model, {})), shape, place_of, {4, 3, 0, test_device_threads()});
    const Engine engine = open_on_device(model, plan, test_device());
    check_same(engine, plain_options(24));
    CHECK(engine.streamed().h2d_bytes > 0);
  }
}

TEST_CASE("Speculation: most tokens, and a context that ends, are kept inside a chain") {
  const Engine engine = open_engine(tiny());
  for (const uint32_t most : {1u, 2u, 3u, 5u, 6u, 9u}) {
    CAPTURE(most);
    check_same(engine, plain_options(most));
  }
  for (const uint32_t context : {9u, 10u, 12u, 15u, 19u}) {
    CAPTURE(context);
    check_same(engine, plain_options(), context);
  }
}

TEST_CASE("Speculation: a stop text ends a chain where it ends plain decoding") {
  const Engine engine = open_engine(tiny());
  const Seen plain = generated(engine, plain_options());
  REQUIRE(plain.text.size() > 30);
  for (const size_t at : {5, 9, 14, 20}) {
    GenerateOptions options = plain_options();
    options.stop = {plain.text.substr(at, 3)};
    CAPTURE(options.stop[0]);
    CHECK(generated(engine, options).reason == StopReason::kStop);
    check_same(engine, options);
  }
}

TEST_CASE("Speculation: a token that ends the text ends a chain, and the logits are those it was chosen by") {
  // Sampled, so that the end comes at many places: of the family's end tokens one in 261.
  const Engine engine = open_engine(tiny());
  int ended = 0;
  for (uint64_t seed = 1; seed < 60; ++seed) {
    GenerateOptions options;
    options.max_tokens = 60;
    options.sampling = {.temperature = 3, .seed = seed};
    const Seen plain = generated(engine, options);
    if (plain.reason != StopReason::kEos) continue;
    ++ended;
    CAPTURE(seed, plain.tokens.size());
    CHECK(plain.logits.size() > 0);
    check_same(engine, options);
    if (ended == 4) break;
  }
  CHECK(ended > 0);
}

TEST_CASE("Speculation: cancelling, by the callback or by the token, leaves what plain decoding leaves") {
  const Engine engine = open_engine(tiny());
  for (const int last : {1, 2, 4, 7, 11}) {
    CAPTURE(last);
    // The callback says stop at this token.
    int left = 0;
    GenerateOptions options = plain_options();
    options.on_token = [&](const GeneratedToken&) { return --left > 0; };
    const auto with = [&](auto&& run) {
      left = last;
      return run();
    };
    const Seen plain = with([&] { return generated(engine, options); });
    CHECK(plain.reason == StopReason::kCancelled);
    CHECK(plain.tokens.size() == static_cast<size_t>(last));
    const std::vector<Token> text = whole_text(engine, options);
    options.draft = {DraftKind::kNgram, "", 5};
    CHECK(with([&] { return scripted(engine, options, std::make_unique<Script>(text)); }) == plain);
    // It cancels.
    const CancelToken cancel;
    GenerateOptions cancelling = plain_options();
    cancelling.cancel = cancel;
    cancelling.on_token = [&](const GeneratedToken&) {
      if (--left == 0) cancel.cancel();
      return true;
    };
    const Seen stopped = with([&] { return generated(engine, cancelling); });
    CHECK(stopped.reason == StopReason::kCancelled);
    cancel.reset();
    cancelling.draft = {DraftKind::kNgram, "", 5};
    CHECK(with([&] { return scripted(engine, cancelling, std::make_unique<Script>(text)); }) == stopped);
  }
}

TEST_CASE("Speculation: a draft that notices the cancelling first ends the generation, without a token more") {
  const Engine engine = open_engine(tiny());
  const std::vector<Token> text = whole_text(engine, plain_options());
  GenerateOptions options = plain_options();
  options.draft = {DraftKind::kNgram, "", 3};
  auto script = std::make_unique<Script>(text);
  Script* const calls = script.get();
  script->on_call = [&options, calls] {
    if (calls->calls == 3) options.cancel.cancel();
  };
  const Seen seen = scripted(engine, options, std::move(script));
  CHECK(seen.reason == StopReason::kCancelled);
  CHECK(seen.tokens == std::vector<Token>(text.begin() + static_cast<ptrdiff_t>(kPrompt.size()),
                                          text.begin() + static_cast<ptrdiff_t>(kPrompt.size() + 9)));
}

TEST_CASE("Speculation: cancelled or failing in the middle of a step, it keeps what was made before and goes on from there") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const EngineSetup setup = streaming_setup(model);
  const Engine engine = open_engine(model, setup);
  const std::vector<Token> text = whole_text(engine, plain_options());
  const auto is_prefix = [&](const Session& session) { return std::equal(session.tokens().begin(), session.tokens().end(), text.begin()); };
  int stopped_inside = 0;
  for (int delay_us = 0; delay_us < 30000 && stopped_inside < 8; delay_us += 100) {
    Session session = must(Session::open(engine));
    GenerateOptions options = plain_options();
    options.draft = {DraftKind::kNgram, "", 5};
    SpeculativeDecoder decoder = must(SpeculativeDecoder::with_source(session.impl(), options, std::make_unique<Script>(text)));
    std::thread stopper([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
      options.cancel.cancel();
    });
    const GenerateResult result = must(generate_with(std::move(decoder), session.impl(), kPrompt, options));
    stopper.join();
    stopped_inside += result.stop_reason == StopReason::kCancelled && !result.tokens.empty();
    REQUIRE(is_prefix(session));
    const size_t held = session.tokens().size();
    if (held == 0 || held >= kPrompt.size() + 30) continue;
    // The rest, of which the last token that is held is the beginning.
    must(session.truncate(static_cast<uint32_t>(held - 1)));
    const std::vector<Token> again = {text[held - 1]};
    if (held < kPrompt.size()) continue;
    CHECK(must(session.generate(again, plain_options(5))).tokens ==
          std::vector<Token>(text.begin() + static_cast<ptrdiff_t>(held), text.begin() + static_cast<ptrdiff_t>(held + 5)));
  }
  CHECK(stopped_inside > 0);

  // The file is cut while a draft is made: the step that verifies it cannot read.
  Session session = must(Session::open(engine));
  GenerateOptions options = plain_options();
  options.draft = {DraftKind::kNgram, "", 5};
  auto script = std::make_unique<Script>(text);
  Script* const calls = script.get();
  script->on_call = [&scratch, calls] {
    if (calls->calls == 3) std::filesystem::resize_file(scratch / "model.gguf", 1000);
  };
  SpeculativeDecoder decoder = must(SpeculativeDecoder::with_source(session.impl(), options, std::move(script)));
  CHECK(generate_with(std::move(decoder), session.impl(), kPrompt, options).status().code() == StatusCode::kIo);
  CHECK(is_prefix(session));
  CHECK(session.tokens().size() == kPrompt.size() + 13);  // the first token, and two drafts of five with what the model added
}

TEST_CASE("Speculation: a draft that fails is given up with one warning, and the text goes on as it was") {
  const Engine engine = open_engine(tiny());
  const Seen plain = generated(engine, plain_options());
  const std::vector<Token> text = whole_text(engine, plain_options());
  for (const uint64_t failing : {1, 2, 4}) {
    std::vector<std::string> warnings;
    set_log_sink([&](LogLevel level, std::string_view line) {
      if (level == LogLevel::kWarning) warnings.emplace_back(line);
    });
    GenerateOptions options = plain_options();
    options.draft = {DraftKind::kNgram, "", 4};
    auto script = std::make_unique<Script>(text);
    script->failure_at = failing;
    CHECK(scripted(engine, options, std::move(script)) == plain);
    set_log_sink({});
    REQUIRE(warnings.size() == 1);
    CHECK(warnings[0].find("the draft broke on purpose") != std::string::npos);
  }
}

TEST_CASE("Speculation: a draft that would be too slow if it were right is given up after one, and the report says by which times") {
  const Engine engine = open_engine(tiny(), {.logit_rows = 2});
  constexpr double kDraftMs = 30;  // far more than a step takes, on a busy machine too
  const std::vector<Token> text = whole_text(engine, plain_options());
  GenerateOptions options = plain_options(20);  // ends in the first pause
  options.draft = {DraftKind::kNgram, "", DraftOptions::kAsItPays};
  Session session = must(Session::open(engine));
  auto script = std::make_unique<Script>(text, [](size_t) { return true; });
  script->on_call = [=] { std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(kDraftMs)); };
  SpeculativeDecoder decoder = must(SpeculativeDecoder::with_source(session.impl(), options, std::move(script)));
  const GenerateResult result = must(generate_with(std::move(decoder), session.impl(), kPrompt, options));
  CHECK(std::equal(result.tokens.begin(), result.tokens.end(), text.begin() + static_cast<ptrdiff_t>(kPrompt.size())));
  const SpeculationReport& report = result.speculation;
  CHECK(report.drafted == 1);
  CHECK(report.accepted == 0);
  CHECK(report.draft_ms >= kDraftMs);
  CHECK(report.verify_ms < result.timings.decode_ms - kDraftMs);
  CHECK(report.auto_off);
  CHECK(report.ms_per_token_plain > 0);
  // A place that was missed once is still believed to be accepted two times in five.
  CHECK(report.ms_per_token_drafted > kDraftMs / 1.5);
  CHECK(report.ms_per_token_drafted > report.ms_per_token_plain);
}

TEST_CASE("Speculation: n-grams and auto give the plain text, greedy and drawn with the same seed, and say what they did") {
  for (const char* name : {"smollm", "tied-q4_1", "qwen3moe"}) {
    CAPTURE(name);
    const Engine engine = open_engine(tiny(name), {.logit_rows = 17});
    uint64_t accepted = 0;
    for (const float temperature : {0.0f, 0.3f, 1.0f}) {
      GenerateOptions options = plain_options(120);
      options.sampling = {.temperature = temperature, .top_k = 20, .repeat_penalty = temperature == 0.3f ? 1.1f : 1.0f, .seed = 9};
      const Seen plain = generated(engine, options);
      for (const DraftOptions& draft : {DraftOptions{DraftKind::kNgram, "", 1},
                                        {DraftKind::kNgram, "", 4},
                                        {DraftKind::kNgram, "", 16},
                                        {DraftKind::kNgram, "", 0},
                                        {DraftKind::kAuto, "", 0},
                                        {DraftKind::kAuto, "", 5}}) {
        CAPTURE(temperature, draft.tokens);
        options.draft = draft;
        Session session = must(Session::open(engine));
        const GenerateResult result = must(session.generate(kPrompt, options));
        CHECK(result.tokens == plain.tokens);
        CHECK(result.text == plain.text);
        const SpeculationReport& report = result.speculation;
        CHECK(report.draft == DraftKind::kNgram);
        CHECK(report.draft_name == "ngram");
        CHECK(report.passes + report.accepted == result.tokens.size() - 1);
        CHECK(report.tokens_per_pass == Approx(static_cast<double>(result.tokens.size() - 1) / static_cast<double>(report.passes)));
        uint64_t drafted_at = 0, accepted_at = 0;
        for (size_t i = 0; i < kMostDraftTokens; ++i) {
          drafted_at += report.drafted_at[i], accepted_at += report.accepted_at[i];
          CHECK(report.accepted_at[i] <= report.drafted_at[i]);
        }
        CHECK((report.tree_passes == 0 ? drafted_at == report.drafted : drafted_at < report.drafted));
        if (draft.tokens > 0) CHECK(report.tree_passes == 0);
        CHECK(accepted_at == report.accepted);
        if (report.tree_passes == 0) {
          CHECK(report.chain_drafted_at == report.drafted_at);
          CHECK(report.chain_accepted_at == report.accepted_at);
        }
        CHECK(report.auto_off == (report.ms_per_token_plain > 0));
        CHECK(report.auto_off == (report.ms_per_token_drafted > 0));
        CHECK(report.draft_ms > 0);
        CHECK(report.verify_ms > 0);
        CHECK(report.draft_ms + report.verify_ms <= result.timings.decode_ms);
        accepted += report.accepted;
      }
    }
    CHECK(accepted > 0);
  }
}

// Takes all that comes, as generate() does, for some passes; tells how many allocations they made.
uint64_t allocations_of_passes(SpeculativeDecoder& decoder, Session::Impl& session, NextTokens* next, int passes) {
  const CancelToken cancel;
  const uint64_t before = heap_allocations();
  bool is_ok = true;
  for (int i = 0; i < passes; ++i) {
    is_ok = is_ok && decoder.next(16, cancel, next).is_ok();
    const size_t base = session.tokens.size();
    session.tokens.insert(session.tokens.end(), next->tokens.begin(), next->tokens.end());
    session.computed = static_cast<uint32_t>(base + next->in_cache);
  }
  const uint64_t during = heap_allocations() - before;
  CHECK(is_ok);
  return during;
}

TEST_CASE("Speculation: passes allocate nothing once they are under way") {
  const Engine engine = open_engine(tiny(), {.logit_rows = 17});
  for (const float temperature : {0.0f, 1.0f}) {
    for (const DraftKind kind : {DraftKind::kNone, DraftKind::kNgram}) {
      CAPTURE(temperature, draft_kind_name(kind));
      Session session = must(Session::open(engine));
      must(session.prefill(kPrompt));
      GenerateOptions options = plain_options();
      options.sampling = {.temperature = temperature, .seed = 2};
      options.draft.kind = kind;
      SpeculativeDecoder decoder = must(SpeculativeDecoder::create(session.impl(), options));
      NextTokens next;
      next.tokens.reserve(kMostDraftTokens + 1);
      allocations_of_passes(decoder, session.impl(), &next, 3);
      CHECK(allocations_of_passes(decoder, session.impl(), &next, 10) == 0);
    }
  }
}

TEST_CASE("Speculation: without a draft, and without room for one, nothing is said and nothing is done") {
  const Engine engine = open_engine(tiny(), {.logit_rows = 1});
  Session session = must(Session::open(engine));
  GenerateOptions options = plain_options();
  for (const DraftKind kind : {DraftKind::kNone, DraftKind::kAuto}) {
    must(session.truncate(0));
    options.draft.kind = kind;
    const SpeculationReport report = must(session.generate(kPrompt, options)).speculation;
    CHECK(report.draft == DraftKind::kNone);
    CHECK(report.passes == 0);
    CHECK(report.draft_name == "none");
  }
  options.draft.kind = DraftKind::kNgram;
  const Status status = session.generate(kPrompt, options).status();
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message().find("draft tokens") != std::string::npos);
}

TEST_CASE("Speculation: options that mean nothing are refused by name") {
  const auto refused = [](const DraftOptions& options, const char* what) {
    const Status status = options.validate();
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(status.message().find(what) != std::string::npos);
  };
  refused({static_cast<DraftKind>(9), "", 0}, "draft.kind");
  refused({DraftKind::kModel, "", 0}, "draft.path");
  refused({DraftKind::kNgram, "x.gguf", 0}, "draft.path");
  refused({DraftKind::kNgram, "", 17}, "draft.tokens");
  must(DraftOptions{DraftKind::kNgram, "", 16}.validate());
  must(DraftOptions{}.validate());
}

TEST_CASE("Speculation: plans count the rows that drafts need, and runs stay within them") {
  const Model model = tiny();
  const StepShape shape = must(model.step_shape());
  Workload workload{.prompt_tokens = 64, .new_tokens = 64};
  const Plan plain = must(PlacementPlanner::plan(shape, made_up_machine(2), {Budgets::kUnlimited, 0}, workload));
  workload.draft_tokens = 16;
  const Plan drafting = must(PlacementPlanner::plan(shape, made_up_machine(2), {Budgets::kUnlimited, 0}, workload));
  CHECK(plain.logit_rows == 1);
  CHECK(drafting.logit_rows == 17);
  CHECK(drafting.draft_tokens == 16);
  CHECK(drafting.host.planned_bytes >= plain.host.planned_bytes + 16 * shape.logits_row_bytes - 4096);
  CHECK(drafting.predicted_decode_tokens_per_s == plain.predicted_decode_tokens_per_s);
  CHECK(must(plan_from_json(plan_to_json(drafting))).draft_tokens == 16);
  // Where the budget holds no more than steps of one token, rows for drafts give way to it.
  CHECK(drafting.minimum_host_bytes == plain.minimum_host_bytes);
  CHECK(must(PlacementPlanner::plan(shape, made_up_machine(2), {plain.minimum_host_bytes, 0}, workload)).draft_tokens == 0);
  for (const uint64_t budget : {drafting.host.planned_bytes - 4096, drafting.host.planned_bytes * 3 / 4}) {
    const Plan small = must(PlacementPlanner::plan(shape, made_up_machine(2), {budget, 0}, workload));
    CAPTURE(budget, small.step_tokens);
    CHECK(small.draft_tokens == std::min(16u, small.step_tokens - 1));
    const Engine engine = must(Engine::open(model, small));
    Session session = must(Session::open(engine));
    GenerateOptions options = plain_options(50);
    options.draft = {DraftKind::kNgram, "", 16};
    must(session.generate(kPrompt, options));
    CHECK(engine.memory().host.peak_bytes <= budget);
  }
  workload.draft_tokens = 32;
  CHECK(PlacementPlanner::plan(shape, made_up_machine(2), {0, 0}, workload).status().code() == StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace outrigger::testing
