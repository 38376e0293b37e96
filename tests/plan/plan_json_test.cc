// plan_to_json and plan_from_json: nothing is lost on the way, and nothing but a plan is read.
#include <functional>
#include <nlohmann/json.hpp>

#include "tests/support/random_shape.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

Plan some_plan() { return PlacementPlanner::plan(small_model(), two_cores(), {64 << 20}, {}).value(); }

TEST_CASE("plan JSON: reads back as what was written, to the last bit of each figure") {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    const StepShape shape = random_shape(random);
    const Workload workload = random_workload(random);
    const MachineProfile machine = random_machine(random);
    const Result<Plan> plan =
        PlacementPlanner::plan(shape, machine, {pick(random, 0, 4) == 0 ? 0 : pick(random, 1 << 20, 1 << 27)}, workload);
    if (!plan.is_ok()) continue;
    const std::string text = plan_to_json(plan.value());
    const Result<Plan> back = plan_from_json(text);
    REQUIRE(back.status().to_string() == Status().to_string());
    REQUIRE(plan_to_json(back.value()) == text);
    REQUIRE(back.value().predicted_prefill_ms == plan.value().predicted_prefill_ms);
    REQUIRE(back.value().decode.lanes.disk_ms == plan.value().decode.lanes.disk_ms);
    REQUIRE(back.value().decode.position == plan.value().decode.position);
    REQUIRE(back.value().prefill.logit_rows == plan.value().prefill.logit_rows);
    REQUIRE(plan_to_text(back.value()) == plan_to_text(plan.value()));
    REQUIRE(check_plan(back.value(), shape).is_ok());
  }
}

TEST_CASE("plan JSON: one from before plans knew how texts come back to experts counts on each being as likely as any") {
  Workload workload;
  workload.expert_repetition = 5;
  const Plan plan = PlacementPlanner::plan(small_model(), two_cores(), {64 << 20}, workload).value();
  nlohmann::json json = nlohmann::json::parse(plan_to_json(plan));
  REQUIRE(plan_from_json(json.dump()).value().expert_repetition == 5);
  json["stream"].erase("expert_repetition");
  REQUIRE(plan_from_json(json.dump()).value().expert_repetition == 1);
}

TEST_CASE("plan JSON: has the fields that scripts rely on") {
  const Plan plan = some_plan();
  const nlohmann::json json = nlohmann::json::parse(plan_to_json(plan));
  REQUIRE(json["feasible"] == true);
  REQUIRE(json["minimum"]["host_bytes"] == plan.minimum_host_bytes);
  REQUIRE(json["minimum"]["device_bytes"] == 0);
  REQUIRE(json["tiers"]["host"]["budget_bytes"] == 64 << 20);
  REQUIRE(json["tiers"]["device"]["planned_bytes"] == 0);
  uint64_t sum = 0;
  for (const char* part : {"weights_resident", "stream_slots", "kv_cache", "activations", "draft", "branches", "experts", "other"}) {
    sum += json["tiers"]["host"]["breakdown"][part].get<uint64_t>();
  }
  REQUIRE(json["tiers"]["host"]["planned_bytes"] == sum);
  const nlohmann::json tensor = json["tensors"].back();
  REQUIRE(tensor["name"] == "token_embd.weight");
  REQUIRE(tensor["bytes"] == 49152 / 16 * 18 * 544);
  REQUIRE(tensor["home"] == "disk");
  REQUIRE(tensor["tier"] == "host");
  REQUIRE((tensor["mode"] == "resident" || tensor["mode"] == "streamed"));
  REQUIRE(tensor["compute"] == "host");
  for (const char* lane : {"disk_ms", "h2d_ms", "host_ms", "device_ms"}) REQUIRE(json["step"]["decode"]["lanes"][lane].is_number());
  REQUIRE(json["step"]["decode"]["predicted_ms"] == plan.decode.predicted_ms);
  REQUIRE(json["step"]["decode"]["tokens"] == 1);
  REQUIRE(json["kv"]["layers"] == 30);
  REQUIRE(json["kv"]["spilled_layers"] == 0);
  REQUIRE(json["step"]["decode"]["kv_disk_bytes"] == 0);
  Workload spilled;
  spilled.kv_spilled_layers = 12;
  const Plan on_disk = PlacementPlanner::plan(small_model(), two_cores(), {64 << 20}, spilled).value();
  const nlohmann::json kv = nlohmann::json::parse(plan_to_json(on_disk))["kv"];
  REQUIRE(kv == nlohmann::json(
                    {{"layers", 30}, {"spilled_layers", 12}, {"slots", 2}, {"slot_bytes", 640 * 768}, {"spill_bytes", 12 * 640 * 768}}));
  REQUIRE(json["draft"]["kind"] == "none");
  REQUIRE(json["alternatives"].back()["what"] == "everything resident");
  REQUIRE(json["alternatives"].back()["predicted_decode_tokens_per_s"].is_number());
}

