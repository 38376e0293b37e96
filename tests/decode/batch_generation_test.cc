// Batches: whatever a text is together with, it is the one that it is alone.
#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "tests/support/batches.h"
#include "tests/support/device_plans.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/support/random_mixture.h"

namespace outrigger::testing {
namespace {

Model tiny(const char* name = "smollm") { return must(Model::open(tiny_model_path(name))); }

// In batches of several sizes, the last one the plan's.
void check_same(const Engine& engine, const std::vector<BatchRequest>& requests) {
  const std::vector<SeenText> alone = one_by_one(engine, requests);
  for (uint32_t sequences = 1; sequences <= engine.plan().batch; sequences += 2) {
    CAPTURE(sequences);
    BatchOptions options;
    options.sequences = sequences;
    const std::vector<SeenText> batch = together(engine, requests, options);
    for (size_t i = 0; i < requests.size(); ++i) {
      CAPTURE(i, requests[i].prompt.size(), requests[i].options.max_tokens);
      CHECK(batch[i].message == alone[i].message);
      CHECK(batch[i].tokens == alone[i].tokens);
      CHECK(batch[i] == alone[i]);
    }
  }
}

TEST_CASE("Batch: every text is the one that it is alone, in every family, greedy and drawn, with more prompts than places") {
  for (const char* name : {"smollm", "odd-f32", "tied-q4_1", "llama3-mixed", "qwen2", "qwen3-yarn", "mixtral", "qwen2moe", "qwen3moe"}) {
    CAPTURE(name);
    check_same(open_engine(tiny(name), {.batch = 5}), mixed_requests(13));
  }
}

TEST_CASE("Batch: the same for every number of threads, type of keys and values, and with steps of few tokens") {
  const ScratchFolder scratch;
  const Model mixture = write_and_open(scratch, random_mixture());
  for (const uint32_t threads : {1u, 2u, 3u}) {
    CAPTURE(threads);
    check_same(open_engine(tiny(), {.threads = threads, .batch = 3}), mixed_requests(7, threads));
    check_same(open_engine(mixture, {.threads = threads, .batch = 3, .kv_type = KvType::kQ8_0}), mixed_requests(5, threads));
  }
  check_same(open_engine(tiny(), {.batch = 3, .kv_type = KvType::kF32, .numerics = Numerics::kFloat32}), mixed_requests(5));
}

TEST_CASE("Batch: the same within the smallest budgets, where weights, experts, or keys and values come from disk") {
  const ScratchFolder scratch, other;
  for (const Model& model : {write_and_open(scratch, random_dense()), write_and_open(other, random_mixture()), tiny("qwen3moe")}) {
    CAPTURE(model.info().architecture);
    EngineSetup setup{.context_tokens = 64, .batch = 3, .logit_rows = 1};
    const uint64_t least = setup.host_bytes = smallest_budget(model, setup);
    {
      const Engine engine = open_engine(model, setup);  // steps of one token: the texts take turns
      CHECK(engine.plan().step_tokens == 1);
      check_same(engine, mixed_requests(5));
      CHECK(engine.memory().host.peak_bytes <= least);
    }
    while (must(plan_for(model, setup)).step_tokens < 8) setup.host_bytes += 4096;
    const Engine engine = open_engine(model, setup);
    check_same(engine, mixed_requests(5));
    CHECK(engine.plan().decode.streamed_bytes + engine.plan().decode.expert_bytes > 0);
    CHECK(engine.memory().host.peak_bytes <= setup.host_bytes);
  }
  check_same(open_engine(tiny(), {.batch = 3, .kv_spilled_layers = 1}), mixed_requests(7));
}

TEST_CASE("Batch: the same on a device, whatever is there") {
  // Another device than the emulated one can be named: a GPU, whose attention takes as much scratch as some 100 threads' do.
  const char* const named = std::getenv("OUTRIGGER_TEST_DEVICE");
  const std::string device = named != nullptr ? named : "emulated:memory=256MiB,link=20GB/s,latency=0us";
  const uint32_t threads = named != nullptr ? 128 : 1;
  const Model model = tiny("tied-q4_1");
  const StepShape shape = must(model.step_shape());
  const Plan host = must(plan_for(model, {.context_tokens = 64, .batch = 5}));
  const auto everything = [](const MatrixShape&) { return Place::kDevice; };
  const auto feed_forward = [](const MatrixShape& matrix) {
    return matrix.part == MatrixPart::kFeedForward ? Place::kStreamed : Place::kHost;
  };
  const Plan whole = placed_on_device(host, shape, everything, {.threads = threads});
  for (const Plan& plan : {whole, placed_on_device(host, shape, feed_forward, {4, 3, 0, threads})}) {
    check_same(open_on_device(model, plan, device), mixed_requests(9));
  }
  // More operations of a step than a device's streams hold.
  const EngineSetup setup{.context_tokens = 64, .batch = 150, .logit_rows = 150};
  const Plan many = placed_on_device(must(plan_for(model, setup)), shape, everything, {.threads = threads});
  const Engine engine = open_on_device(model, many, device);
  BatchReport report;
  CHECK(together(engine, mixed_requests(160), {}, &report) == one_by_one(engine, mixed_requests(160)));
  CHECK(report.most_at_once == 150);
}

TEST_CASE("Batch: texts share their steps, and the next prompt takes the place of one that is done") {
  const Engine engine = open_engine(tiny(), {.batch = 4});
  std::vector<BatchRequest> requests = mixed_requests(4);
  for (BatchRequest& request : requests) request.prompt.resize(6, 7), request.options.max_tokens = 20;
  BatchReport report;
  together(engine, requests, {}, &report);
  CHECK(report.steps == 20);  // the prompts and the first tokens in one, then a step for all
  CHECK(report.step_tokens == 4 * 6 + 19 * 4);
  CHECK(report.most_at_once == 4);
  CHECK(report.prompt_tokens == 24);
  CHECK(report.generated_tokens == 80);
  CHECK(report.total_tokens_per_s == Approx(80 * 1000 / report.total_ms));
  // Six short texts pass through one place while three long ones are written in the others.
  requests.insert(requests.end(), 5, requests[0]);
  for (size_t i = 3; i < requests.size(); ++i) requests[i].options.max_tokens = 3;
  BatchOptions options;
  std::vector<size_t> done;
  options.on_result = [&done](size_t index, const Result<GenerateResult>& result) {
    CHECK(result.is_ok());
    done.push_back(index);
  };
  together(engine, requests, options, &report);
  CHECK(done == std::vector<size_t>{3, 4, 5, 6, 7, 8, 0, 1, 2});
  CHECK(report.steps == 20);
}

TEST_CASE("Batch: stop texts, end tokens, most tokens and the context's end are each text's own") {
  const Engine engine = open_engine(tiny(), {.context_tokens = 48, .batch = 4});
  std::vector<BatchRequest> requests = mixed_requests(12);
  for (BatchRequest& request : requests) request.prompt.resize(std::min<size_t>(request.prompt.size(), 20));
  requests[0].options.max_tokens = 40;
  requests[2].options.max_tokens = 0;
  requests[4].options.max_tokens = 1000;  // the context ends first
  for (const size_t i : {5, 7, 9, 11}) {
    requests[i].options.ignore_eos = false;
    requests[i].options.sampling.temperature = 3;
    requests[i].options.max_tokens = 28;
  }
  const std::string text = one_by_one(engine, {requests[0]})[0].text;
  REQUIRE(text.size() > 12);
  requests[6] = requests[0];
  requests[6].options.stop = {"no such text", text.substr(8, 3)};
  const std::vector<SeenText> alone = one_by_one(engine, requests);
  CHECK(alone[6].reason == StopReason::kStop);
  CHECK(alone[2].tokens.empty());
  CHECK(alone[4].tokens.size() + requests[4].prompt.size() == 48);
  CHECK(together(engine, requests) == alone);
}

TEST_CASE("Batch: a request that is wrong has its own error, and the others their texts") {
  const Engine engine = open_engine(tiny(), {.context_tokens = 48, .batch = 3});
  std::vector<BatchRequest> requests = mixed_requests(9);
  for (BatchRequest& request : requests) request.prompt.resize(std::min<size_t>(request.prompt.size(), 20));
  requests[0].prompt.clear();
  requests[1].prompt = {3, 5, 99999};
  requests[4].prompt.assign(49, 7);
  requests[5].options.sampling.temperature = -1;
  requests[8].options.draft.tokens = 99;
  const std::vector<SeenText> alone = one_by_one(engine, requests);
  std::vector<SeenText> batch = together(engine, requests);
  for (const size_t i : {0, 1, 4, 5}) CHECK(batch[i].code == StatusCode::kInvalidArgument);
  CHECK(batch[8].message.find("draft.tokens") != std::string::npos);
  batch[8] = alone[8];  // which was asked without a draft
  CHECK(batch == alone);
  // In one place: what cannot begin does not end the batch.
  BatchOptions options;
  options.sequences = 1;
  batch = together(engine, requests, options);
  batch[8] = alone[8];
  CHECK(batch == alone);
}

TEST_CASE("Batch: options that mean nothing are refused, and nothing is asked of an empty batch") {
  const Engine engine = open_engine(tiny(), {.batch = 2});
  BatchOptions options;
  options.sequences = 3;
  const std::vector<BatchRequest> requests = mixed_requests(2);
  Status status = generate_batch(engine, requests, options).status();
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message().find("plan for a larger batch") != std::string::npos);
  options = {};
  options.branch_share = 2;
  CHECK(generate_batch(engine, requests, options).status().code() == StatusCode::kInvalidArgument);
  options = {};
  options.context_tokens = 9999;
  CHECK(generate_batch(engine, requests, options).status().code() == StatusCode::kInvalidArgument);
  CHECK(must(generate_batch(engine, {})).results.empty());
  const Session taken = must(Session::open(engine));
  CHECK(generate_batch(engine, requests).status().code() == StatusCode::kBudget);
  CHECK(generate_batch(engine, std::span(requests).first(1)).is_ok());
}

TEST_CASE("Batch: a callback, a text's own cancel token and its progress end that text alone") {
  const Engine engine = open_engine(tiny(), {.batch = 4});
  std::vector<BatchRequest> requests = mixed_requests(8);
  for (BatchRequest& request : requests) request.options.max_tokens = 20;
  int left[2] = {};
  requests[1].options.on_token = [&left](const GeneratedToken&) { return --left[0] > 0; };
  requests[2].options.on_token = [&left, cancel = requests[2].options.cancel](const GeneratedToken&) {
    if (--left[1] == 0) cancel.cancel();
    return true;
  };
  requests[3].options.cancel.cancel();
  requests[6].options.prefill_progress = [](double) { return true; };
  const auto rewind = [&] {
    left[0] = 4, left[1] = 7;
    requests[2].options.cancel.reset();
  };
  rewind();
  const std::vector<SeenText> alone = one_by_one(engine, requests);
  CHECK(alone[1].tokens.size() == 4);
  CHECK(alone[2].reason == StopReason::kCancelled);
  CHECK(alone[3].tokens.empty());
  rewind();
  CHECK(together(engine, requests) == alone);
  // All of them, in one place: none keeps the next one waiting for ever.
  for (BatchRequest& request : requests) request.options.cancel = requests[3].options.cancel;
  BatchOptions options;
  options.sequences = 1;
  for (const SeenText& seen : together(engine, requests, options)) CHECK(seen.reason == StopReason::kCancelled);
}

TEST_CASE("Batch: cancelling ends all, each with what it has, and what waits with nothing") {
  const Engine engine = open_engine(tiny(), {.batch = 3});
  std::vector<BatchRequest> requests = mixed_requests(6);
  for (BatchRequest& request : requests) request.options.max_tokens = 30;
  const std::vector<SeenText> alone = one_by_one(engine, requests);
  for (const int last : {1, 2, 5, 14}) {
    CAPTURE(last);
    BatchOptions options;
    int left = last;
    requests[0].options.on_token = [&](const GeneratedToken&) {
      if (--left == 0) options.cancel.cancel();
      return true;
    };
    const std::vector<SeenText> batch = together(engine, requests, options);
    for (size_t i = 0; i < requests.size(); ++i) {
      CAPTURE(i);
      CHECK(batch[i].reason == StopReason::kCancelled);
      REQUIRE(batch[i].tokens.size() <= alone[i].tokens.size());
      CHECK(std::equal(batch[i].tokens.begin(), batch[i].tokens.end(), alone[i].tokens.begin()));
      CHECK(batch[i].tokens.empty() == (i >= 3));
      CHECK(alone[i].text.starts_with(batch[i].text));
    }
    CHECK(batch[0].tokens.size() == static_cast<size_t>(last));
  }
  requests[0].options.on_token = {};
  CHECK(must(generate_batch(engine, requests)).results[5].is_ok());  // the places are free again
}

TEST_CASE("Batch: a step that fails is the error of the texts in it, and the engine goes on") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense());
  EngineSetup setup{.context_tokens = 64, .batch = 2};
  setup.host_bytes = smallest_budget(model, setup);
  while (must(plan_for(model, setup)).step_tokens < 8) setup.host_bytes += 4096;
  const Engine engine = open_engine(model, setup);
  std::vector<BatchRequest> requests = mixed_requests(3);
  for (BatchRequest& request : requests) request.prompt.resize(4, 9), request.options.max_tokens = 12;
  requests[1].options.max_tokens = 2;
  requests[0].options.on_token = [&, count = 0](const GeneratedToken&) mutable {
    if (++count == 4) std::filesystem::resize_file(scratch / "model.gguf", 1000);
    return true;
  };
  const std::vector<SeenText> batch = together(engine, requests);
  CHECK(batch[0].code == StatusCode::kIo);
  CHECK(batch[1].code == StatusCode::kOk);
  CHECK(batch[2].code == StatusCode::kIo);
  CHECK(batch[0].calls.size() == 4);
}

}  // namespace
}  // namespace outrigger::testing
