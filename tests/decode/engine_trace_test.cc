// An engine's trace: what its lanes did, by the names of the model's parts, and how busy they were.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "src/decode/engine_impl.h"
#include "src/model/node_label.h"
#include "tests/support/engines.h"

namespace outrigger::testing {
namespace {

using nlohmann::json;

struct Traced {
  Model model;
  Engine engine;
  Session session;

  static Engine open(const Model& model, uint64_t budget, size_t events) {
    EngineSetup setup;
    setup.host_bytes = budget;
    EngineOptions options;
    options.trace_events = events;
    return must(Engine::open(model, must(plan_for(model, setup)), options));
  }
  explicit Traced(uint64_t budget = 0, size_t events = 10000)
      : model(must(Model::open(tiny_model_path("tied-q4_1")))),
        engine(open(model, budget == 0 ? smallest_budget(model, {}) : budget, events)),
        session(must(Session::open(engine))) {}
};

std::string scratch(const std::string& name) {
  return (std::filesystem::temp_directory_path() / ("otr_trace_" + std::to_string(getpid()) + name)).string();
}

json written(const Engine& engine) {
  const std::string path = scratch(".json");
  must(engine.write_trace(path));
  std::ifstream file(path);
  json trace = json::parse(file, nullptr, false);
  std::filesystem::remove(path);
  REQUIRE(trace.is_object());
  return trace;
}

TEST_CASE("Engine trace: a streamed step has every fetch on the disk lane and every product on the host's, with their bytes") {
  Traced traced;
  must(traced.session.prefill(std::vector<Token>(20, 7)));
  for (int i = 0; i < 5; ++i) must(traced.session.step(9));
  std::map<std::string, uint64_t> fetched, computed;
  std::map<uint64_t, uint32_t> steps;
  const json trace = written(traced.engine);
  const uint64_t last = traced.engine.lane_busy().steps - 1;  // one token, with logits
  for (const json& event : trace["traceEvents"]) {
    if (event["ph"] != "X") continue;
    const json& args = event["args"];
    if (event["cat"] == "step") steps[args["step"]] = args["tokens"];
    if (args["step"] != last) continue;
    if (event["cat"] == "disk" && args.contains("bytes")) fetched[event["name"]] += args["bytes"].get<uint64_t>();
    if (event["cat"] == "host") computed[event["name"]] += args.value("bytes", uint64_t{0});
  }
  REQUIRE(steps.size() == last + 1);
  REQUIRE(steps.at(last) == 1);
  const StreamLayout& stream = traced.engine.impl()->residency->stream();
  REQUIRE(fetched.size() == stream.units.size());
  for (size_t unit = 0; unit < stream.units.size(); ++unit) {
    REQUIRE(fetched.at("fetch unit " + std::to_string(unit)) == stream.units[unit].file_bytes);
  }
  uint64_t weights = 0, all = 0;
  for (const auto& [name, bytes] : computed) weights += bytes;
  for (const MatrixShape& matrix : must(traced.model.step_shape()).matrices)
    all += matrix.use == MatrixUse::kRowLookup ? 0 : matrix.packed_bytes;
  REQUIRE(weights == all);
  for (const char* name : {"embed", "blk.0 attention_norm", "blk.0 qkv", "blk.0 rope_append", "blk.0 attention", "blk.0 output",
                           "blk.0 ffn_norm", "blk.0 gate_up", "blk.0 silu_mul", "blk.0 down", "output_norm", "head"}) {
    CAPTURE(name);
    REQUIRE(computed.count(name) == 1);
  }
}

TEST_CASE("Engine trace: lanes are never busier than the steps are long, and the disk works only where something streams") {
  Traced streamed, resident(100000000);
  for (Traced* traced : {&streamed, &resident}) {
    must(traced->session.prefill(std::vector<Token>(20, 7)));
    for (int i = 0; i < 5; ++i) must(traced->session.step(9));
    const LaneBusy all = traced->engine.lane_busy(), last = traced->engine.lane_busy(2);
    CHECK(all.steps >= 6);
    CHECK(last.steps == 2);
    CHECK(last.wall_ms > 0);
    CHECK(last.wall_ms < all.wall_ms);
    CHECK(last.host_ms > 0);
    CHECK(last.host_ms <= last.wall_ms);
    CHECK(last.disk_ms <= last.wall_ms);
    CHECK((last.disk_ms > 0) == (traced == &streamed));
    CHECK(all.h2d_ms + all.d2h_ms + all.device_ms == 0);
  }
}

TEST_CASE("Engine trace: it holds the latest steps when there are more than it has room for") {
  Traced traced(0, 300);
  for (int i = 0; i < 50; ++i) must(traced.session.step(9));
  const json trace = written(traced.engine);
  CHECK(trace["otherData"]["dropped_events"]["host"].get<uint64_t>() > 0);
  uint64_t latest = 0;
  for (const json& event : trace["traceEvents"]) {
    if (event["ph"] == "X") latest = std::max<uint64_t>(latest, event["args"]["step"]);
  }
  CHECK(latest == 49);
  CHECK(traced.engine.lane_busy().steps > 0);
  CHECK(traced.engine.lane_busy().steps < 50);
}

TEST_CASE("Engine trace: the host is not busy while it waits for the disk") {
  Traced traced;
  must(traced.session.prefill(std::vector<Token>(20, 7)));
  must(traced.session.step(9));
  double worked_ms = 0, waited_ms = 0;
  const json trace = written(traced.engine);
  for (const json& event : trace["traceEvents"]) {
    if (event["ph"] != "X" || event["cat"] != "host") continue;
    const bool is_waiting = event["name"].get<std::string>().starts_with("wait for");
    (is_waiting ? waited_ms : worked_ms) += event["dur"].get<double>() / 1000;
  }
  CHECK(waited_ms > 0);
  CHECK(traced.engine.lane_busy().host_ms == Approx(worked_ms).epsilon(0.02));
}

TEST_CASE("Engine trace: an engine without one has nothing to write, and bits do not depend on it") {
  const Model model = must(Model::open(tiny_model_path("tied-q4_1")));
  const Engine plain = open_engine(model);
  CHECK(plain.lane_busy().steps == 0);
  CHECK(plain.write_trace(scratch(".none")).code() == StatusCode::kInvalidArgument);
  CHECK_FALSE(std::filesystem::exists(scratch(".none")));
  Session session = must(Session::open(plain));
  Traced traced;
  must(session.prefill(std::vector<Token>(30, 5)));
  must(traced.session.prefill(std::vector<Token>(30, 5)));
  CHECK(std::vector<float>(session.logits().begin(), session.logits().end()) ==
        std::vector<float>(traced.session.logits().begin(), traced.session.logits().end()));
}

TEST_CASE("Engine trace: a place that cannot be written, and a trace that memory does not hold, are errors") {
  Traced traced;
  must(traced.session.step(1));
  CHECK(traced.engine.write_trace(scratch("/no/such/folder")).code() == StatusCode::kIo);
  EngineOptions options;
  options.trace_events = SIZE_MAX;
  CHECK(Engine::open(traced.model, must(plan_for(traced.model, {})), options).status().code() == StatusCode::kOutOfMemory);
}

}  // namespace
}  // namespace outrigger::testing
