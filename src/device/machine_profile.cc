// MachineProfile as JSON, and the fingerprint that says whose it is.
#include <outrigger/machine_profile.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "src/base/formatted.h"
#include "src/base/json_fields.h"
#include "src/base/macros.h"
#include "src/base/thread_team.h"
#include "src/kernels/simd.h"

namespace outrigger {
namespace {

using Json = nlohmann::ordered_json;

struct NamedRate {
  const char* name;
  Rate MachineProfile::*rate;
};
constexpr NamedRate kRates[] = {
    {"host_stream_bytes", &MachineProfile::host_stream_bytes},       {"host_int8_ops", &MachineProfile::host_int8_ops},
    {"host_small_batch_ops", &MachineProfile::host_small_batch_ops}, {"host_attention_flops", &MachineProfile::host_attention_flops},
    {"host_repack_bytes", &MachineProfile::host_repack_bytes},       {"disk_bytes", &MachineProfile::disk_bytes},
};
// Left out when they were not measured: a profile without them is as good as it ever was.
constexpr NamedRate kOptionalRates[] = {
    {"host_float_ops", &MachineProfile::host_float_ops},
    {"host_float_small_batch_ops", &MachineProfile::host_float_small_batch_ops},
    {"host_bf16_ops", &MachineProfile::host_bf16_ops},
    {"host_bf16_small_batch_ops", &MachineProfile::host_bf16_small_batch_ops},
    {"host_float_repack_bytes", &MachineProfile::host_float_repack_bytes},
    {"disk_bytes_busy", &MachineProfile::disk_bytes_busy},
    {"host_stream_bytes_busy", &MachineProfile::host_stream_bytes_busy},
};
constexpr NamedRate kDeviceRates[] = {
    {"h2d_bytes", &MachineProfile::h2d_bytes},
    {"d2h_bytes", &MachineProfile::d2h_bytes},
    {"device_stream_bytes", &MachineProfile::device_stream_bytes},
    {"device_int8_ops", &MachineProfile::device_int8_ops},
    {"device_small_batch_ops", &MachineProfile::device_small_batch_ops},
    {"device_attention_flops", &MachineProfile::device_attention_flops},
};

Status read_rate(const JsonFields& json, const NamedRate& named, MachineProfile* profile) {
  OTR_ASSIGN(const JsonFields fields, json.object(named.name));
  Rate& rate = profile->*named.rate;
  OTR_TRY(fields.read("per_s", &rate.per_s));
  OTR_TRY(fields.read("spread", &rate.spread));
  return fields.read("how", &rate.how);
}

// All of a device or nothing: half of one is a mistake of whoever wrote it.
Status read_device(const JsonFields& json, MachineProfile* profile) {
  OTR_TRY(json.read("device", &profile->device));
  OTR_TRY(json.read("device_memory_bytes", &profile->device_memory_bytes));
  for (const NamedRate& named : kDeviceRates) OTR_TRY(read_rate(json, named, profile));
  OTR_TRY(json.read("device_step_overhead_us", &profile->device_step_overhead_us));
  // Not in the first profiles of devices; without them no plan uses the device.
  if (json.has("link_latency_us")) OTR_TRY(json.read("link_latency_us", &profile->link_latency_us));
  if (json.has("handoff_us")) OTR_TRY(json.read("handoff_us", &profile->handoff_us));
  if (json.has("device_threads")) OTR_TRY(json.read("device_threads", &profile->device_threads));
  if (json.has("device_taken_bytes")) OTR_TRY(json.read("device_taken_bytes", &profile->device_taken_bytes));
  return {};
}

Status read_profile(const JsonFields& json, MachineProfile* profile) {
  OTR_TRY(json.read("machine", &profile->machine));
  OTR_TRY(json.read("threads", &profile->threads));
  for (const NamedRate& named : kRates) OTR_TRY(read_rate(json, named, profile));
  OTR_TRY(json.read("host_step_overhead_us", &profile->host_step_overhead_us));
  for (const NamedRate& named : kOptionalRates) {
    if (json.has(named.name)) OTR_TRY(read_rate(json, named, profile));
  }
  return json.has("device") ? read_device(json, profile) : Status();
}

// x86 says "model name", most other processors "Processor", "cpu" or "CPU part".
std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string key = line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1);
    const size_t value = line.find_first_not_of(" \t", colon + 1);
    for (const char* known : {"model name", "Processor", "cpu", "CPU part"}) {
      if (key == known && value != std::string::npos) return line.substr(value);
    }
  }
  return "unknown processor";
}

}  // namespace

std::string machine_fingerprint() {
  const double bytes = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  return formatted("{}, {} cores, {}, {:.0f} GiB", processor_name(), usable_cores(), simd_level_name(simd_level()), bytes / (1 << 30));
}

std::string profile_to_json(const MachineProfile& profile) {
  Json json = {{"machine", profile.machine}, {"threads", profile.threads}};
  const auto write = [&json, &profile](const NamedRate& named) {
    const Rate& rate = profile.*named.rate;
    json[named.name] = {{"per_s", rate.per_s}, {"spread", rate.spread}, {"how", rate.how}};
  };
  for (const NamedRate& named : kRates) write(named);
  json["host_step_overhead_us"] = profile.host_step_overhead_us;
  for (const NamedRate& named : kOptionalRates) {
    if ((profile.*named.rate).per_s > 0) write(named);
  }
  if (!profile.device.empty()) {
    json["device"] = profile.device;
    json["device_memory_bytes"] = profile.device_memory_bytes;
    for (const NamedRate& named : kDeviceRates) write(named);
    json["device_step_overhead_us"] = profile.device_step_overhead_us;
    json["link_latency_us"] = profile.link_latency_us;
    if (profile.handoff_us > 0) json["handoff_us"] = profile.handoff_us;
    json["device_threads"] = profile.device_threads;
    json["device_taken_bytes"] = profile.device_taken_bytes;
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

Result<MachineProfile> profile_from_json(const std::string& text) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Status(StatusCode::kInvalidArgument, "machine profile JSON: got something else, need one JSON object");
  MachineProfile profile;
  OTR_TRY(read_profile(JsonFields("machine profile JSON", "", json), &profile));
  return profile;
}

}  // namespace outrigger
