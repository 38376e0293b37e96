// measure_machine: figures that a machine can have, for a file that exists, in the time that was given.
#include <outrigger/machine_profile.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "src/device/samples.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

class TemporaryFile {
 public:
  explicit TemporaryFile(size_t bytes)
      : path_(std::filesystem::temp_directory_path() /
              ("outrigger_measure_test." + std::to_string(::getpid()) + "." + std::to_string(bytes))) {
    std::ofstream(path_) << std::string(bytes, 'w');
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TEST_CASE("samples: the rate is the upper quartile, the spread what lies between the extremes") {
  Samples samples;
  for (double seconds : {8.0, 1.0, 4.0, 0.5, 2.0}) samples.add(8, seconds);
  const Rate rate = samples.rate("so");
  REQUIRE(rate.per_s == 8);
  REQUIRE(rate.spread == (16.0 - 1.0) / 4.0);
  REQUIRE(rate.how == "so");
  REQUIRE(samples.fastest() == 16);
}

TEST_CASE("samples: one disturbance in the middle of a measurement does not change the rate") {
  Samples samples;
  for (double seconds : {1.0, 1.0, 1000.0, 1.0, 1.0}) samples.add(8, seconds);
  REQUIRE(samples.rate("").per_s == 8);
}

TEST_CASE("measure_machine: every lane has a rate and says how it was measured") {
  const TemporaryFile file((9 << 20) + 77);
  const Result<MachineProfile> result = measure_machine({1, file.path(), 0.01});
  REQUIRE(result.status().to_string() == Status().to_string());
  const MachineProfile& profile = result.value();
  REQUIRE(profile.machine == machine_fingerprint());
  REQUIRE(profile.threads == 1);
  // Bounds that no machine this runs on comes near, a busy one under a sanitizer included (9e6 was seen): a wrong unit is a factor of a
  // thousand of what a machine really has.
  const auto between = [](const Rate& rate, double low, double high) {
    CAPTURE(rate.how, rate.per_s);
    REQUIRE(rate.per_s > low);
    REQUIRE(rate.per_s < high);
    REQUIRE(rate.spread >= 0);
    REQUIRE_FALSE(rate.how.empty());
  };
  between(profile.host_stream_bytes, 3e6, 1e12);
  between(profile.host_int8_ops, 3e7, 1e13);
  between(profile.host_small_batch_ops, 3e7, 1e13);
  between(profile.host_float_ops, 3e7, 1e13);
  between(profile.host_float_small_batch_ops, 1e7, 1e13);
  between(profile.host_bf16_ops, 3e7, 1e13);
  between(profile.host_bf16_small_batch_ops, 1e7, 1e13);
  between(profile.host_float_repack_bytes, 1e6, 1e12);
  for (const Rate* rate : {&profile.host_float_ops, &profile.host_float_small_batch_ops, &profile.host_float_repack_bytes})
    REQUIRE(rate->how.find(" F16 ") != std::string::npos);
  REQUIRE(profile.host_bf16_small_batch_ops.how.find("BF16 weights a thread with 4 tokens, bf16 activations") != std::string::npos);
  between(profile.host_attention_flops, 3e7, 1e13);
  between(profile.host_repack_bytes, 1e6, 1e12);
  between(profile.disk_bytes, 3e5, 1e12);
  REQUIRE(profile.host_step_overhead_us > 0);
  REQUIRE(profile.host_step_overhead_us < 1e5);
}

TEST_CASE("measure_machine: lanes are measured while others run, if there are others") {
  const TemporaryFile file(3 << 20);
  ProfileOptions options{1, file.path(), 0.02};
  const MachineProfile with_disk = measure_machine(options).value();
  REQUIRE(with_disk.device.empty());
  REQUIRE(with_disk.disk_bytes_busy.per_s > 3e5);
  REQUIRE(with_disk.disk_bytes_busy.how.find("threads compute") != std::string::npos);
  REQUIRE(with_disk.host_stream_bytes_busy.per_s > 1e6);
  REQUIRE(with_disk.host_stream_bytes_busy.how.find("while the disk reads") != std::string::npos);

  options.device = "emulated:memory=64MiB,link=1GB/s";
  const MachineProfile with_both = measure_machine(options).value();
  REQUIRE(with_both.host_stream_bytes_busy.how.find("while the disk reads and the link copies both ways") != std::string::npos);
  REQUIRE(with_both.device.starts_with("emulated:memory=67108864B"));
  options.disk_path.clear();
  const MachineProfile with_link = measure_machine(options).value();
  REQUIRE(with_link.disk_bytes_busy.per_s == 0);
  REQUIRE(with_link.host_stream_bytes_busy.how.find("while the link copies both ways") != std::string::npos);
  options.device = "cpu";
  REQUIRE(measure_machine(options).value().host_stream_bytes_busy.per_s == 0);
}

TEST_CASE("measure_machine: a device that cannot be opened is found out at once") {
  ProfileOptions options{1, "", 5};
  options.device = "abacus";
  REQUIRE(measure_machine(options).status().code() == StatusCode::kInvalidArgument);
  options.device = "cuda:9999";
  REQUIRE(measure_machine(options).status().code() == StatusCode::kUnavailable);
}

TEST_CASE("measure_machine: a file smaller than a request will do, and so will none") {
  const TemporaryFile file(5000);
  REQUIRE(measure_machine({1, file.path(), 0}).value().disk_bytes.per_s > 0);
  const MachineProfile without = measure_machine({1, "", 0}).value();
  REQUIRE(without.disk_bytes.per_s == 0);
  REQUIRE(without.disk_bytes.how == "not measured");
}

TEST_CASE("measure_machine: a file that cannot be read is found out at once, and named") {
  const auto start = std::chrono::steady_clock::now();
  const TemporaryFile empty(0);
  const Status missing = measure_machine({1, "/no/such/file", 5}).status();
  REQUIRE(missing.code() == StatusCode::kNotFound);
  REQUIRE(missing.file() == "/no/such/file");
  REQUIRE(measure_machine({1, "/dev", 5}).status().code() == StatusCode::kIo);
  REQUIRE(measure_machine({1, "/dev/null", 5}).status().code() == StatusCode::kIo);
  REQUIRE(measure_machine({1, empty.path(), 5}).status().code() == StatusCode::kIo);
  REQUIRE(std::chrono::steady_clock::now() - start < std::chrono::seconds(1));
}

TEST_CASE("measure_machine: a time that is none is refused") {
  for (double seconds : {-1.0, 0.0 / 0.0, 1e9}) REQUIRE(measure_machine({1, "", seconds}).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("measure_machine: a directory's disk is measured with its largest file of weights, and one without any is refused") {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("outrigger_measure_test.folder." + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  std::ofstream(folder / "other") << std::string(size_t{4} << 20, 'o');
  ProfileOptions options;
  options.seconds_per_lane = 0.01;
  options.disk_path = folder;
  CHECK(measure_machine(options).status().code() == StatusCode::kIo);
  std::ofstream(folder / "small.safetensors") << "x";
  std::ofstream(folder / "weights.safetensors") << std::string(size_t{4} << 20, 'w');
  const Result<MachineProfile> profile = measure_machine(options);
  INFO(profile.status().to_string());
  REQUIRE(profile.is_ok());
  CHECK(profile.value().disk_bytes.per_s > 1e6);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace outrigger
