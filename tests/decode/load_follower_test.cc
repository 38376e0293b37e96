// Sessions that follow the load: which steps use which share, with whose bits, and what is told and refused. The first six steps' shares do
// not depend on time.
#include "src/decode/load_follower.h"

#include <outrigger/batch.h>

#include <algorithm>
#include <array>

#include "tests/support/allocations.h"
#include "tests/support/branched_model.h"
#include "tests/support/engines.h"

namespace outrigger::testing {
namespace {

const std::vector<Token> kPrompt = {3, 14, 15, 92, 65, 35, 89, 79};
const std::vector<Token> kNext = {32, 38, 46, 26, 43, 2};
/// Two to compare with, one without branches, and this again.
constexpr std::array<float, 6> kFirstShares = {1, 1, 0, 1, 1, 0};

const Model& branched() {
  static const Branched made;
  return made.model;
}

Engine engine_of(uint32_t batch = 1) {
  EngineSetup setup;
  setup.batch = batch;
  return open_engine(branched(), setup);
}

std::vector<float> logits_of(const Session& session) { return {session.logits().begin(), session.logits().end()}; }

Token likeliest(const Session& session) {
  const std::span<const float> logits = session.logits();
  return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

Session following(const Engine& engine, const FollowLoad& options = {}) {
  Session session = must(Session::open(engine));
  must(session.follow_load(options));
  return session;
}

GenerateOptions plain(uint32_t tokens) {
  GenerateOptions options;
  options.max_tokens = tokens;
  options.ignore_eos = true;
  return options;
}

TEST_CASE("Following the load: each step has the bits of the share that it uses, and every third of the first ones uses none") {
  const Engine engine = engine_of(2);
  Session session = following(engine), fixed = must(Session::open(engine));
  must(session.prefill(kPrompt));
  must(fixed.prefill(kPrompt));
  CHECK(logits_of(session) == logits_of(fixed));  // the prompt had all of them
  for (size_t i = 0; i < kNext.size(); ++i) {
    CAPTURE(i);
    must(session.step(kNext[i]));
    must(fixed.set_branch_share(kFirstShares[i]));
    must(fixed.step(kNext[i]));
    CHECK(logits_of(session) == logits_of(fixed));
  }
  const BranchUse use = session.branch_use();
  CHECK(use.follows_load);
  CHECK(use.steps == 6);
  CHECK(std::abs(use.mean_share - 4 / 6.0) < 1e-9);
  CHECK(!fixed.branch_use().follows_load);
}

TEST_CASE("Following the load: what is generated is that of its steps' shares, and the result tells of its own steps alone") {
  const Engine engine = engine_of(2);
  Session session = following(engine), fixed = must(Session::open(engine));
  const GenerateResult result = must(session.generate(kPrompt, plain(7)));
  std::vector<Token> expected;
  must(fixed.prefill(kPrompt));
  for (size_t i = 0; i < 7; ++i) {
    if (i > 0) {
      must(fixed.set_branch_share(kFirstShares[i - 1]));
      must(fixed.step(expected.back()));
    }
    expected.push_back(likeliest(fixed));
  }
  CHECK(result.tokens == expected);
  CHECK(result.branches.follows_load);
  CHECK(result.branches.steps == 6);
  CHECK(std::abs(result.branches.mean_share - 4 / 6.0) < 1e-9);
  must(session.truncate(0));
  CHECK(must(session.generate(kPrompt, plain(4))).branches.steps == 3);
  CHECK(session.branch_use().steps == 9);
  must(session.set_branch_share(1));
  must(session.truncate(0));
  const GenerateResult after = must(session.generate(kPrompt, plain(7)));
  must(fixed.truncate(0));
  must(fixed.set_branch_share(1));
  CHECK(after.tokens == must(fixed.generate(kPrompt, plain(7))).tokens);
  CHECK(!after.branches.follows_load);
  CHECK(!session.branch_use().follows_load);
}

TEST_CASE("Following the load: with a budget that nothing exceeds all branches stay, with the smallest one those of a tiny model go") {
  const Engine engine = engine_of(2);
  Session generous = following(engine, {.max_slowdown = 10}), strict = following(engine, {.max_slowdown = 0.01});
  for (Session* const session : {&generous, &strict}) must(session->generate(kPrompt, plain(100)));
  // All branches take more than a hundredth of a step here, and less than eleven steps anywhere. A machine whose speed leaps makes samples
  // void, and with none every third step is bare: so two thirds stay for sure, and 0.9 where nothing else runs.
  const BranchUse more = must(generous.generate(kNext, plain(100))).branches, less = must(strict.generate(kNext, plain(100))).branches;
  CHECK(more.mean_share > 0.6);
  CHECK(less.mean_share < 0.6);
  CHECK(less.mean_share < more.mean_share);
}

TEST_CASE("Following the load: a fork goes on with what was found out, apart from the session that it is of") {
  const Engine engine = engine_of(3);
  Session session = following(engine), bare = must(Session::open(engine));
  must(session.prefill(kPrompt));
  must(session.step(kNext[0]));
  must(session.step(kNext[1]));
  must(bare.prefill(kPrompt));
  must(bare.step(kNext[0]));
  must(bare.step(kNext[1]));
  Session fork = must(session.fork());
  must(bare.set_branch_share(0));
  for (Session* const one : {&session, &fork, &bare}) must(one->step(kNext[2]));
  CHECK(logits_of(session) == logits_of(bare));
  CHECK(logits_of(fork) == logits_of(bare));
  CHECK(session.branch_use().steps == 3);
}

TEST_CASE("Following the load: sessions that step together use one share, and all follow or none does") {
  const Engine engine = engine_of(3);
  Session first = following(engine), second = following(engine), fixed = must(Session::open(engine));
  for (Session* const session : {&first, &second, &fixed}) must(session->prefill(kPrompt));
  std::array<Session*, 2> both = {&first, &second};
  for (size_t i = 0; i < kNext.size(); ++i) {
    CAPTURE(i);
    must(step_together(both, std::array{kNext[i], kNext[i]}));
    must(fixed.set_branch_share(kFirstShares[i]));
    must(fixed.step(kNext[i]));
    for (const Session* const session : both) CHECK(logits_of(*session) == logits_of(fixed));
  }
  CHECK(first.branch_use().steps == 6);
  CHECK(second.branch_use().steps == 0);
  std::array<Session*, 2> mixed = {&first, &fixed};
  CHECK(step_together(mixed, std::array<Token, 2>{1, 2}).to_string().find("follows the load") != std::string::npos);
  must(second.follow_load({.max_slowdown = 0.2}));
  CHECK(step_together(both, std::array<Token, 2>{1, 2}).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Following the load: in a batch one share is for all texts of a step, and it is told what it was") {
  const Engine engine = engine_of(4);
  std::vector<BatchRequest> requests(3, {kPrompt, plain(7)});
  BatchOptions options;
  options.follow_load = FollowLoad();
  const BatchResult batch = must(generate_batch(engine, requests, options));
  Session session = following(engine);
  const GenerateResult alone = must(session.generate(kPrompt, plain(7)));
  for (const Result<GenerateResult>& result : batch.results) {
    CHECK(must(result).tokens == alone.tokens);
    CHECK(must(result).branches.steps == 6);
  }
  CHECK(batch.report.branches.steps == 6);
  CHECK(std::abs(batch.report.branches.mean_share - 4 / 6.0) < 1e-9);
  options.follow_load->max_slowdown = 0;
  CHECK(generate_batch(engine, requests, options).status().to_string().find("max_slowdown") != std::string::npos);
  CHECK(!must(generate_batch(engine, requests)).report.branches.follows_load);
}

TEST_CASE("Following the load: drafts are refused, but auto is none") {
  const Engine engine = engine_of(3);
  Session session = following(engine);
  for (const DraftKind kind : {DraftKind::kNgram, DraftKind::kSelf}) {
    GenerateOptions options = plain(4);
    options.draft.kind = kind;
    const Status status = session.generate(kPrompt, options).status();
    CHECK(status.code() == StatusCode::kUnsupported);
    CHECK(status.to_string().find(draft_kind_name(kind)) != std::string::npos);
    CHECK(session.prepare_draft(options.draft).code() == StatusCode::kUnsupported);
  }
  GenerateOptions options = plain(4);
  options.draft.kind = DraftKind::kAuto;
  const GenerateResult result = must(session.generate(kPrompt, options));
  CHECK(result.speculation.draft == DraftKind::kNone);
  CHECK(result.branches.steps == 3);

  BatchOptions batch;
  batch.follow_load = FollowLoad();
  std::vector<BatchRequest> requests(2, {kPrompt, options});
  requests[1].options.draft.kind = DraftKind::kNgram;
  const BatchResult made = must(generate_batch(engine, requests, batch));
  CHECK(must(made.results[0]).tokens == result.tokens);
  CHECK(must(made.results[0]).speculation.draft == DraftKind::kNone);
  CHECK(made.results[1].status().code() == StatusCode::kUnsupported);
}

TEST_CASE("Following the load: options are checked, and a model without branches goes on as it is") {
  const Engine engine = engine_of(1);
  Session session = must(Session::open(engine));
  for (const double wrong : {-0.05, 0.0, 0.001, 11.0, static_cast<double>(NAN)}) {
    CAPTURE(wrong);
    CHECK(session.follow_load({.max_slowdown = wrong}).code() == StatusCode::kInvalidArgument);
  }
  CHECK(!session.branch_use().follows_load);

  const Engine whole = open_engine(must(Model::open(tiny_model_path("dense-f16"))), {.batch = 2});
  Session without = following(whole), fixed = must(Session::open(whole));
  CHECK(!without.branch_use().follows_load);
  CHECK(must(without.generate(kPrompt, plain(8))).tokens == must(fixed.generate(kPrompt, plain(8))).tokens);
  GenerateOptions drafted = plain(4);
  drafted.draft.kind = DraftKind::kNgram;
  must(without.generate(kNext, drafted));
}

TEST_CASE("Following the load: steps allocate nothing") {
  const Engine engine = engine_of(1);
  Session session = following(engine);
  must(session.prefill(kPrompt));
  must(session.step(1));
  const std::vector<Token> many(60, 7);
  CHECK(allocations_of_steps(session, many) == 0);
}

}  // namespace
}  // namespace outrigger::testing
