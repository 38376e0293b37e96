// outrigger profile: measures this machine's lanes, and keeps the result for the planner.
#include <fmt/format.h>

#include <memory>

#include "src/tool/command_line.h"
#include "src/tool/commands.h"
#include "src/tool/loading.h"
#include "src/tool/profile_store.h"
#include "src/tool/report.h"

namespace outrigger::tool {
namespace {

struct ProfileCommandOptions {
  CommonOptions common;
  std::string disk_file;
  bool again = false;
};

// A measurement that is asked for may take longer than one that delays a run.
constexpr double kSecondsPerLane = 0.3;

Result<MachineProfile> measured_or_stored(const ProfileCommandOptions& options) {
  if (!options.again) {
    if (auto stored = stored_profile(options.common.threads, options.disk_file, options.common.device)) return std::move(*stored);
  }
  ProfileOptions profile_options;
  profile_options.threads = options.common.threads;
  profile_options.disk_path = options.disk_file;
  profile_options.seconds_per_lane = kSecondsPerLane;
  profile_options.device = options.common.device;
  auto profile = measure_machine(profile_options);
  if (profile.is_ok()) store_profile(profile.value(), options.disk_file, options.common.device);
  return profile;
}

std::string to_text(const MachineProfile& profile) {
  std::string text =
      fmt::format("{}\n{} threads, {:.1f} us for a step of any size\n\n", profile.machine, profile.threads, profile.host_step_overhead_us);
  const auto line = [&text](const char* what, const Rate& rate, double unit, const char* name) {
    if (rate.per_s == 0) {
      text += fmt::format("{:<28} {:>9}\n", what, "none");
    } else {
      text += fmt::format("{:<28} {:>9.2f} {:<8} +-{:>4.1f} %  {}\n", what, rate.per_s / unit, name, rate.spread * 50, rate.how);
    }
  };
  line("host memory", profile.host_stream_bytes, 1e9, "GB/s");
  line("products, many tokens", profile.host_int8_ops, 1e9, "Gop/s");
  line("products, few tokens", profile.host_small_batch_ops, 1e9, "Gop/s");
  line("products of F16, many", profile.host_float_ops, 1e9, "Gop/s");
  line("products of F16, few", profile.host_float_small_batch_ops, 1e9, "Gop/s");
  line("products of BF16, many", profile.host_bf16_ops, 1e9, "Gop/s");
  line("products of BF16, few", profile.host_bf16_small_batch_ops, 1e9, "Gop/s");
  line("attention", profile.host_attention_flops, 1e9, "Gflop/s");
  line("packing weights", profile.host_repack_bytes, 1e9, "GB/s");
  line("packing float weights", profile.host_float_repack_bytes, 1e9, "GB/s");
  line("disk", profile.disk_bytes, 1e9, "GB/s");
  if (profile.host_stream_bytes_busy.per_s > 0) line("host memory, others at work", profile.host_stream_bytes_busy, 1e9, "GB/s");
  if (profile.disk_bytes_busy.per_s > 0) line("disk, others at work", profile.disk_bytes_busy, 1e9, "GB/s");
  if (profile.device.empty()) return text;
  text += fmt::format("\n{}\n{} of memory, of which {} are taken by using it, {:.1f} us for a step of any size, {:.1f} us over the link",
                      profile.device, format_size(profile.device_memory_bytes), format_size(profile.device_taken_bytes),
                      profile.device_step_overhead_us, profile.link_latency_us);
  text += profile.handoff_us > 0 ? fmt::format(", {:.1f} us to the host and back in a step\n\n", profile.handoff_us) : "\n\n";
  line("host to device", profile.h2d_bytes, 1e9, "GB/s");
  line("device to host", profile.d2h_bytes, 1e9, "GB/s");
  line("device memory", profile.device_stream_bytes, 1e9, "GB/s");
  line("products, many tokens", profile.device_int8_ops, 1e9, "Gop/s");
  line("products, few tokens", profile.device_small_batch_ops, 1e9, "Gop/s");
  line("attention", profile.device_attention_flops, 1e9, "Gflop/s");
  return text;
}

Status profile(const ProfileCommandOptions& options) {
  apply_log_level(options.common);
  if (Status status = check_trace(options.common, false); !status.is_ok()) return status;
  // This command has emulated devices although steps cannot run on them yet.
  if (Status status = check_device(options.common); !status.is_ok()) return status;
  const auto measured = measured_or_stored(options);
  if (!measured.is_ok()) return measured.status();
  if (!options.common.json) return write_out(to_text(measured.value()));
  std::string document = profile_to_json(measured.value());
  if (!document.ends_with('\n')) document += '\n';
  return write_out(document);
}

}  // namespace

void add_profile(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("profile", "Measure this machine for the planner");
  auto options = std::make_shared<ProfileCommandOptions>();
  command->add_option("--disk", options->disk_file, "A large file on the disk to measure, usually the model")->type_name("FILE");
  command->add_flag("--again", options->again, "Measure even if a stored profile holds");
  add_common_options(*command, options->common, Shows::kMachine);
  command->footer(
      "The profile is kept in ${OUTRIGGER_CACHE:-~/.cache/outrigger}/profile.json and used until the machine changes.\n"
      "Examples:\n"
      "  outrigger profile --disk model.gguf\n"
      "  outrigger profile --device emulated:memory=256MiB,link=4GB/s\n"
      "  outrigger profile --json > other-machine.json   # for 'outrigger plan --profile'\n");
  command->callback([&action, options] { action = [options] { return profile(*options); }; });
}

}  // namespace outrigger::tool
