// The emulated device's name.
#include "src/device/emulated_device.h"

#include <outrigger/sizes.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <utility>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/device/host_pages.h"

namespace outrigger {
namespace {

constexpr std::string_view kPrefix = "emulated:";
constexpr size_t kMostThreads = 256;

struct TimeUnit {
  std::string_view name;
  double ns;
};
constexpr TimeUnit kTimeUnits[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};

// A part of the name: key=value.
struct Part {
  std::string_view key, value;
  Status need(std::string_view what) const {
    return Status(StatusCode::kInvalidArgument, formatted("device: {}: got \"{}\", need {}", key, value, what));
  }
};

Status read_memory(const Part& part, EmulatedDevice* device) {
  const Result<ByteSize> size = parse_size(part.value);
  const bool has_unit = part.value.find_first_not_of("0123456789.") != std::string_view::npos;
  if (!size.is_ok() || !has_unit || size.value().bytes < kPageBytes) {  // a share has 0 bytes
    return part.need("a size with a unit, from 4KiB to 8192TiB, such as 256MiB");
  }
  device->memory_bytes = size.value().bytes;
  return {};
}

Status read_link(const Part& part, EmulatedDevice* device) {
  const Result<double> rate = parse_rate(part.value);
  const bool has_unit = part.value.find_first_not_of("0123456789./s") != std::string_view::npos;
  if (!rate.is_ok() || !has_unit || rate.value() < 1e3) return part.need("a rate with a unit, from 1kB/s to 8192TiB/s, such as 4GB/s");
  device->link_bytes_per_s = rate.value();
  return {};
}

Status read_latency(const Part& part, EmulatedDevice* device) {
  double number = -1;
  const char* const end = part.value.data() + part.value.size();
  const auto [rest, error] = std::from_chars(part.value.data(), end, number, std::chars_format::fixed);
  for (const TimeUnit& unit : kTimeUnits) {
    if (error != std::errc() || std::string_view(rest, static_cast<size_t>(end - rest)) != unit.name) continue;
    if (!std::isfinite(number) || std::signbit(number) || number * unit.ns > 1e9) break;
    device->latency = std::chrono::nanoseconds(std::llround(number * unit.ns));
    return {};
  }
  return part.need("a time with a unit, at most 1s, such as 10us");
}

Status read_threads(const Part& part, EmulatedDevice* device) {
  const char* const end = part.value.data() + part.value.size();
  const auto [rest, error] = std::from_chars(part.value.data(), end, device->threads);
  const bool is_number = error == std::errc() && rest == end && device->threads >= 1 && device->threads <= kMostThreads;
  return is_number ? Status() : part.need("1 to 256");
}

Status read_taken(const Part& part, EmulatedDevice* device) {
  const Result<ByteSize> size = parse_size(part.value);
  const bool has_unit = part.value.find_first_not_of("0123456789.") != std::string_view::npos;
  if (!size.is_ok() || !has_unit || size.value().share > 0) return part.need("a size with a unit, such as 8MiB");
  device->taken_bytes = size.value().bytes;
  return {};
}

struct Key {
  std::string_view name;
  Status (*read)(const Part& part, EmulatedDevice* device);
  bool is_needed;
};
constexpr Key kKeys[] = {{"memory", read_memory, true},
                         {"link", read_link, true},
                         {"latency", read_latency, false},
                         {"threads", read_threads, false},
                         {"taken", read_taken, false}};

Status wrong_name(std::string_view device, std::string_view what) {
  return Status(
      StatusCode::kInvalidArgument,
      formatted("device: got \"{}\", {}; need emulated:memory=SIZE,link=RATE[,latency=TIME][,threads=N][,taken=SIZE]", device, what));
}

}  // namespace

Result<EmulatedDevice> parse_emulated_device(std::string_view device) {
  if (!device.starts_with(kPrefix)) return wrong_name(device, "which names no memory");
  EmulatedDevice result;
  bool is_given[std::size(kKeys)] = {};
  for (std::string_view left = device.substr(kPrefix.size());;) {
    const std::string_view text = left.substr(0, left.find(','));
    const size_t equals = std::min(text.find('='), text.size());
    const Part part{text.substr(0, equals), text.substr(std::min(text.size(), equals + 1))};
    size_t k = 0;
    while (k < std::size(kKeys) && kKeys[k].name != part.key) ++k;
    if (k == std::size(kKeys)) return wrong_name(device, formatted("with the unknown part \"{}\"", text));
    if (std::exchange(is_given[k], true)) return wrong_name(device, formatted("with {} twice", part.key));
    OTR_TRY(kKeys[k].read(part, &result));
    if (text.size() == left.size()) break;
    left.remove_prefix(text.size() + 1);
  }
  for (size_t k = 0; k < std::size(kKeys); ++k) {
    if (kKeys[k].is_needed && !is_given[k]) return wrong_name(device, formatted("without {}", kKeys[k].name));
  }
  if (result.taken_bytes > result.memory_bytes - kPageBytes) return wrong_name(device, "which takes all of its memory");
  return result;
}

std::string emulated_device_name(const EmulatedDevice& device) {
  const std::string taken = device.taken_bytes > 0 ? formatted(",taken={}B", device.taken_bytes) : "";
  return formatted("{}memory={}B,link={}B/s,latency={}ns,threads={}{}", kPrefix, device.memory_bytes,
                   static_cast<uint64_t>(device.link_bytes_per_s), device.latency.count(), device.threads, taken);
}

}  // namespace outrigger
