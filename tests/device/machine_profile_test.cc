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

MachineProfile profile_of_a_device() {
  MachineProfile profile = some_profile();
  profile.disk_bytes_busy = {1.5e9, 0.2, "six"};
  profile.host_stream_bytes_busy = {3e10, 0.3, "seven"};
  profile.device = "some device";
  profile.device_memory_bytes = uint64_t{24} << 30;
  profile.h2d_bytes = {2.4e10, 0, "eight"};
  profile.d2h_bytes = {2.3e10, 0, "nine"};
  profile.device_stream_bytes = {9e11, 0, "ten"};
  profile.device_int8_ops = {2e14, 0, "eleven"};
  profile.device_small_batch_ops = {1e13, 0, "twelve"};
  profile.device_attention_flops = {5e13, 0, "thirteen"};
  profile.device_step_overhead_us = 130.25;
  profile.link_latency_us = 7.5;
  profile.handoff_us = 4.5;
  profile.device_threads = 132;
  profile.device_taken_bytes = 560 << 20;
  return profile;
}

constexpr const char* kDeviceFields[] = {"device_memory_bytes",
                                         "h2d_bytes",
                                         "d2h_bytes",
                                         "device_stream_bytes",
                                         "device_int8_ops",
                                         "device_small_batch_ops",
                                         "device_attention_flops",
                                         "device_step_overhead_us"};

TEST_CASE("profile JSON: a device's rates and those of busy lanes are read back too") {
  const MachineProfile profile = profile_of_a_device();
  const Result<MachineProfile> back = profile_from_json(profile_to_json(profile));
  REQUIRE(back.is_ok());
  REQUIRE(profile_to_json(back.value()) == profile_to_json(profile));
  REQUIRE(back.value().disk_bytes_busy.per_s == 1.5e9);
  REQUIRE(back.value().host_stream_bytes_busy.how == "seven");
  REQUIRE(back.value().device == "some device");
  REQUIRE(back.value().device_memory_bytes == uint64_t{24} << 30);
  REQUIRE(back.value().h2d_bytes.per_s == 2.4e10);
  REQUIRE(back.value().d2h_bytes.per_s == 2.3e10);
  REQUIRE(back.value().device_stream_bytes.per_s == 9e11);
  REQUIRE(back.value().device_int8_ops.per_s == 2e14);
  REQUIRE(back.value().device_small_batch_ops.per_s == 1e13);
  REQUIRE(back.value().device_attention_flops.per_s == 5e13);
  REQUIRE(back.value().device_step_overhead_us == 130.25);
  REQUIRE(back.value().link_latency_us == 7.5);
  REQUIRE(back.value().handoff_us == 4.5);
  REQUIRE(back.value().device_threads == 132);
  REQUIRE(back.value().device_taken_bytes == 560 << 20);
}

constexpr const char* kFloatRates[] = {"host_float_ops", "host_float_small_batch_ops", "host_bf16_ops", "host_bf16_small_batch_ops",
                                       "host_float_repack_bytes"};

TEST_CASE("profile JSON: rates of float weights are read back, and missing where nobody measured them") {
  MachineProfile profile = some_profile();
  profile.host_float_ops = {1.7e11, 0.1, "fourteen"};
  profile.host_float_small_batch_ops = {1.6e11, 0, "fifteen"};
  profile.host_bf16_ops = {4.3e11, 0, "sixteen"};
  profile.host_bf16_small_batch_ops = {3.1e11, 0, "seventeen"};
  profile.host_float_repack_bytes = {5.1e9, 0, "eighteen"};
  nlohmann::json json = nlohmann::json::parse(profile_to_json(profile));
  const MachineProfile back = profile_from_json(json.dump()).value();
  REQUIRE(profile_to_json(back) == profile_to_json(profile));
  REQUIRE(back.host_float_ops.per_s == 1.7e11);
  REQUIRE(back.host_float_small_batch_ops.per_s == 1.6e11);
  REQUIRE(back.host_bf16_ops.per_s == 4.3e11);
  REQUIRE(back.host_bf16_small_batch_ops.how == "seventeen");
  REQUIRE(back.host_float_repack_bytes.per_s == 5.1e9);
  for (const char* rate : kFloatRates) {
    nlohmann::json text = json;
    text[rate]["per_s"] = "fast";
    REQUIRE(profile_from_json(text.dump()).status().subject() == std::string(rate) + ".per_s");
    json.erase(rate);
  }
  REQUIRE(profile_to_json(profile_from_json(json.dump()).value()) == profile_to_json(some_profile()));
}

TEST_CASE("profile JSON: one from before there were devices has none, and nothing is written of what was not measured") {
  const nlohmann::json json = nlohmann::json::parse(profile_to_json(some_profile()));
  for (const char* field : kDeviceFields) REQUIRE_FALSE(json.contains(field));
  for (const char* field : {"device", "disk_bytes_busy", "host_stream_bytes_busy"}) REQUIRE_FALSE(json.contains(field));
  const MachineProfile profile = profile_from_json(json.dump()).value();
  REQUIRE(profile.device.empty());
  REQUIRE(profile.h2d_bytes.per_s == 0);
  REQUIRE(profile.disk_bytes_busy.per_s == 0);
}

TEST_CASE(
    "profile JSON: the first profiles of devices did not say the link's latency, the device's threads, nor what it takes by being used") {
  nlohmann::json json = nlohmann::json::parse(profile_to_json(profile_of_a_device()));
  json.erase("link_latency_us");
  json.erase("handoff_us");
  json.erase("device_threads");
  json.erase("device_taken_bytes");
  const Result<MachineProfile> profile = profile_from_json(json.dump());
  REQUIRE(profile.is_ok());
  REQUIRE(profile.value().link_latency_us == 0);
  REQUIRE(profile.value().handoff_us == 0);
  REQUIRE(profile.value().device_threads == 0);
  REQUIRE(profile.value().device_taken_bytes == 0);
  json["device_threads"] = "many";
  REQUIRE(profile_from_json(json.dump()).status().message().find("device_threads") != std::string::npos);
}

TEST_CASE("profile JSON: half a device is an error that names what is missing") {
  const nlohmann::json json = nlohmann::json::parse(profile_to_json(profile_of_a_device()));
  for (const char* field : kDeviceFields) {
    nlohmann::json without = json;
    without.erase(field);
    const Status status = profile_from_json(without.dump()).status();
    REQUIRE(status.code() == StatusCode::kInvalidArgument);
    REQUIRE(status.subject() == field);
  }
  nlohmann::json text = json;
  text["disk_bytes_busy"]["per_s"] = "fast";
  REQUIRE(profile_from_json(text.dump()).status().subject() == "disk_bytes_busy.per_s");
}

TEST_CASE("profile JSON: unknown fields are ignored, text that is no profile is refused") {
  nlohmann::json json = nlohmann::json::parse(profile_to_json(some_profile()));
  json["fax_bytes"] = {{"per_s", 1}};
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
