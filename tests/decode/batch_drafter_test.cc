// A draft model for all texts of a batch: texts are the plain ones, drafts those that it makes for each text alone.
#include "src/decode/batch_drafter.h"

#include <outrigger/speculation.h>

#include <cstring>

#include "tests/decode/drafted_batches.h"
#include "tests/support/batches.h"
#include "tests/support/few_cases.h"
#include "tests/support/similar_draft.h"

namespace outrigger::testing {
namespace {

constexpr float kNoise = 0.03f;

TEST_CASE("Batch drafter: greedy texts are the plain ones, of every length of drafts, and much of a similar draft is accepted") {
  for (const float noise : {0.0f, 0.03f, 0.5f}) {
    const SimilarDraft files(noise);
    for (const uint32_t batch : {1u, 3u, 5u}) {
      const Engine engine = engine_with(files, {.batch = batch, .threads = batch % 3 + 1});
      for (const uint32_t tokens : {1u, 3u, 8u, 0u}) {
        CAPTURE(noise, batch, tokens);
        const std::vector<BatchRequest> requests = greedy_requests(7, {DraftKind::kModel, files.draft, tokens});
        CHECK(together(engine, requests) == one_by_one(engine, requests));
        uint64_t drafted = 0, accepted = 0;
        double drafting_ms = 0;
        for (const Result<GenerateResult>& result : must(generate_batch(engine, requests)).results) {
          const SpeculationReport& report = must(result).speculation;
          CHECK(report.draft == DraftKind::kModel);
          CHECK(report.draft_name == files.draft);
          CHECK(report.passes + report.accepted == must(result).tokens.size() - 1);
          CHECK((report.verify_ms > 0) == (report.passes > 0));
          CHECK(report.draft_ms + report.verify_ms <= must(result).timings.decode_ms);
          CHECK(report.auto_off == (report.ms_per_token_plain > 0));
          CHECK(report.auto_off == (report.ms_per_token_drafted > 0));
          drafting_ms += report.draft_ms;
          drafted += report.drafted;
          accepted += report.accepted;
        }
        if (tokens == 0) continue;
        CHECK(drafted > 20);
        CHECK(drafting_ms > 0.005 * static_cast<double>(drafted));  // the draft's step takes longer than looking a draft up
        if (noise == 0) CHECK(accepted == drafted);
        if (noise == 0.03f) CHECK(accepted * 5 > drafted);
        if (noise == 0.5f) CHECK(accepted < drafted);
      }
    }
  }
}

TEST_CASE("Batch drafter: the same with few rows of logits, and where the model's weights come from disk") {
  const SimilarDraft files(kNoise);
  const Room room = few_rows(files);
  const Engine engine = engine_with(files, room);
  CHECK(engine.plan().decode.streamed_bytes > 0);
  CHECK(engine.plan().logit_rows < 12);
  const std::vector<BatchRequest> requests = greedy_requests(9, {DraftKind::kModel, files.draft, 0});
  CHECK(together(engine, requests) == one_by_one(engine, requests));
  CHECK(engine.memory().host.peak_bytes <= room.host_bytes);
}

TEST_CASE("Batch drafter: texts with other drafts and none are in the same batch, and a second model is refused by name") {
  const SimilarDraft files(kNoise);
  const Engine engine = engine_with(files, {});
  std::vector<BatchRequest> requests = greedy_requests(6, {DraftKind::kModel, files.draft, 4});
  requests[1].options.draft = {DraftKind::kNgram, "", 4};
  requests[2].options.draft = {};
  requests[4].options.draft.path = files.scratch / "other.gguf";
  const std::vector<SeenText> seen = together(engine, requests), alone = one_by_one(engine, requests);
  for (const size_t i : {0u, 1u, 2u, 3u, 5u}) CHECK(seen[i] == alone[i]);
  CHECK(seen[4].code == StatusCode::kUnsupported);
  CHECK(seen[4].message.find("other.gguf") != std::string::npos);
}

TEST_CASE("Batch drafter: takes the plan's bytes for all texts, gives them back, and is refused with both numbers where they are too few") {
  const SimilarDraft files(kNoise);
  const Room room;
  const uint64_t needed = needed_bytes(files, room), for_one = needed_bytes(files, {.batch = 1});
  CHECK(needed > for_one);
  const std::vector<BatchRequest> requests = greedy_requests(4, {DraftKind::kModel, files.draft, 4});
  const Engine engine = engine_with(files, room);
  uint64_t held = 0;
  BatchOptions options;
  options.on_result = [&](size_t, const Result<GenerateResult>&) { held = engine.memory().host.current.draft; };
  must(generate_batch(engine, requests, options));
  CHECK(held > for_one / 2);
  CHECK(held <= needed);
  CHECK(engine.memory().host.current.draft == 0);

  const Engine small = engine_with(files, {.draft_bytes = for_one / 2 / 4096 * 4096});
  for (const Result<GenerateResult>& result : must(generate_batch(small, requests)).results) {
    CHECK(result.status().code() == StatusCode::kBudget);
    CHECK(result.status().given_bytes() == for_one / 2 / 4096 * 4096);
    CHECK(result.status().needed_bytes() > result.status().given_bytes());
  }
}

// The tokens that two places draft: both read their prompts, then go on with what was accepted of the first draft.
struct TwoDrafts {
  const SimilarDraft files{0};
  const Engine engine = engine_with(files, {.batch = 2});
  std::unique_ptr<BatchDrafter> drafter = must(BatchDrafter::open(*engine.impl(), files.draft, 160, 2, {}));
  std::vector<std::unique_ptr<DraftSource>> sources;
  std::vector<std::vector<Token>> texts = {{3, 14, 15, 92}, {6, 53, 58, 97, 93, 23, 84}};

