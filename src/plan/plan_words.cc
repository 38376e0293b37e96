// Words and figures that the plan's text, picture and page share.
#include "src/plan/plan_words.h"

#include <algorithm>
#include <map>

#include "src/base/bytes.h"
#include "src/base/formatted.h"

namespace outrigger {
namespace {

// "blk.12.ffn_up.weight" -> "blk.*.ffn_up.weight"
std::string group_name(const std::string& name) {
  std::string group;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool is_number = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    if (begin > 0) group += '.';
    group += is_number ? "*" : part;
    begin = end + 1;
  }
  return group;
}

}  // namespace

std::string time_text(double ms) {
  if (ms < 10) return formatted("{:.2f} ms", ms);
  if (ms < 1000) return formatted("{:.1f} ms", ms);
  return formatted("{:.2f} s", ms / 1e3);
}

std::string rate_text(double tokens_per_s) { return formatted("{:.{}f} tokens/s", tokens_per_s, tokens_per_s < 10 ? 2 : 1); }

std::string bytes_or_none(uint64_t bytes) { return bytes == 0 ? "-" : format_bytes(bytes); }

std::string tokens_text(uint32_t tokens) { return formatted("{} {}", tokens, tokens == 1 ? "token" : "tokens"); }

std::string headline(const Plan& plan) {
  return formatted("Decode at {}, bound by the {}; the prompt in {}.", rate_text(plan.predicted_decode_tokens_per_s),
                   lane_words(plan.binding_lane), time_text(plan.predicted_prefill_ms));
}

const char* lane_words(const std::string& lane) {
  return lane == "h2d" ? "link" : lane == "disk" ? "disk" : lane == "device" ? "device" : "host";
}

bool uses_device(const Plan& plan) { return plan.device.own_bytes() > 0; }

TensorGroup::Place TensorGroup::place_of(const TensorPlacement& tensor) {
  const bool resident = tensor.mode == Residence::kResident;
  if (tensor.tier == Tier::kDevice) return resident ? kDevice : kLink;
  return resident ? kHost : kDisk;
}

void TensorGroup::add(const TensorGroup& other) {
  for (size_t place = 0; place < kPlaces; ++place) {
    tensors_at[place] += other.tensors_at[place];
    bytes_at[place] += other.bytes_at[place];
  }
}

std::string workload_text(const Plan& plan) {
  return formatted("{} of {} tokens, {}", plan.batch == 1 ? "1 session" : formatted("{} sessions", plan.batch), plan.context_tokens,
                   plan.threads == 1 ? "1 thread" : formatted("{} threads", plan.threads));
}

std::vector<TensorGroup> group_tensors(const Plan& plan) {
  std::vector<TensorGroup> groups;
  std::map<std::string, size_t> index;
  for (uint32_t i = 0; i < plan.tensors.size(); ++i) {
    const TensorPlacement& tensor = plan.tensors[i];
    const auto [at, is_new] = index.try_emplace(group_name(tensor.name), groups.size());
    if (is_new) groups.push_back({at->first});
    TensorGroup& group = groups[at->second];
    const TensorGroup::Place place = TensorGroup::place_of(tensor);
    ++group.tensors_at[place];
    group.bytes_at[place] += tensor.bytes;
    group.tensors.push_back(i);
  }
  return groups;
}

}  // namespace outrigger
