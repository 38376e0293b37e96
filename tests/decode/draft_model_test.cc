// Drafts that compute: another model within its bytes, and a compressed model without its branches.
#include "src/decode/draft_model.h"

#include <outrigger/compress.h>
#include <outrigger/speculation.h>

#include <cstring>

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
constexpr float kNoise = 0.03f;

struct Room {
  uint64_t draft_bytes = 0, host_bytes = Budgets::kUnlimited;
  uint32_t context_tokens = 256, draft_tokens = 16;
};

Result<Plan> plan_with(const Model& model, const Room& room) {
  Workload workload;
  workload.context_tokens = room.context_tokens;
  workload.prompt_tokens = workload.new_tokens = room.context_tokens / 2;
  workload.draft_tokens = room.draft_tokens;
  workload.draft_bytes = room.draft_bytes;
  return PlacementPlanner::plan(must(model.step_shape()), made_up_machine(2), {room.host_bytes, 0}, workload);
}

uint64_t needed_bytes(const std::string& draft, uint32_t context_tokens = 256) {
  return must(draft_model_bytes(must(Model::open(draft)), context_tokens, 2));
}

Engine roomy_engine(const SimilarDraft& files) {
  return must(Engine::open(files.target, must(plan_with(files.target, {needed_bytes(files.draft)}))));
}

GenerateOptions options_for(const DraftOptions& draft, uint32_t tokens = 100) {
  GenerateOptions options;
  options.max_tokens = tokens;
  options.ignore_eos = true;
  options.draft = draft;
  return options;
}

GenerateResult generated(const Engine& engine, const GenerateOptions& options, float branch_share = SessionOptions::kAsPlanned,
                         const std::vector<Token>& prompt = kPrompt) {
  Session session = must(Session::open(engine, {0, branch_share}));
  return must(session.generate(prompt, options));
}

TEST_CASE("Draft model: greedy text is the plain one, of every length, and much of a similar draft is accepted") {
  for (const float noise : {0.0f, 0.03f, 0.3f}) {
    CAPTURE(noise);
    const SimilarDraft files(noise);
    const Engine engine = roomy_engine(files);
    const std::vector<Token> plain = generated(engine, options_for({})).tokens;
    for (const uint32_t tokens : {1u, 2u, 5u, 16u, 0u}) {
      CAPTURE(tokens);
      const GenerateResult result = generated(engine, options_for({DraftKind::kModel, files.draft, tokens}));
      CHECK(result.tokens == plain);
      CHECK(result.speculation.draft == DraftKind::kModel);
      CHECK(result.speculation.draft_name == files.draft);
      if (tokens == 0) continue;
      CHECK(result.speculation.drafted > 0);
      if (noise == 0) CHECK(result.speculation.accepted == result.speculation.drafted);
      if (noise == 0.03f) CHECK(result.speculation.accepted * 5 > result.speculation.drafted);
    }
  }
}

TEST_CASE("Draft model: goes with its session through truncating, further prompts and other drafts") {
  const SimilarDraft files(kNoise);
  const Engine engine = roomy_engine(files);
  Session session = must(Session::open(engine)),
          plain = must(Session::open(must(Engine::open(files.target, must(plan_with(files.target, {}))))));
  const DraftOptions draft{DraftKind::kModel, files.draft, 4};
  must(session.prepare_draft(draft));
  for (const uint32_t position : {0u, 20u, 5u, 30u}) {
    CAPTURE(position);
    for (Session* one : {&session, &plain}) must(one->truncate(std::min<uint32_t>(position, static_cast<uint32_t>(one->tokens().size()))));
    const std::vector<Token> more = {static_cast<Token>(position + 1), 7};
    CHECK(must(session.generate(more, options_for(draft, 30))).tokens == must(plain.generate(more, options_for({}, 30))).tokens);
  }
  const DraftOptions ngram{DraftKind::kNgram, "", 4};
  CHECK(must(session.generate(kPrompt, options_for(ngram, 20))).tokens == must(plain.generate(kPrompt, options_for({}, 20))).tokens);
  CHECK(must(session.generate(kPrompt, options_for(draft, 20))).tokens == must(plain.generate(kPrompt, options_for({}, 20))).tokens);
}

