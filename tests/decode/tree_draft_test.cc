// Trees that models draft: another model and a compressed one without its branches; greedy and drawn.
#include "src/decode/tree_draft.h"

#include <outrigger/compress.h>
#include <outrigger/speculation.h>

#include "src/decode/draft_model.h"
#include "src/decode/self_draft.h"
#include "src/decode/session_impl.h"
#include "tests/support/branched_model.h"
#include "tests/support/engines.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/support/similar_draft.h"

namespace outrigger::testing {
namespace {

const std::vector<Token> kPrompt = {3, 14, 15, 92, 65, 35, 89, 79};

Engine engine_with(const Model& target, const std::string& draft = {}, uint64_t host_bytes = Budgets::kUnlimited,
                   uint32_t kv_spilled_layers = Workload::kAsItPays) {
  Workload workload;
  workload.kv_spilled_layers = kv_spilled_layers;
  workload.context_tokens = 256;
  workload.prompt_tokens = workload.new_tokens = 128;
  workload.draft_tokens = kMostTreeDraftTokens;
  if (!draft.empty()) workload.draft_bytes = must(draft_model_bytes(must(Model::open(draft)), 256, 2));
  const Plan plan = must(PlacementPlanner::plan(must(target.step_shape()), made_up_machine(2), {host_bytes, 0}, workload));
  return must(Engine::open(target, plan));
}

DraftOptions trees_of(DraftKind kind, const std::string& path, uint32_t tokens) { return {kind, path, tokens, DraftShape::kTree}; }

GenerateOptions options_for(const DraftOptions& draft, uint32_t tokens = 100) {
  GenerateOptions options;
  options.max_tokens = tokens;
  options.ignore_eos = true;
  options.draft = draft;
  return options;
}

GenerateResult generated(const Engine& engine, const GenerateOptions& options, float branch_share = SessionOptions::kAsPlanned) {
  Session session = must(Session::open(engine, {0, branch_share}));
  return must(session.generate(kPrompt, options));
}

TEST_CASE("Tree by a draft model: greedy text is the plain one in every size, and a tree is right where a chain of its depth is not") {
  for (const float noise : {0.0f, 0.03f, 0.1f}) {
    CAPTURE(noise);
    const SimilarDraft files(noise);
    const Engine engine = engine_with(files.target, files.draft);
    const std::vector<Token> plain = generated(engine, options_for({})).tokens;
    for (const uint32_t tokens : {1u, 2u, 3u, 7u, 15u, 31u, 0u}) {
      CAPTURE(tokens);
      const GenerateResult result = generated(engine, options_for(trees_of(DraftKind::kModel, files.draft, tokens)));
      CHECK(result.tokens == plain);
      if (tokens < 3) continue;
      CHECK(result.speculation.tree_passes > 0);
      const uint32_t depth = (tokens + kModelTreeWidth - 1) / kModelTreeWidth;
      if (noise == 0) CHECK(result.speculation.accepted_at[depth - 1] * 2 > result.speculation.passes);
      const GenerateResult chain = generated(engine, options_for({DraftKind::kModel, files.draft, depth}));
      if (noise > 0.05f) CHECK(result.speculation.tokens_per_pass >= chain.speculation.tokens_per_pass);
      if (noise == 0.03f) CHECK(result.speculation.tokens_per_pass > chain.speculation.tokens_per_pass);
    }
  }
}

TEST_CASE("Tree by a draft model: goes with its session through truncating, further prompts, penalties and a context that ends") {
  const SimilarDraft files(0.1f);
  const Engine engine = engine_with(files.target, files.draft), other = engine_with(files.target);
  Session session = must(Session::open(engine)), plain = must(Session::open(other));
  const DraftOptions draft = trees_of(DraftKind::kModel, files.draft, 12);
  for (const uint32_t position : {0u, 20u, 5u, 30u, 250u}) {
    CAPTURE(position);
    for (Session* one : {&session, &plain}) must(one->truncate(std::min<uint32_t>(position, static_cast<uint32_t>(one->tokens().size()))));
    const std::vector<Token> more = {static_cast<Token>(position % 100 + 1), 7};
    for (const float penalty : {1.0f, 1.3f}) {
      GenerateOptions drafted = options_for(draft, 110), undrafted = options_for({}, 110);
      drafted.sampling.repeat_penalty = undrafted.sampling.repeat_penalty = penalty;
      if (session.tokens().size() + more.size() > session.context_tokens()) continue;
      CHECK(must(session.generate(more, drafted)).tokens == must(plain.generate(more, undrafted)).tokens);
    }
  }
}

// Of a second draft, which follows a first one of which a path of two was accepted and then another token: what the draft holds, and its
// logits.
TEST_CASE("Tree by a draft model: the draft keeps what was accepted of its tree, and its keys and values are those of the plain text") {
  const SimilarDraft files(0);
  const Engine engine = engine_with(files.target, files.draft);
  Session session = must(Session::open(engine));
  must(session.prepare_draft(trees_of(DraftKind::kModel, files.draft, 12)));
  DraftModel& model = *session.impl().draft_model;
  const SamplingOptions sampling = draft_sampling({.temperature = 20, .top_k = 3, .seed = 1});  // hot enough for trees that are wide
  ModelDraft source(model, must(Sampler::create(sampling)), sampling);
  REQUIRE(source.tree_width() == 3);
  Draft draft(31, kMostDraftCandidates);
  must(source.propose_tree(kPrompt, {12, 4, 3, 16}, {}, &draft));
  REQUIRE(draft.depth() == 4);
  CHECK(draft.tokens().size() == 12);
  CHECK(model.session().tokens().size() == kPrompt.size());
  // The last token of the third level, whose place in the cache is far from that of its depth.
  size_t node = 0;
  for (size_t one = 1; one < draft.tree().size(); ++one) {
    if (draft.tree().depth(one) == 3) node = one;
  }
  std::vector<Token> text = kPrompt;
  for (size_t depth = 1; depth <= 3; ++depth) text.push_back(draft.token(draft.tree().on_path(node, depth)));
  CHECK(draft.tree().on_path(node, 3) != 3);
  text.push_back(1);
  const uint32_t before = model.session().impl().computed;
  must(source.read(text, {}));
  CHECK(before == kPrompt.size());
  CHECK(std::equal(text.begin(), text.end(), model.session().tokens().begin(), model.session().tokens().end()));
  Session plain = must(Session::open(engine_with(files.target)));
  must(plain.prefill(text));
  CHECK(std::equal(plain.logits().begin(), plain.logits().end(), model.session().logits().begin()));
}

TEST_CASE("Tree by a draft model: its likeliest guesses at the next token come first, and its paths are those of its own chains") {
  const SimilarDraft files(0);
  const Engine engine = engine_with(files.target, files.draft);
  Session session = must(Session::open(engine)), judge = must(Session::open(engine_with(files.target)));
  must(session.prepare_draft(trees_of(DraftKind::kModel, files.draft, 12)));
  ModelDraft source(*session.impl().draft_model, must(Sampler::create({})), {});
  Draft draft(31, 0);
  must(source.propose_tree(kPrompt, {31, 10, 3, 16}, {}, &draft));
  must(judge.prefill(kPrompt));
  Sampler sampler = must(Sampler::create({.temperature = 1, .top_k = 64}));
  for (size_t node = 0; node < draft.tree().size(); ++node) {
    std::vector<Token> text = kPrompt;
    for (size_t depth = 1; depth <= draft.tree().depth(node); ++depth) text.push_back(draft.token(draft.tree().on_path(node, depth)));
    must(judge.truncate(0));
    must(judge.prefill(text));
    const auto distribution = must(sampler.distribution(judge.logits(), text));
    size_t place = 0;
    for (size_t child = node + 1; child < draft.tree().size(); ++child) {
      if (draft.tree().parent(child) == node) REQUIRE(draft.token(child) == distribution[place++].token);
    }
  }
}

TEST_CASE("Tree by the model itself: greedy text is the plain one, in memory and from disk, with all and half of the branches") {
  const Branched branched;
  const Engine in_memory = engine_with(branched.model);
  const uint64_t least = in_memory.plan().minimum_host_bytes;
  for (const bool streams : {false, true}) {
    const Engine engine = streams ? engine_with(branched.model, {}, least + 150000) : in_memory;
    CHECK(engine.plan().logit_rows >= 8);
    CHECK((engine.plan().decode.streamed_bytes > 0) == streams);
    for (const float share : {1.0f, 0.5f}) {
      const std::vector<Token> plain = generated(engine, options_for({}, 60), share).tokens;
      for (const uint32_t tokens : {2u, 6u, 13u, 0u}) {
        CAPTURE(streams, share, tokens);
        const GenerateResult result = generated(engine, options_for(trees_of(DraftKind::kSelf, "", tokens), 60), share);
        CHECK(result.tokens == plain);
        if (tokens > 2) CHECK(result.speculation.accepted > 0);
      }
    }
  }
}

TEST_CASE(
    "Tree by the model itself: proposes what the bare model says of a text that was read with branches, wherever keys and values are") {
  const Branched branched;
  std::vector<Token> prompt = kPrompt;
  prompt.insert(prompt.end(), {9, 7, 9, 3, 2, 38, 4, 6});  // a whole block of the cache: trees lie in the next
  const SamplingOptions sampling = draft_sampling({.temperature = 20, .top_k = 3, .seed = 1});  // hot enough for trees that are wide
  std::vector<Token> first;
  for (const uint32_t spilled : {0u, 1u, 3u}) {
    CAPTURE(spilled);
    const Engine engine = engine_with(branched.model, {}, Budgets::kUnlimited, spilled);
    Session session = must(Session::open(engine));
    must(session.prefill(prompt));
    const std::vector<float> after(session.logits().begin(), session.logits().end());
    session.impl().computed -= 1;  // as between steps
    SelfDraft source(session.impl(), must(Sampler::create(sampling)), sampling);
    Draft draft(31, kMostDraftCandidates);
    must(source.propose_tree(session.tokens(), {31, 10, 3, 16}, {}, &draft));
    CHECK(draft.depth() >= 3);
    CHECK(draft.tokens().size() >= 7);
    if (first.empty()) first.assign(draft.tokens().begin(), draft.tokens().end());
    CHECK(std::equal(first.begin(), first.end(), draft.tokens().begin(), draft.tokens().end()));
    CHECK(session.tokens().size() == prompt.size());
    must(session.impl().compute({}, {}, {}));
    CHECK(std::equal(after.begin(), after.end(), session.logits().begin()));

    // Each path as a chain of the bare model's: to the last bit.
    must(session.truncate(0));
    must(session.prefill(std::span(prompt).first(prompt.size() - 1)));
    Sampler sampler = must(Sampler::create(sampling));
    for (size_t node = 0; node < draft.tree().size(); ++node) {
      std::vector<Token> text = {prompt.back()};
      for (size_t depth = 1; depth <= draft.tree().depth(node); ++depth) text.push_back(draft.token(draft.tree().on_path(node, depth)));
      must(session.truncate(static_cast<uint32_t>(prompt.size() - 1)));
      must(session.set_branch_share(0));
      must(session.prefill(text));
      const auto distribution = must(sampler.distribution(session.logits(), session.tokens()));
      const auto told = draft.distribution(node);
      for (size_t i = 0; i < told.size(); ++i) {
        REQUIRE(told[i].token == distribution[i].token);
        REQUIRE(told[i].probability == distribution[i].probability);
      }
    }
  }
}

TEST_CASE("Tree by the model itself: drawn text is the same for a seed, and keeps to what the sampler leaves") {
  const Branched branched;
  const Engine engine = engine_with(branched.model);
  GenerateOptions options = options_for(trees_of(DraftKind::kSelf, "", 9), 80);
  options.sampling = {.temperature = 1, .top_k = 2, .seed = 3};
  const GenerateResult result = generated(engine, options);
  CHECK(result.tokens.size() == 80);
  CHECK(result.speculation.accepted > 0);
  CHECK(result.tokens == generated(engine, options).tokens);
  Session judge = must(Session::open(engine));
  std::vector<Token> text = kPrompt;
  Sampler sampler = must(Sampler::create(options.sampling));
  for (const Token token : result.tokens) {
    must(judge.prefill(std::span(text).subspan(judge.tokens().size())));
    const auto kept = must(sampler.distribution(judge.logits(), text));
    REQUIRE(std::any_of(kept.begin(), kept.end(), [&](const TokenProbability& one) { return one.token == token; }));
    text.push_back(token);
  }
}

}  // namespace
}  // namespace outrigger::testing
