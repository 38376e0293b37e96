// A draft model on its target's device: the text is the plain one wherever the target is, and its bytes on either side are the plan's.
#include <outrigger/speculation.h>

#include "src/decode/draft_model.h"
#include "src/decode/session_impl.h"
#include "tests/decode/drafted_batches.h"
#include "tests/support/device_plans.h"
#include "tests/support/faulty_backend.h"
#include "tests/support/similar_draft.h"

namespace outrigger::testing {
namespace {

constexpr float kNoise = 0.03f;
constexpr uint32_t kContext = 160;

DraftDeviceBytes bytes_of(const SimilarDraft& files, uint32_t texts = 1) {
  return must(draft_model_device_bytes(must(Model::open(files.draft)), kContext, 2, test_device_threads(), texts));
}

// The target's parts as `place_of` says, and so many bytes for drafts.
Plan plan_with(const SimilarDraft& files, const PlaceOf& place_of, const DraftDeviceBytes& bytes, uint32_t texts = 1,
               uint64_t taken_bytes = 0) {
  const StepShape shape = must(files.target.step_shape());
  Workload workload;
  workload.context_tokens = kContext;
  workload.prompt_tokens = workload.new_tokens = kContext / 2;
  workload.batch = texts;
  workload.draft_tokens = 8;
  workload.draft_bytes = bytes.host;
  Plan plan = must(PlacementPlanner::plan(shape, made_up_machine(2), {Budgets::kUnlimited, 0}, workload));
  plan.device.breakdown.draft = bytes.device;
  plan.device.breakdown.other = taken_bytes;
  return placed_on_device(plan, shape, place_of, {.threads = test_device_threads()});
}

const PlaceOf kOnHost = [](const MatrixShape&) { return Place::kHost; };
const PlaceOf kOnDevice = [](const MatrixShape&) { return Place::kDevice; };
const PlaceOf kStreaming = [](const MatrixShape&) { return Place::kStreamed; };
const PlaceOf kOddLayers = [](const MatrixShape& matrix) { return matrix.layer % 2 == 1 ? Place::kDevice : Place::kHost; };

GenerateOptions options_for(const DraftOptions& draft) {
  GenerateOptions options;
  options.max_tokens = 40;
  options.ignore_eos = true;
  options.draft = draft;
  return options;
}

GenerateResult generated(const Engine& engine, const DraftOptions& draft) {
  Session session = must(Session::open(engine));
  return must(session.generate(std::vector<Token>{3, 14, 15, 92, 65}, options_for(draft)));
}

TEST_CASE("Draft on a device: greedy text is the plain one wherever the target is, and much of a similar draft is accepted") {
  for (const float noise : {0.0f, kNoise}) {
    const SimilarDraft files(noise);
    for (const PlaceOf& place_of : {kOnHost, kOnDevice, kStreaming, kOddLayers}) {
      const Engine engine = open_on_device(files.target, plan_with(files, place_of, bytes_of(files)), test_device());
      const std::vector<Token> plain = generated(engine, {}).tokens;
      for (const uint32_t tokens : {1u, 5u, 0u}) {
        CAPTURE(noise, tokens);
        const GenerateResult result = generated(engine, {DraftKind::kModel, files.draft, tokens});
        CHECK(result.tokens == plain);
        if (tokens == 0) continue;
        CHECK(result.speculation.drafted > 0);
        if (noise == 0) CHECK(result.speculation.accepted == result.speculation.drafted);
        CHECK(result.speculation.accepted * 5 > result.speculation.drafted);
      }
    }
  }
}

TEST_CASE("Draft on a device: its bytes there are taken when it is opened, exactly as planned, and given back with the session") {
  const SimilarDraft files(kNoise);
  const DraftDeviceBytes needed = bytes_of(files);
  CHECK(needed.device > must(Model::open(files.draft)).info().bytes / 2);
  // What the device loads passes through
  CHECK(needed.host < must(draft_model_bytes(must(Model::open(files.draft)), kContext, 2)) + (1 << 20));
  const Plan plan = plan_with(files, kOnHost, needed, 2, 8192);
  CHECK(plan.device.own_bytes() == 0);
  CHECK(plan.device.planned_bytes == needed.device + 8192);
  Engine engine = open_on_device(files.target, plan, test_device());
  CHECK(engine.memory().device.planned_bytes == needed.device + 8192);
  CHECK(engine.memory().device.current.other == 8192);  // which nobody allocates, and which counts
  {
    Session session = must(Session::open(engine));
    CHECK(engine.memory().device.current.draft == 0);
    must(session.prepare_draft({DraftKind::kModel, files.draft, 4}));
    CHECK(engine.memory().device.current.draft == needed.device);
    CHECK(engine.memory().host.current.draft == needed.host);
    const Engine::Impl& draft = *session.impl().draft_model->session().impl().engine;
    CHECK(draft.backend == engine.impl()->backend);
    CHECK(draft.plan.device.planned_bytes == needed.device);
    for (const TensorPlacement& tensor : draft.plan.tensors) CHECK((tensor.tier == Tier::kDevice || tensor.name == "token_embd.weight"));
    Session other = must(Session::open(engine));
    const Status status = other.prepare_draft({DraftKind::kModel, files.draft, 4});
    CHECK(status.code() == StatusCode::kBudget);
    CHECK(status.needed_bytes() == needed.host);
    CHECK(status.given_bytes() == 0);
  }
  CHECK(engine.memory().device.current.draft == 0);
  CHECK(engine.memory().host.current.draft == 0);
  CHECK(engine.memory().device.peak_bytes == engine.memory().device.planned_bytes);
  must(engine.replan(plan_with(files, kOnHost, {0, 0}, 2)));
  CHECK(engine.memory().device.current.total() == 0);
}

TEST_CASE("Draft on a device: too few bytes on either side are refused with both numbers, and the session goes on") {
  const SimilarDraft files(kNoise);
  const DraftDeviceBytes needed = bytes_of(files);
  // Smaller steps take less, so that the least is what a draft of one token a step needs.
  for (const DraftDeviceBytes& bytes : {DraftDeviceBytes{4096, needed.device}, DraftDeviceBytes{needed.host, 4096}}) {
    const Engine engine = open_on_device(files.target, plan_with(files, kOddLayers, bytes), test_device());
    Session session = must(Session::open(engine));
    const Status status = session.prepare_draft({DraftKind::kModel, files.draft, 4});
    INFO(status.to_string());
    CHECK(status.code() == StatusCode::kBudget);
    CHECK(status.given_bytes() == 4096);
    CHECK(status.needed_bytes() > 4096);
    CHECK(status.needed_bytes() <= std::max(needed.host, needed.device));
    CHECK(status.to_string().find(bytes.device == 4096 ? "device" : "host memory") != std::string::npos);
    CHECK(engine.memory().host.current.draft + engine.memory().device.current.draft == 0);
    CHECK(must(session.generate(std::vector<Token>{3, 14, 15, 92, 65}, options_for({}))).tokens.size() == 40);
  }
}

TEST_CASE("Draft on a device: trees are drafted there, and verified wherever the target is, with the plain text") {
  for (const float noise : {0.0f, kNoise, 0.1f}) {  // sure of what comes, often right, never right
    const SimilarDraft files(noise);
    for (const PlaceOf& place_of : {kOnHost, kOnDevice, kStreaming, kOddLayers}) {
      for (const DraftDeviceBytes& bytes : {bytes_of(files), {must(draft_model_bytes(must(Model::open(files.draft)), kContext, 2)), 0}}) {
        const Engine engine = open_on_device(files.target, plan_with(files, place_of, bytes), test_device());
        DraftOptions draft{DraftKind::kModel, files.draft, 7};
        draft.shape = DraftShape::kTree;
        CAPTURE(noise, bytes.device);
        const GenerateResult result = generated(engine, draft);
        CHECK(result.tokens == generated(engine, {}).tokens);
        CHECK((result.speculation.tree_passes > 0) == (noise > 0));
        CHECK((result.speculation.accepted > 0) == (noise <= kNoise));
      }
    }
  }
}

TEST_CASE("Draft on a device: texts of a batch draft there together and in two groups, each the plain one") {
  const SimilarDraft files(kNoise);
  for (const PlaceOf& place_of : {kOnHost, kStreaming}) {
    const Engine engine = open_on_device(files.target, plan_with(files, place_of, bytes_of(files, 4), 4), test_device());
    const std::vector<BatchRequest> requests = greedy_requests(7, {DraftKind::kModel, files.draft, 3});
    const auto plain = one_by_one(engine, requests);
    for (const uint32_t groups : {1u, 2u}) {
      CAPTURE(groups);
      BatchOptions options;
      options.groups = groups;
      BatchReport report;
      CHECK(together(engine, requests, options, &report) == plain);
      CHECK((report.alternated_steps > 5) == (groups == 2));
    }
  }
}

TEST_CASE("Draft on a device: a plan without its bytes there is refused while a session holds it") {
  const SimilarDraft files(kNoise);
  Engine engine = open_on_device(files.target, plan_with(files, kOddLayers, bytes_of(files)), test_device());
  const Plan without = plan_with(files, kOddLayers, {bytes_of(files).host, 0});
  {
    Session session = must(Session::open(engine));
    must(session.prepare_draft({DraftKind::kModel, files.draft, 4}));
    const Status status = engine.replan(without);
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(status.message().find("draft model") != std::string::npos);
    CHECK(status.message().find("on the device") != std::string::npos);
  }
  must(engine.replan(without));
}

// What of the device fails is the draft's: a target on the host goes on.
TEST_CASE("Draft on a device: one that is lost is given up with one warning, and the text goes on") {
  const SimilarDraft files(kNoise);
  const Plan plan = plan_with(files, kOnHost, bytes_of(files));
  const std::vector<Token> plain = generated(open_on_device(files.target, plan, test_device()), {}).tokens;
  for (const Fault fault : {Fault::kLaunch, Fault::kCopyToDevice, Fault::kSynchronize, Fault::kLost}) {
    auto owned = std::make_unique<FaultyBackend>(must(open_backend(test_device())));
    FaultyBackend& backend = *owned;
    const Engine engine = must(open_engine_on(std::move(owned), files.target, plan, {}));
    Session session = must(Session::open(engine));
    const DraftOptions draft{DraftKind::kModel, files.draft, 4};
    must(session.prepare_draft(draft));
    backend.inject(fault, 20);
    const std::vector<std::string> warnings = warnings_of([&] {
      CHECK(must(session.generate(std::vector<Token>{3, 14, 15, 92, 65}, options_for(draft))).tokens == plain);
    });
    CAPTURE(static_cast<int>(fault));
    CHECK(backend.has_happened());
    CHECK(warnings.size() == 1);
  }
}

TEST_CASE("Draft on a device: one that is lost in a batch, while it reads prompts beside a step or later, is given up with one warning") {
  const SimilarDraft files(kNoise);
  const Plan plan = plan_with(files, kOnHost, bytes_of(files, 4), 4);
  const std::vector<BatchRequest> requests = greedy_requests(7, {DraftKind::kModel, files.draft, 3});
  const auto plain = one_by_one(open_on_device(files.target, plan, test_device()), requests);
  for (const uint32_t groups : {1u, 2u}) {
    for (const uint64_t nth : {1, 2, 7, 30, 100, 400}) {
      CAPTURE(groups, nth);
      auto owned = std::make_unique<FaultyBackend>(must(open_backend(test_device())));
      FaultyBackend& backend = *owned;
      const Engine engine = must(open_engine_on(std::move(owned), files.target, plan, {}));
      backend.inject(Fault::kLaunch, nth);
      BatchOptions options;
      options.groups = groups;
      std::vector<SeenText> seen;
      const std::vector<std::string> warnings = warnings_of([&] { seen = together(engine, requests, options); });
      CHECK(backend.has_happened());
      CHECK(seen == plain);
      CHECK(warnings.size() == 1);
    }
  }
}

}  // namespace
}  // namespace outrigger::testing