// Every field of the document; of an array the first item.
void for_each_field(const nlohmann::json& json, const nlohmann::json::json_pointer& at,
                    const std::function<void(nlohmann::json::json_pointer)>& visit) {
  if (json.is_object()) {
    for (const auto& [name, value] : json.items()) for_each_field(value, at / name, visit);
  } else if (json.is_array()) {
    if (!json.empty()) for_each_field(json[0], at / 0, visit);
    visit(at);
    return;
  }
  visit(at);
}

TEST_CASE("plan JSON: a missing field or one of another type is an error that names it") {
  const nlohmann::json json = nlohmann::json::parse(plan_to_json(some_plan()));
  int fields = 0;
  for_each_field(json, nlohmann::json::json_pointer(), [&](const nlohmann::json::json_pointer& at) {
    const std::string path = at.to_string();
    if (path.empty() || path == "/draft/kind" || path.find("/home") != std::string::npos || path == "/tensors/0" ||
        path == "/alternatives/0") {
      return;  // the first is the document itself; the others are not needed to replay a plan
    }
    for (const nlohmann::json& wrong : {nlohmann::json("a string"), nlohmann::json(-1), nlohmann::json(), nlohmann::json(true)}) {
      const bool is_number = json[at].is_number_float() && wrong.is_number();
      const bool is_string = json[at].is_string() && wrong.is_string() && path.find("/tier") == std::string::npos &&
                             path.find("/kv_type") == std::string::npos && path.find("/mode") == std::string::npos &&
                             path.find("/compute") == std::string::npos;
      if (is_number || is_string || (json[at].is_boolean() && wrong.is_boolean())) continue;
      nlohmann::json changed = json;
      changed[at] = wrong;
      const Result<Plan> plan = plan_from_json(changed.dump());
      CAPTURE(path, wrong.dump());
      REQUIRE(plan.status().code() == StatusCode::kInvalidArgument);
      REQUIRE(plan.status().message().find(at.back()) != std::string::npos);
    }
    nlohmann::json without = json;
    without[at.parent_pointer()].erase(at.back());
    CAPTURE(path);
    if (path == "/kv" || path == "/branch_share" || path == "/draft/bits" || path == "/stream/expert_repetition") {
      REQUIRE(plan_from_json(without.dump()).is_ok());
      return;
    }
    if (at.back() == "kv_disk_bytes" || at.back() == "position" || at.back() == "logit_rows" || at.back() == "sequences") {
      // Of a step; the first plans that were saved do not say them. A plan's own logit_rows was always there.
      if (path.rfind("/step", 0) == 0) {
        REQUIRE(plan_from_json(without.dump()).is_ok());
        return;
      }
    }
    if (path == "/device_stream" || at.back() == "corrections_beside" || at.back() == "handoff_bytes" || at.back() == "h2d_bytes" ||
        at.back() == "device_bytes") {
      // Plans that were saved before there were devices do not say them; the smallest budget they all have.
      if (path.rfind("/minimum", 0) != 0) {
        REQUIRE(plan_from_json(without.dump()).is_ok());
        return;
      }
    }
    REQUIRE(plan_from_json(without.dump()).status().message().find("got nothing") != std::string::npos);
    ++fields;
  });
  REQUIRE(fields > 50);
}

TEST_CASE("plan JSON: numbers beyond their field are refused, fields of newer versions are not") {
  nlohmann::json json = nlohmann::json::parse(plan_to_json(some_plan()));
  json["something_new"] = {1, 2, 3};
  json["tiers"]["host"]["something_new"] = "text";
  REQUIRE(plan_from_json(json.dump()).is_ok());
  json["batch"] = 4294967296;
  REQUIRE(plan_from_json(json.dump()).status().message().find("batch: got 4294967296") != std::string::npos);
}

TEST_CASE("plan JSON: text that is no plan is refused") {
  for (const char* text : {"", "{", "[]", "null", "{}", "{\"feasible\":false}", "\xff\xfe", "{\"feasible\":true,\"minimum\":[]}"}) {
    CAPTURE(text);
    REQUIRE(plan_from_json(text).status().code() == StatusCode::kInvalidArgument);
  }
  REQUIRE(plan_from_json(std::string(100000, '[')).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("plan JSON: a tensor's name that is not UTF-8 still gives a document") {
  Plan plan = some_plan();
  plan.tensors[0].name = "blk.\xff.weight";
  REQUIRE(plan_from_json(plan_to_json(plan)).is_ok());
}

}  // namespace
}  // namespace outrigger
