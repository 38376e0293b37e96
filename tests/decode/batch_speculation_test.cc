// Batches with drafts: the texts are those of plain decoding, alone.
#include <outrigger/batch.h>

#include "src/decode/batch_draft_length.h"
#include "tests/support/batches.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/support/streaming_setup.h"

namespace outrigger::testing {
namespace {

Model tiny(const char* name = "smollm") { return must(Model::open(tiny_model_path(name))); }

// Long texts, that repeat themselves: small models do.
std::vector<BatchRequest> long_requests(size_t count) {
  std::vector<BatchRequest> requests = mixed_requests(count);
  for (size_t i = 0; i < count; ++i) {
    requests[i].options.max_tokens = static_cast<uint32_t>(50 + 7 * (i % 5));
    if (requests[i].options.sampling.temperature > 0) requests[i].options.sampling = {.temperature = 0.4f, .top_k = 20, .seed = i};
  }
  return requests;
}

uint64_t check_same(const Engine& engine, std::vector<BatchRequest> requests, const DraftOptions& draft) {
  const std::vector<SeenText> alone = one_by_one(engine, requests);
  for (BatchRequest& request : requests) request.options.draft = draft;
  CHECK(together(engine, requests) == alone);
  uint64_t accepted = 0;
  for (const Result<GenerateResult>& result : must(generate_batch(engine, requests)).results) {
    REQUIRE(result.is_ok());
    const SpeculationReport& report = result.value().speculation;
    CHECK(report.draft == DraftKind::kNgram);
    CHECK(report.draft_name == "ngram");
    CHECK(report.passes + report.accepted == result.value().tokens.size() - 1);
    CHECK(report.accepted <= report.drafted);
    if (draft.tokens > 0) {
      for (size_t place = draft.tokens; place < kMostDraftTokens; ++place) CHECK(report.drafted_at[place] == 0);
    }
    accepted += report.accepted;
  }
  return accepted;
}

TEST_CASE("Batch speculation: texts are the plain ones, greedy and drawn, with drafts of every length, in several families") {
  for (const char* name : {"smollm", "tied-q4_1", "qwen3moe"}) {
    const Engine engine = open_engine(tiny(name), {.batch = 5, .logit_rows = 5 * 9});
    for (const DraftOptions& draft : {DraftOptions{DraftKind::kNgram, "", 1},
                                      {DraftKind::kNgram, "", 3},
                                      {DraftKind::kNgram, "", 8},
                                      {DraftKind::kNgram, "", 0},
                                      {DraftKind::kAuto, "", 0},
                                      {DraftKind::kAuto, "", 2}}) {
      CAPTURE(name, draft.tokens, draft_kind_name(draft.kind));
      const uint64_t accepted = check_same(engine, long_requests(7), draft);
      if (draft.kind == DraftKind::kNgram && draft.tokens > 0) CHECK(accepted > 0);
    }
  }
}

TEST_CASE("Batch speculation: the same with room for few rows, for every number of threads, and where weights come from disk") {
  for (const uint32_t rows : {2u, 3u, 5u, 8u}) {
    CAPTURE(rows);
    check_same(open_engine(tiny(), {.threads = rows % 3 + 1, .batch = 3, .logit_rows = rows}), long_requests(5),
               {DraftKind::kNgram, "", 4});
  }
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  const EngineSetup setup = streaming_setup(model, {.context_tokens = 128, .batch = 3, .logit_rows = 8});
  const Engine engine = open_engine(model, setup);
  CHECK(engine.plan().decode.streamed_bytes > 0);
  check_same(engine, long_requests(5), {DraftKind::kNgram, "", 2});
  CHECK(engine.memory().host.peak_bytes <= setup.host_bytes);
}

TEST_CASE("Batch speculation: stop texts, callbacks and most tokens end a chain where they end plain decoding") {
  const Engine engine = open_engine(tiny(), {.context_tokens = 96, .batch = 3, .logit_rows = 24});
  std::vector<BatchRequest> requests = long_requests(6);
  const std::string text = one_by_one(engine, {requests[0]})[0].text;
  REQUIRE(text.size() > 40);
  requests[0].options.stop = {text.substr(30, 4)};
  requests[1].options.max_tokens = 1000;
  int left = 0;
  requests[2].options.on_token = [&left](const GeneratedToken&) { return --left > 0; };
  left = 21;
  const std::vector<SeenText> alone = one_by_one(engine, requests);
  left = 21;
  for (BatchRequest& request : requests) request.options.draft = {DraftKind::kNgram, "", 5};
  CHECK(together(engine, requests) == alone);
}

TEST_CASE("Batch speculation: drafts that a batch does not have are refused by name, and so is one without room") {
  const Engine engine = open_engine(tiny(), {.batch = 2, .logit_rows = 1});
  std::vector<BatchRequest> requests = mixed_requests(4);
  requests[0].options.draft = {DraftKind::kSelf, "", 2};
  requests[1].options.draft = {DraftKind::kModel, "draft.gguf", 2};
  requests[2].options.draft = {DraftKind::kNgram, "", 2};
  requests[3].options.draft.kind = DraftKind::kAuto;
  const std::vector<SeenText> alone = one_by_one(engine, {requests[3]});
  const std::vector<SeenText> batch = together(engine, requests);
  CHECK(batch[0].code == StatusCode::kUnsupported);
  CHECK(batch[0].message.find("'self'") != std::string::npos);
  CHECK(batch[1].code == StatusCode::kNotFound);  // a row for each text is room for a draft, so that its file is looked for
  CHECK(batch[3] == alone[0]);
  const Engine one_row = open_engine(tiny(), {.batch = 1, .logit_rows = 1});
  REQUIRE(one_row.plan().logit_rows == 1);
  const std::vector<SeenText> without_room = together(one_row, requests);
  for (const size_t i : {1u, 2u}) {
    CHECK(without_room[i].code == StatusCode::kInvalidArgument);
    CHECK(without_room[i].message.find("draft tokens") != std::string::npos);
  }
  CHECK(without_room[3] == alone[0]);
}

TEST_CASE("Batch draft length: one length for all, by what the step of all takes") {
  // Half of the drafts' tokens are accepted; a step takes as long as its rows, or as long whatever they are.
  const auto settled = [](double ms_per_row, uint32_t texts) {
    BatchDraftLength length;
    uint32_t state = 1;
    uint64_t asked = 0;
    for (int step = 0; step < 600; ++step) {
      const uint32_t next = length.next();
      for (uint32_t text = 0; text < texts; ++text) {
        uint32_t accepted = 0;
        while (accepted < next && (state = state * 1664525u + 1013904223u) >> 31) ++accepted;
        length.add(next, accepted);
      }
      length.end_step(0.01, 5 + ms_per_row * texts * (next + 1), true);
      if (step >= 300) asked += next;
    }
    return static_cast<double>(asked) / 300;
  };
  CHECK(settled(0, 4) > 3);
  CHECK(settled(5, 4) < 0.5);
  CHECK(settled(0.5, 1) > 1);     // 5.5 ms, 6 with a draft of one
  CHECK(settled(0.5, 32) < 0.5);  // 21 ms, 37 with one each
}

}  // namespace
}  // namespace outrigger::testing