  TwoDrafts() {
    for (size_t i = 0; i < 2; ++i) sources.push_back(must(drafter->begin(i, {})));
  }
  std::vector<std::vector<Token>> next(uint32_t most) {
    for (size_t i = 0; i < 2; ++i) drafter->ask(i, texts[i], most + static_cast<uint32_t>(i));
    must(drafter->run({}));
    std::vector<std::vector<Token>> made;
    for (size_t i = 0; i < 2; ++i) {
      Draft draft(kMostDraftTokens, 0);
      must(sources[i]->propose(texts[i], kMostDraftTokens, {}, &draft));
      made.emplace_back(draft.tokens().begin(), draft.tokens().end());
    }
    return made;
  }
};

TEST_CASE("Batch drafter: drafts what the model says alone, reads a prompt once, and steps once for a token of all texts") {
  TwoDrafts two;
  std::vector<BatchRequest> requests(2);
  for (size_t i = 0; i < 2; ++i) {
    requests[i].prompt = two.texts[i];
    requests[i].options.max_tokens = 12;
    requests[i].options.ignore_eos = true;
  }
  const std::vector<SeenText> alone = one_by_one(two.engine, requests);
  const auto first = two.next(4);
  CHECK(two.drafter->has_read());
  for (size_t i = 0; i < 2; ++i) {
    REQUIRE(first[i].size() == 4 + i);
    CHECK(std::equal(first[i].begin(), first[i].end(), alone[i].tokens.begin()));
    two.texts[i].insert(two.texts[i].end(), alone[i].tokens.begin(),
                        alone[i].tokens.begin() + 5 + static_cast<ptrdiff_t>(i));  // all, and one more
  }
  const auto second = two.next(3);
  CHECK(!two.drafter->has_read());
  for (size_t i = 0; i < 2; ++i)
    CHECK(std::equal(second[i].begin(), second[i].end(), alone[i].tokens.begin() + 5 + static_cast<ptrdiff_t>(i)));
  // Nobody asked since: nothing is proposed for a text that has grown.
  Draft draft(kMostDraftTokens, 0);
  two.texts[0].push_back(1);
  must(two.sources[0]->propose(two.texts[0], 4, {}, &draft));
  CHECK(draft.tokens().empty());
}

TEST_CASE("Batch drafter: a prompt that was read beside is read, as far as that came, and drafts are the same") {
  TwoDrafts other;
  const auto expected = other.next(4);
  for (const int most_steps : {0, 1, 100}) {
    for (const bool is_changed : {false, true}) {
      CAPTURE(most_steps, is_changed);
      TwoDrafts two;
      std::vector<Token> prompt = two.texts[1];
      if (is_changed) prompt[3] += 1;  // another text takes the place
      two.drafter->expect(0, two.texts[0]);
      two.drafter->expect(1, prompt);
      int steps = 0;
      must(two.drafter->read([&] { return steps++ == most_steps; }, {}));
      CHECK(steps <= 2);  // both in one step, and then nothing is left
      CHECK(two.next(4) == expected);
      CHECK(two.drafter->has_read() == (most_steps == 0 || is_changed));
    }
  }
}

TEST_CASE("Batch drafter: of a prompt of one token, of one beyond its context and of none nothing is read beside") {
  TwoDrafts two, other;
  two.drafter->expect(0, std::vector<Token>{3});
  two.drafter->expect(1, std::vector<Token>(200, 5));
  must(two.drafter->read([] { return false; }, {}));
  CHECK(two.next(4) == other.next(4));
  CHECK(two.drafter->has_read());
}

TEST_CASE("Batch drafter: what is cancelled drafts nothing, and drafts the same when it is asked again") {
  TwoDrafts two, other;
  CancelToken cancel;
  cancel.cancel();
  two.drafter->ask(0, two.texts[0], 4);
  CHECK(two.drafter->run(cancel).code() == StatusCode::kCancelled);
  CHECK(!two.drafter->has_failed());
  Draft draft(kMostDraftTokens, 0);
  must(two.sources[0]->propose(two.texts[0], 4, {}, &draft));
  CHECK(draft.tokens().empty());
  CHECK(two.next(4) == other.next(4));
}

TEST_CASE("Batch drafter: a draft that fails is given up with one warning, and the texts go on as they were") {
  const SimilarDraft files(kNoise);
  make_undefined(files.draft);
  const Engine engine = engine_with(files, {});
  const std::vector<BatchRequest> requests = greedy_requests(5, {DraftKind::kModel, files.draft, 4});
  std::vector<SeenText> seen;
  const std::vector<std::string> warnings = warnings_of([&] { seen = together(engine, requests); });
  CHECK(seen == one_by_one(engine, requests));
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("draft.gguf) failed and is given up") != std::string::npos);
}

TEST_CASE("Batch drafter: drawn texts have the distribution of plain drawing, over the tokens of one pass") {
  const SimilarDraft files(0.1f);
  const Engine engine = engine_with(files, {.batch = 8});
  constexpr uint64_t kSamples = seeds(10000);
  const DrawnTexts plain = drawn_texts(engine, {}, kSamples, 1),
                   drafted = drawn_texts(engine, {DraftKind::kModel, files.draft, 2}, kSamples, 100000);
  const ChiSquare got = chi_square_of(plain, drafted);
  CHECK(got.outcomes > 27);
  CHECK(got.outcomes <= 81);
  CHECK(got.value < most_chi_square(got.outcomes));
}

}  // namespace
}  // namespace outrigger::testing