// The logits behind a second draft, which follows a first one of which two tokens were right. With `spoils` the first layer's keys of the
// prompt are overwritten between the two: who computes the prompt again does not notice.
std::vector<float> logits_of_second_draft(bool spoils) {
  const SimilarDraft files(0);
  const Engine engine = roomy_engine(files);
  Session session = must(Session::open(engine));
  must(session.prepare_draft({DraftKind::kModel, files.draft, 4}));
  DraftModel& model = *session.impl().draft_model;
  ModelDraft source(model, must(Sampler::create({})), {});
  Draft draft(4, 0);
  std::vector<Token> text = kPrompt;
  must(source.propose(text, 4, {}, &draft));
  REQUIRE(draft.tokens().size() == 4);
  CHECK(model.session().tokens().size() == kPrompt.size() + 3);  // the last one was proposed and not computed
  if (spoils) std::memset(model.session().impl().cache.keys(0), 0, 256);
  text.insert(text.end(), {draft.tokens()[0], draft.tokens()[1], (draft.tokens()[2] + 1) % 200});
  draft.clear();
  must(source.propose(text, 1, {}, &draft));
  CHECK(std::equal(text.begin(), text.end(), model.session().tokens().begin(), model.session().tokens().end()));
  return {model.session().logits().begin(), model.session().logits().end()};
}

TEST_CASE("Draft model: keeps what it computed, and computes again only what the target said otherwise") {
  CHECK((logits_of_second_draft(false) == logits_of_second_draft(false)));
  CHECK((logits_of_second_draft(false) != logits_of_second_draft(true)));
}

TEST_CASE("Draft model: its bytes are the plan's, taken when it is opened and given back with the session") {
  const SimilarDraft files(kNoise);
  const uint64_t needed = needed_bytes(files.draft);
  const uint64_t least = must(plan_with(files.target, {needed})).minimum_host_bytes;
  CHECK(least == must(plan_with(files.target, {})).minimum_host_bytes + needed);
  CHECK(plan_with(files.target, {needed, least - 1}).status().code() == StatusCode::kBudget);
  const uint64_t budget = least + 60000;  // at the least itself steps have one token
  const Engine engine = must(Engine::open(files.target, must(plan_with(files.target, {needed, budget}))));
  CHECK(engine.memory().host.current.draft == 0);
  {
    Session session = must(Session::open(engine));
    must(session.generate(kPrompt, options_for({DraftKind::kModel, files.draft, 4})));
    const TierUse host = engine.memory().host;
    CHECK(host.current.draft > 0);
    CHECK(host.current.draft <= needed);
    CHECK(host.peak_bytes <= budget);
    CHECK(session.impl().draft_model->session().impl().engine->residency->report().peak_bytes == host.current.draft);
  }
  CHECK(engine.memory().host.current.draft == 0);
}

TEST_CASE("Draft model: one that is larger than what is left for it is refused with both numbers") {
  const SimilarDraft files(kNoise);
  const uint64_t needed = needed_bytes(files.draft);
  for (const uint64_t given : {uint64_t{0}, needed / 4096 / 3 * 4096}) {
    CAPTURE(given);
    const Engine engine = must(Engine::open(files.target, must(plan_with(files.target, {given}))));
    Session session = must(Session::open(engine));
    const Status status = session.generate(kPrompt, options_for({DraftKind::kModel, files.draft, 4})).status();
    CHECK(status.code() == StatusCode::kBudget);
    CHECK(status.given_bytes() == given);
    CHECK(status.needed_bytes() > given);
    CHECK(status.needed_bytes() <= needed);
    CHECK(status.file() == files.draft);
    CHECK(session.tokens().empty());
    CHECK(must(session.generate(kPrompt, options_for({}, 3))).tokens.size() == 3);
  }
  // So many bytes do.
  const Engine engine = must(Engine::open(files.target, must(plan_with(files.target, {needed}))));
  Session session = must(Session::open(engine)),
          other = must(Session::open(must(Engine::open(files.target, must(plan_with(files.target, {needed}))))));
  must(session.prepare_draft({DraftKind::kModel, files.draft, 4}));
}

TEST_CASE("Draft model: one for shorter contexts drafts as far as it goes") {
  const SimilarDraft files(0);
  std::vector<std::byte> bytes = random_dense();
  const std::string key = "llama.context_length";
  const auto found = std::search(bytes.begin(), bytes.end(), reinterpret_cast<const std::byte*>(key.data()),
                                 reinterpret_cast<const std::byte*>(key.data()) + key.size());
  REQUIRE(found != bytes.end());
  const uint32_t context = 40;
  std::memcpy(&*found + key.size() + sizeof(uint32_t), &context, sizeof context);
  write_test_file(files.scratch / "short.gguf", bytes);
  const std::string path = files.scratch / "short.gguf";
  CHECK(needed_bytes(path) < needed_bytes(files.draft));
  const Engine engine = must(Engine::open(files.target, must(plan_with(files.target, {needed_bytes(path)}))));
  const GenerateResult result = generated(engine, options_for({DraftKind::kModel, path, 4}));
  CHECK(result.tokens == generated(engine, options_for({})).tokens);
  CHECK(result.speculation.accepted > 20);
  CHECK(result.speculation.drafted < 40);
}

