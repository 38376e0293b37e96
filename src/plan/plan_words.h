// Words and figures that the plan's text, picture and page share.
#ifndef OUTRIGGER_SRC_PLAN_PLAN_WORDS_H_
#define OUTRIGGER_SRC_PLAN_PLAN_WORDS_H_

#include <outrigger/plan.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace outrigger {

std::string time_text(double ms);               ///< "2.14 ms", "56.8 ms", "1.26 s"
std::string rate_text(double tokens_per_s);     ///< "8.25 tokens/s", "46.5 tokens/s"
std::string bytes_or_none(uint64_t bytes);      ///< "-" for none
std::string tokens_text(uint32_t tokens);       ///< "1 token", "64 tokens"

/// What a person wants to know first: rate, what binds, the prompt's time.
std::string headline(const Plan& plan);
/// As a person calls a lane: "disk", "link", "host", "device".
const char* lane_words(const std::string& lane);
/// Whether anything is computed on a device.
bool uses_device(const Plan& plan);
/// "1 session of 640 tokens, 2 threads"
std::string workload_text(const Plan& plan);

/// Tensors of the same name in different layers, or of different experts.
struct TensorGroup {
  std::string name;                ///< "blk.*.ffn_up.weight"
  /// In host memory, from disk, in the device's memory, from host memory to the device.
  enum Place { kHost, kDisk, kDevice, kLink };
  static constexpr size_t kPlaces = 4;
  std::array<uint32_t, kPlaces> tensors_at{};
  std::array<uint64_t, kPlaces> bytes_at{};

  static Place place_of(const TensorPlacement& tensor);
  void add(const TensorGroup& other);
  std::vector<uint32_t> tensors;   ///< indices in Plan::tensors
};
/// In the order of their first tensors.
std::vector<TensorGroup> group_tensors(const Plan& plan);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_PLAN_WORDS_H_
