// checksum64: four lanes of words, then what is left, one step for each. A step can be undone, so it forgets nothing.
#include "src/base/checksum.h"

#include <algorithm>
#include <cstring>

namespace outrigger {
namespace {

constexpr size_t kLanes = 4, kWord = sizeof(uint64_t);
constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;  // 2^64 over the golden ratio

// The shift: what a product does to a word's highest bits would else be undone by the next word's.
uint64_t mixed(uint64_t sum, uint64_t word) {
  const uint64_t product = (sum ^ word) * kOdd;
  return product ^ product >> 32;
}

}  // namespace

uint64_t checksum64(std::span<const std::byte> bytes, uint64_t seed) {
  uint64_t lanes[kLanes] = {1, 2, 3, 4};
  uint64_t sum = mixed(mixed(0, seed), bytes.size());
  for (; bytes.size() >= kLanes * kWord; bytes = bytes.subspan(kLanes * kWord)) {
    uint64_t words[kLanes];
    std::memcpy(words, bytes.data(), sizeof words);
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] = mixed(lanes[lane], words[lane]);
  }
  for (const uint64_t lane : lanes) sum = mixed(sum, lane);
  for (; !bytes.empty(); bytes = bytes.subspan(std::min(bytes.size(), kWord))) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data(), std::min(bytes.size(), kWord));
    sum = mixed(sum, word);
  }
  return mixed(sum, 0);
}

}  // namespace outrigger
