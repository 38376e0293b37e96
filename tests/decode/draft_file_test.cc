// A draft model's file that disappears: before it is opened that is an error, afterwards nobody notices.
#include <filesystem>
#include <functional>
#include <utility>

#include "tests/decode/drafted_batches.h"

namespace outrigger::testing {
namespace {

const std::vector<Token> kPrompt = {3, 14, 15, 92, 65, 35, 89, 79};

struct Loss {
  const char* name;
  std::function<void(const std::string& path)> lose;
};
const Loss kLosses[] = {
    {"unlinked", [](const std::string& path) { std::filesystem::remove(path); }},
    {"cut short", [](const std::string& path) { std::filesystem::resize_file(path, 1000); }},
};

GenerateOptions options_for(const DraftOptions& draft) {
  GenerateOptions options;
  options.max_tokens = 60;
  options.ignore_eos = true;
  options.draft = draft;
  return options;
}

struct Drafted {
  std::vector<Token> tokens;
  uint64_t drafted = 0, accepted = 0;

  bool operator==(const Drafted&) const = default;
};

Drafted drafted_by(Session& session, const DraftOptions& draft) {
  must(session.truncate(0));
  const GenerateResult result = must(session.generate(kPrompt, options_for(draft)));
  return {result.tokens, result.speculation.drafted, result.speculation.accepted};
}

TEST_CASE("Draft file: once the draft is prepared it is in memory, and a file that is unlinked or cut short changes nothing") {
  for (const Loss& loss : kLosses) {
    CAPTURE(loss.name);
    const SimilarDraft files(0.03f);
    const Engine engine = engine_with(files, {.batch = 2});
    Session session = must(Session::open(engine)), other = must(Session::open(engine));
    const DraftOptions draft{DraftKind::kModel, files.draft, 4};
    must(session.prepare_draft(draft));
    loss.lose(files.draft);
    Drafted first, second;
    const std::vector<std::string> warnings = warnings_of([&] { first = drafted_by(session, draft), second = drafted_by(session, draft); });
    CHECK(warnings.empty());
    CHECK(first.tokens == drafted_by(other, {}).tokens);
    CHECK(first.accepted > 0);
    CHECK(first == second);
  }
}

TEST_CASE("Draft file: one that is gone between planning and generating is an error, and the session is as it was") {
  const SimilarDraft files(0.03f);
  const Engine engine = engine_with(files, {.batch = 2});
  Session session = must(Session::open(engine)), other = must(Session::open(engine));
  std::filesystem::remove(files.draft);
  for (Session* one : {&session, &other}) must(one->prefill(kPrompt));
  const std::vector<float> logits(session.logits().begin(), session.logits().end());
  const Status status = session.generate(std::vector<Token>{1}, options_for({DraftKind::kModel, files.draft, 4})).status();
  CHECK(status.code() == StatusCode::kNotFound);
  CHECK(status.to_string().find(files.draft) != std::string::npos);
  CHECK(std::equal(kPrompt.begin(), kPrompt.end(), session.tokens().begin(), session.tokens().end()));
  CHECK(std::equal(logits.begin(), logits.end(), session.logits().begin(), session.logits().end()));
  CHECK(engine.memory().host.current.draft == 0);
  CHECK(must(session.generate(std::vector<Token>{1}, options_for({}))).tokens ==
        must(other.generate(std::vector<Token>{1}, options_for({}))).tokens);
}

TEST_CASE("Draft file: in a batch, one that is gone before is an error of the texts that ask for it, and of no other") {
  const SimilarDraft files(0.03f);
  const Engine engine = engine_with(files, {.batch = 3});
  std::vector<BatchRequest> requests = greedy_requests(6, {DraftKind::kModel, files.draft, 4});
  requests[1].options.draft = {};
  requests[4].options.draft = {DraftKind::kNgram, "", 4};
  std::filesystem::remove(files.draft);
  const std::vector<SeenText> seen = together(engine, requests), alone = one_by_one(engine, requests);
  for (const size_t i : {0u, 2u, 3u, 5u}) {
    CHECK(seen[i].code == StatusCode::kNotFound);
    CHECK(seen[i].calls.empty());
  }
  for (const size_t i : {1u, 4u}) CHECK(seen[i] == alone[i]);
  CHECK(engine.memory().host.current.draft == 0);
}

TEST_CASE("Draft file: in a batch, one that goes meanwhile changes nothing, together and in two groups") {
  for (const Loss& loss : kLosses) {
    for (const uint32_t groups : {1u, 2u}) {
      CAPTURE(loss.name, groups);
      const SimilarDraft files(0.03f);
      const Engine engine = engine_with(files, {.batch = 4});
      std::vector<BatchRequest> requests = greedy_requests(7, {DraftKind::kModel, files.draft, 4});
      const std::vector<SeenText> plain = one_by_one(engine, requests);
      bool is_lost = false;
      for (BatchRequest& request : requests) {
        request.options.on_token = [&](const GeneratedToken&) {
          if (!std::exchange(is_lost, true)) loss.lose(files.draft);
          return true;
        };
      }
      BatchOptions options;
      options.groups = groups;
      std::vector<SeenText> seen;
      CHECK(warnings_of([&] { seen = together(engine, requests, options); }).empty());
      CHECK(is_lost);
      CHECK(seen == plain);
    }
  }
}

}  // namespace
}  // namespace outrigger::testing