TEST_CASE("Draft model: files that are missing, broken, of another vocabulary or without one are refused, and the session is as it was") {
  const SimilarDraft files(kNoise);
  const Engine engine = must(Engine::open(files.target, must(plan_with(files.target, {needed_bytes(files.draft)}))));
  Session session = must(Session::open(engine));
  must(session.prefill(kPrompt));
  const auto refused = [&](const std::string& path) {
    const Status status = session.prepare_draft({DraftKind::kModel, path, 4});
    CHECK(session.tokens().size() == kPrompt.size());
    CHECK(session.generate(std::vector<Token>{1}, options_for({DraftKind::kModel, path, 4})).status().code() == status.code());
    CHECK(session.tokens().size() == kPrompt.size());
    return status;
  };
  CHECK(refused(files.scratch / "nothing.gguf").code() == StatusCode::kNotFound);
  std::vector<std::byte> broken = random_dense();
  broken.resize(broken.size() / 2);
  write_test_file(files.scratch / "broken.gguf", broken);
  CHECK(refused(files.scratch / "broken.gguf").code() == StatusCode::kCorruptFile);
  CHECK(refused(tiny_model_path("smollm")).code() == StatusCode::kInvalidArgument);  // which says what its tokens are
  // What is asked for is looked at again.
  must(session.prepare_draft({DraftKind::kModel, files.draft, 4}));
}

TEST_CASE("Draft model: of another vocabulary the first token that differs is named") {
  const Model target = must(Model::open(tiny_model_path("smollm"))), other = must(Model::open(tiny_model_path("llama3")));
  const Tokenizer ours = must(target.tokenizer()), theirs = must(other.tokenizer());
  Token differs = 0;
  while (must(ours.piece(differs, true)) == must(theirs.piece(differs, true))) ++differs;
  Workload workload{.prompt_tokens = 8, .new_tokens = 8};
  workload.draft_tokens = 4;
  workload.draft_bytes = uint64_t{64} << 20;
  const Plan plan = must(PlacementPlanner::plan(must(target.step_shape()), made_up_machine(2), {0, 0}, workload));
  Session session = must(Session::open(must(Engine::open(target, plan))));
  const Status status = session.prepare_draft({DraftKind::kModel, tiny_model_path("llama3"), 4});
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message().find("token " + std::to_string(differs) + " is '") != std::string::npos);
  CHECK(status.file() == tiny_model_path("llama3"));
  must(session.prepare_draft({DraftKind::kModel, tiny_model_path("smollm"), 4}));
}

// A vocabulary alone: these pieces, of these types.
Model vocabulary_of(const ScratchFolder& scratch, const std::vector<std::string>& pieces, const std::vector<int32_t>& types) {
  GgufWriter writer;
  writer.add_string("general.architecture", "llama");
  writer.add_string("tokenizer.ggml.model", "llama");
  writer.add_strings("tokenizer.ggml.tokens", pieces);
  writer.add_floats("tokenizer.ggml.scores", std::vector<float>(pieces.size(), 0));
  writer.add_i32s("tokenizer.ggml.token_type", types);
  write_test_file(scratch / "vocabulary.gguf", writer.finish());
  return must(Model::open(scratch / "vocabulary.gguf"));
}

