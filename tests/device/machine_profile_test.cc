// MachineProfile as JSON: nothing is lost, and what is missing is named.
#include <outrigger/machine_profile.h>

#include <nlohmann/json.hpp>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

constexpr const char* kRates[] = {"host_stream_bytes",    "host_int8_ops",     "host_small_batch_ops",
                                  "host_attention_flops", "host_repack_bytes", "disk_bytes"};

MachineProfile some_profile() {
  MachineProfile profile;
  profile.machine = "Some \"Processor\" \xc2\xb5, 2 cores";
  profile.threads = 2;
  profile.host_stream_bytes = {4.2e10 / 3, 0.1, "one"};
  profile.host_int8_ops = {6.5e11, 0.01, "two"};
  profile.host_small_batch_ops = {3e11, 0.3, "three"};
  profile.host_attention_flops = {1.5e11, 0, "four"};
  profile.host_repack_bytes = {8e9, 0.02, "five"};
  profile.disk_bytes = {0, 0, "not measured"};
  profile.host_step_overhead_us = 61.5;
  return profile;
}

TEST_CASE("profile JSON: reads back as what was written, to the last bit") {
  const MachineProfile profile = some_profile();
  const Result<MachineProfile> back = profile_from_json(profile_to_json(profile));
  REQUIRE(back.is_ok());
  REQUIRE(profile_to_json(back.value()) == profile_to_json(profile));
  REQUIRE(back.value().machine == profile.machine);
  REQUIRE(back.value().threads == 2);
  REQUIRE(back.value().host_stream_bytes.per_s == profile.host_stream_bytes.per_s);
  REQUIRE(back.value().host_repack_bytes.how == "five");
  REQUIRE(back.value().host_step_overhead_us == 61.5);
}

TEST_CASE("profile JSON: a rate that is missing or no number is an error that names it") {
  const nlohmann::json json = nlohmann::json::parse(profile_to_json(some_profile()));
  for (const char* rate : kRates) {
    nlohmann::json without = json;
    without.erase(rate);
    REQUIRE(profile_from_json(without.dump()).status().code() == StatusCode::kInvalidArgument);
    REQUIRE(profile_from_json(without.dump()).status().message().find(rate) != std::string::npos);
    nlohmann::json text = json;
    text[rate]["per_s"] = "fast";
    REQUIRE(profile_from_json(text.dump()).status().subject() == std::string(rate) + ".per_s");
  }
}

TEST_CASE("profile JSON: unknown fields are ignored, text that is no profile is refused") {
  nlohmann::json json = nlohmann::json::parse(profile_to_json(some_profile()));
  json["h2d_bytes"] = {{"per_s", 1}};
  REQUIRE(profile_from_json(json.dump()).is_ok());
  for (const char* text : {"", "{}", "[]", "7", "{\"machine\":1}", "\xff"}) {
    REQUIRE(profile_from_json(text).status().code() == StatusCode::kInvalidArgument);
  }
}

TEST_CASE("machine fingerprint: says the same each time, and more than nothing") {
  REQUIRE(machine_fingerprint() == machine_fingerprint());
  REQUIRE(machine_fingerprint().find("cores") != std::string::npos);
  REQUIRE(machine_fingerprint().find("unknown") == std::string::npos);
}

}  // namespace
}  // namespace outrigger
