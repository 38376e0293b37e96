// Two groups of texts that alternate: the same texts as together, whoever drafts, fails, ends or is cancelled meanwhile.
#include "src/decode/batch_run.h"

#include <algorithm>

#include "tests/decode/drafted_batches.h"
#include "tests/support/device_plans.h"
#include "tests/support/few_cases.h"

namespace outrigger::testing {
namespace {

constexpr float kNoise = 0.03f;

BatchOptions two_groups() {
  BatchOptions options;
  options.groups = 2;
  return options;
}

TEST_CASE("Two groups: greedy texts are the plain ones, of every length of drafts, with as many texts as places, more and fewer") {
  const SimilarDraft files(kNoise);
  for (const uint32_t batch : {2u, 3u, 6u}) {
    const Engine engine = engine_with(files, {.batch = batch, .threads = batch % 3 + 1});
    for (const uint32_t tokens : {1u, 3u, 8u, 0u}) {
      for (const size_t texts : {2u, 4u, 11u}) {
        CAPTURE(batch, tokens, texts);
        const std::vector<BatchRequest> requests = greedy_requests(texts, {DraftKind::kModel, files.draft, tokens});
        BatchReport report;
        CHECK(together(engine, requests, two_groups(), &report) == one_by_one(engine, requests));
        CHECK(report.most_at_once <= std::max<size_t>(batch, texts));
        if (texts == 11) CHECK(report.alternated_steps > report.steps / 4);
      }
    }
  }
}

TEST_CASE("Two groups: as much is drafted and accepted for a text as together, since drafts know nothing of who is verified meanwhile") {
  const SimilarDraft files(kNoise);
  const Engine engine = engine_with(files, {.batch = 4});
  const std::vector<BatchRequest> requests = greedy_requests(9, {DraftKind::kModel, files.draft, 4});
  BatchOptions one_group;
  one_group.groups = 1;
  const BatchResult whole = must(generate_batch(engine, requests, one_group)),
                    halves = must(generate_batch(engine, requests, two_groups()));
  CHECK(whole.report.alternated_steps == 0);
  CHECK(halves.report.alternated_steps > 20);
  for (size_t i = 0; i < requests.size(); ++i) {
    const SpeculationReport &a = must(whole.results[i]).speculation, &b = must(halves.results[i]).speculation;
    CHECK(a.drafted == b.drafted);
    CHECK(a.accepted == b.accepted);
    CHECK(a.passes == b.passes);
  }
  CHECK(halves.report.steps > whole.report.steps);
}

TEST_CASE("Two groups: the same with few rows of logits, and where the model's weights come from disk") {
  const SimilarDraft files(kNoise);
  const Room room = few_rows(files);
  const Engine engine = engine_with(files, room);
  CHECK(engine.plan().decode.streamed_bytes > 0);
  const std::vector<BatchRequest> requests = greedy_requests(9, {DraftKind::kModel, files.draft, 0});
  CHECK(together(engine, requests, two_groups()) == one_by_one(engine, requests));
  CHECK(engine.memory().host.peak_bytes <= room.host_bytes);
}

TEST_CASE("Two groups: the same where a device computes the model, or what streams to it, and the host drafts") {
  const SimilarDraft files(kNoise);
  const StepShape shape = must(files.target.step_shape());
  const Plan host = must(plan_with(files, {.batch = 4}));
  const auto stays = [](const MatrixShape&) { return Place::kDevice; };
  const auto streams = [](const MatrixShape& matrix) { return matrix.part == MatrixPart::kFeedForward ? Place::kStreamed : Place::kHost; };
  for (const PlaceOf& place_of : {PlaceOf(stays), PlaceOf(streams)}) {
    const Engine engine =
        open_on_device(files.target, placed_on_device(host, shape, place_of, {4, 3, 0, test_device_threads()}), test_device());
    const std::vector<BatchRequest> requests = greedy_requests(9, {DraftKind::kModel, files.draft, 4});
    const uint64_t before = engine.streamed().h2d_bytes;
    BatchReport report;
    CHECK(together(engine, requests, two_groups(), &report) == one_by_one(engine, requests));
    CHECK(report.alternated_steps > 20);
    CHECK(engine.streamed().h2d_bytes > before);
  }
}

TEST_CASE("Two groups: texts with other drafts and none alternate too, and where no model drafts all go together") {
  const SimilarDraft files(kNoise);
  const Engine engine = engine_with(files, {.batch = 4});
  std::vector<BatchRequest> requests = greedy_requests(8, {DraftKind::kModel, files.draft, 4});
  requests[1].options.draft = {DraftKind::kNgram, "", 4};
  requests[2].options.draft = {};
  requests[5].options.sampling = {.temperature = 1.2f, .top_k = 30, .seed = 4};
  requests[5].options.draft = {};
  BatchReport report;
  CHECK(together(engine, requests, two_groups(), &report) == one_by_one(engine, requests));
  CHECK(report.alternated_steps > 0);
  for (BatchRequest& request : requests) request.options.draft = {DraftKind::kNgram, "", 3};
  CHECK(together(engine, requests, two_groups(), &report) == one_by_one(engine, requests));
  CHECK(report.alternated_steps == 0);
}

TEST_CASE("Two groups: one place is one group, and three groups are refused") {
  const SimilarDraft files(kNoise);
  const Engine engine = engine_with(files, {.batch = 1});
  const std::vector<BatchRequest> requests = greedy_requests(3, {DraftKind::kModel, files.draft, 4});
  BatchReport report;
  CHECK(together(engine, requests, two_groups(), &report) == one_by_one(engine, requests));
  CHECK(report.alternated_steps == 0);
  BatchOptions three;
  three.groups = 3;
  const Status refused = generate_batch(engine, requests, three).status();
  CHECK(refused.code() == StatusCode::kInvalidArgument);
  CHECK(refused.message().find("groups: got 3") != std::string::npos);
}

TEST_CASE("Two groups: a draft that fails beside a pass is given up with one warning, and the texts go on as they were") {
  const SimilarDraft files(kNoise);
  make_undefined(files.draft);
  const Engine engine = engine_with(files, {.batch = 4});
  const std::vector<BatchRequest> requests = greedy_requests(7, {DraftKind::kModel, files.draft, 4});
  std::vector<SeenText> seen;
  const std::vector<std::string> warnings = warnings_of([&] { seen = together(engine, requests, two_groups()); });
  CHECK(seen == one_by_one(engine, requests));
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("draft.gguf) failed and is given up") != std::string::npos);
}

TEST_CASE(
    "Two groups: cancelled after any number of tokens, every text is the beginning of the plain one, and one that is cancelled alone ends "
    "alone") {
  const SimilarDraft files(kNoise);
  const Engine engine = engine_with(files, {.batch = 4});
  const std::vector<BatchRequest> requests = greedy_requests(7, {DraftKind::kModel, files.draft, 3});
  const std::vector<SeenText> plain = one_by_one(engine, requests);
  for (const size_t after : {1u, 2u, 9u, 30u, 61u}) {
    for (const bool is_alone : {false, true}) {
      CAPTURE(after, is_alone);
      std::vector<BatchRequest> counted = requests;
      BatchOptions options = two_groups();
      size_t made = 0;
      for (size_t i = 0; i < counted.size(); ++i) {
        CancelToken stop = is_alone ? counted[3].options.cancel : options.cancel;
        counted[i].options.on_token = [&made, after, stop](const GeneratedToken&) mutable {
          if (++made == after) stop.cancel();
          return true;
        };
      }
      const BatchResult result = must(generate_batch(engine, counted, options));
      for (size_t i = 0; i < counted.size(); ++i) {
        const std::vector<Token>& tokens = must(result.results[i]).tokens;
        REQUIRE(tokens.size() <= plain[i].tokens.size());
        CHECK(std::equal(tokens.begin(), tokens.end(), plain[i].tokens.begin()));
        if (is_alone && i != 3) CHECK(tokens == plain[i].tokens);
      }
    }
  }
  CHECK(engine.memory().host.current.draft == 0);
}

TEST_CASE("Two groups: drawn texts have the distribution of plain drawing, over the tokens of one pass") {
  const SimilarDraft files(0.1f);
  const Engine engine = engine_with(files, {.batch = 8});
  constexpr uint64_t kSamples = seeds(10000);
  const DrawnTexts plain = drawn_texts(engine, {}, kSamples, 1, two_groups()),
                   drafted = drawn_texts(engine, {DraftKind::kModel, files.draft, 2}, kSamples, 100000, two_groups());
  const ChiSquare got = chi_square_of(plain, drafted);
  CHECK(got.outcomes > 27);
  CHECK(got.value < most_chi_square(got.outcomes));
}

}  // namespace
}  // namespace outrigger::testing