TEST_CASE("Draft model: vocabularies may differ in tokens that nobody uses, and in nothing else") {
  const ScratchFolder scratch;
  const Model ours = vocabulary_of(scratch, {"<unk>", "a", "b"}, {2, 1, 1});
  must(ours.tokenizer());
  const auto compared = [&](const std::vector<std::string>& pieces, const std::vector<int32_t>& types) {
    const Model theirs = vocabulary_of(scratch, pieces, types);
    const Status there = check_same_vocabulary(ours, theirs), back = check_same_vocabulary(theirs, ours);
    CHECK(there.code() == back.code());
    return there;
  };
  must(compared({"<unk>", "a", "b"}, {2, 1, 1}));
  must(compared({"<unk>", "a", "b", "<pad0>", "<pad1>"}, {2, 1, 1, 5, 5}));
  CHECK(compared({"<unk>", "a", "b", "c"}, {2, 1, 1, 1}).message().find("token 3 is no such token in the model and 'c' in the draft") !=
        std::string::npos);
  CHECK(compared({"<unk>", "a", "\n"}, {2, 1, 1}).message().find("token 2 is 'b' in the model and '\\x0a' in the draft") !=
        std::string::npos);
  CHECK(compared({"<unk>", "a"}, {2, 1}).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Draft by the model itself: greedy text is the plain one, in memory and from disk, with all and half of the branches") {
  const Branched branched;
  for (const bool streams : {false, true}) {
    Room room;
    if (streams) room.host_bytes = must(plan_with(branched.model, room)).minimum_host_bytes + 40000;
    const Engine engine = must(Engine::open(branched.model, must(plan_with(branched.model, room))));
    CHECK((engine.plan().decode.streamed_bytes > 0) == streams);
    for (const float share : {1.0f, 0.5f}) {
      CHECK(generated(engine, options_for({}, 60), share).tokens != generated(engine, options_for({}, 60), 0).tokens);
      uint64_t drafted = 0, accepted = 0;
      for (const auto& [prompt, tokens] : std::initializer_list<std::pair<std::vector<Token>, uint32_t>>{
               {kPrompt, 1}, {kPrompt, 3}, {kPrompt, 8}, {kPrompt, 0}, {{7, 150}, 3}, {{120, 33, 9}, 3}, {{42}, 3}}) {
        CAPTURE(streams, share, prompt, tokens);
        const std::vector<Token> plain = generated(engine, options_for({}, 60), share, prompt).tokens;
        const GenerateResult result = generated(engine, options_for({DraftKind::kSelf, "", tokens}, 60), share, prompt);
        CHECK(result.tokens == plain);
        CHECK(result.speculation.draft_name == "self");
        if (tokens == 0) continue;
        CHECK(result.speculation.accepted > 0);
        drafted += result.speculation.drafted, accepted += result.speculation.accepted;
      }
      CHECK(accepted < drafted);
    }
    CHECK(engine.memory().host.current.draft == 0);
  }
}

TEST_CASE("Draft by the model itself: proposes what the bare model says of a text that was read with branches, and leaves nothing behind") {
  const Branched branched;
  const Engine engine = must(Engine::open(branched.model, must(plan_with(branched.model, {}))));
  std::vector<Token> expected;
  {
    Session session = must(Session::open(engine));
    Sampler sampler = must(Sampler::create({}));
    must(session.prefill(std::span(kPrompt).first(kPrompt.size() - 1)));
    must(session.set_branch_share(0));
    must(session.step(kPrompt.back()));
    for (int i = 0; i < 6; ++i) {
      expected.push_back(must(sampler.sample(session.logits(), session.tokens())));
      must(session.step(expected.back()));
    }
  }
  Session session = must(Session::open(engine));
  must(session.prefill(kPrompt));
  const std::vector<float> after(session.logits().begin(), session.logits().end());
  session.impl().computed -= 1;  // as between steps
  SelfDraft source(session.impl(), must(Sampler::create({})), {});
  Draft draft(6, 0);
  must(source.propose(session.impl().tokens, 6, {}, &draft));
  CHECK(std::equal(draft.tokens().begin(), draft.tokens().end(), expected.begin(), expected.end()));
  CHECK(session.tokens().size() == kPrompt.size());
  must(session.impl().compute({}, {}, {}));
  CHECK(std::equal(after.begin(), after.end(), session.logits().begin()));
}

TEST_CASE("Draft by the model itself: drawn text keeps to what the sampler leaves, and ends as plain drawing does") {
  const Branched branched;
  const Engine engine = must(Engine::open(branched.model, must(plan_with(branched.model, {}))));
  GenerateOptions options = options_for({DraftKind::kSelf, "", 5}, 80);
  options.sampling = {.temperature = 1, .top_k = 2, .seed = 3};
  const GenerateResult result = generated(engine, options);
  CHECK(result.tokens.size() == 80);
  CHECK(result.speculation.accepted > 0);
  CHECK(result.tokens == generated(engine, options).tokens);  // a fixed length: the same again
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

TEST_CASE("Draft by the model itself: refused where there are no branches, or none are used") {
  const SimilarDraft files(kNoise);
  Session without = must(Session::open(must(Engine::open(files.target, must(plan_with(files.target, {}))))));
  const Status none = without.generate(kPrompt, options_for({DraftKind::kSelf, "", 4})).status();
  CHECK(none.code() == StatusCode::kUnsupported);
  CHECK(none.message().find("no branches") != std::string::npos);
  const Branched branched;
  Session off = must(Session::open(must(Engine::open(branched.model, must(plan_with(branched.model, {})))), {0, 0}));
  const Status unused = off.generate(kPrompt, options_for({DraftKind::kSelf, "", 4})).status();
  CHECK(unused.code() == StatusCode::kInvalidArgument);
  CHECK(unused.message().find("branch share is 0") != std::string::npos);
}

TEST_CASE("Draft model: a plan with less for it than open sessions hold is no plan to change to") {
  const SimilarDraft files(kNoise);
  const uint64_t needed = needed_bytes(files.draft);
  Engine engine = roomy_engine(files);
  Session session = must(Session::open(engine));
  must(session.prepare_draft({DraftKind::kModel, files.draft, 4}));
  const Status status = engine.replan(must(plan_with(files.target, {0})));
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message().find("draft model") != std::string::npos);
  must(engine.replan(must(plan_with(files.target, {2 * needed}))));
  CHECK(must(session.generate(kPrompt, options_for({DraftKind::kModel, files.draft, 4}))).tokens.size() == 100);
}

}  // namespace
}  // namespace outrigger::testing
