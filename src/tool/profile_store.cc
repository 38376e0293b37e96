// The machine's profile in the cache folder.
#include "src/tool/profile_store.h"

#include <outrigger/build_info.h>
#include <outrigger/log.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "src/tool/files.h"
#include "src/tool/report.h"

namespace outrigger::tool {
namespace {

// A rate taken from less of a file than this says little about the disk; from more, it is as good as it gets.
constexpr uint64_t kFairDiskSample = uint64_t{64} << 20;

// What the stored document says beside the profile itself: for whom it was measured.
struct Validity {
  uint64_t disk = 0;               // the file system's device number; 0: none was measured
  uint64_t disk_sample_bytes = 0;  // size of the file that it was measured with
};

// A directory is measured by its largest file of weights.
uint64_t sample_bytes(const std::string& disk_path, const struct stat& facts) {
  if (!S_ISDIR(facts.st_mode)) return static_cast<uint64_t>(facts.st_size);
  uint64_t most = 0;
  std::error_code failure;
  for (std::filesystem::directory_iterator entry(disk_path, failure); !failure && entry != std::filesystem::directory_iterator();
       entry.increment(failure)) {
    std::error_code ignored;
    if (entry->path().extension() == ".safetensors" && entry->is_regular_file(ignored))
      most = std::max<uint64_t>(most, entry->file_size(ignored));
  }
  return most;
}

Validity validity_of(const std::string& disk_path) {
  struct stat facts = {};
  if (disk_path.empty() || stat(disk_path.c_str(), &facts) != 0) return {};
  return {static_cast<uint64_t>(facts.st_dev), std::min(sample_bytes(disk_path, facts), kFairDiskSample)};
}

// The host's part of a profile.
MachineProfile of_host(const MachineProfile& profile) {
  MachineProfile host = profile;
  host.device.clear();
  host.device_memory_bytes = 0;
  host.device_threads = 0;
  host.device_taken_bytes = 0;
  host.h2d_bytes = host.d2h_bytes = host.device_stream_bytes = host.device_int8_ops = host.device_small_batch_ops =
      host.device_attention_flops = {};
  host.link_latency_us = host.handoff_us = host.device_step_overhead_us = 0;
  return host;
}

}  // namespace

std::string cache_path(const char* name) {
  if (const char* cache = std::getenv("OUTRIGGER_CACHE"); cache != nullptr && *cache != 0) return std::string(cache) + "/" + name;
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != 0) return std::string(home) + "/.cache/outrigger/" + name;
  return "";
}

std::string profile_path() { return cache_path("profile.json"); }

std::optional<MachineProfile> stored_profile(uint32_t threads, const std::string& disk_path, const std::string& device) {
  const auto text = read_file(profile_path());
  if (!text.is_ok()) return std::nullopt;
  const auto profile = profile_from_json(text.value());
  if (!profile.is_ok() || profile.value().machine != machine_fingerprint()) return std::nullopt;
  if (profile.value().host_float_ops.per_s == 0) return std::nullopt;  // of a version that did not measure float weights
  if (profile.value().threads != (threads == 0 ? build_info().usable_cores : threads)) return std::nullopt;
  const Json document = Json::parse(text.value(), nullptr, false);
  if (!document.is_object()) return std::nullopt;
  const auto number = [&document](const char* field) {
    const auto found = document.find(field);
    return found != document.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
  };
  const Validity need = validity_of(disk_path);
  const bool disk_fits = number("disk") == need.disk && number("disk_sample_bytes") >= need.disk_sample_bytes;
  if (!disk_path.empty() && !disk_fits) return std::nullopt;
  if (device == "cpu") return of_host(profile.value());
  const auto measured = document.find("device_option");
  return measured != document.end() && *measured == device ? std::optional(profile.value()) : std::nullopt;
}

void store_profile(const MachineProfile& profile, const std::string& disk_path, const std::string& device) {
  const std::string path = profile_path();
  if (path.empty()) return;
  Json document = Json::parse(profile_to_json(profile), nullptr, false);
  if (!document.is_object()) return;
  const Validity validity = validity_of(disk_path);
  document["disk"] = validity.disk;
  document["disk_sample_bytes"] = validity.disk_sample_bytes;
  document["device_option"] = device;
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  const Status status = write_file(path, document.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  if (!status.is_ok()) say("the machine's profile cannot be kept and will be measured again: " + status.to_string());
}

Result<MachineProfile> known_profile(const CommonOptions& common, const std::string& disk_path) {
  if (auto stored = stored_profile(common.threads, disk_path, common.device)) return std::move(*stored);
  if (common.log_level >= static_cast<int>(LogLevel::kInfo)) say("info: measuring this machine for the planner, into " + profile_path());
  ProfileOptions options;
  options.threads = common.threads;
  options.disk_path = disk_path;
  options.device = common.device;
  auto profile = measure_machine(options);
  if (profile.is_ok()) store_profile(profile.value(), disk_path, common.device);
  return profile;
}

}  // namespace outrigger::tool
