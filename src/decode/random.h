// Random: the numbers that draws are made by.
#ifndef OUTRIGGER_SRC_DECODE_RANDOM_H_
#define OUTRIGGER_SRC_DECODE_RANDOM_H_

#include <cstdint>

namespace outrigger {

/// Splitmix64: one addition and a mix a draw, the same on every machine. @source Steele, Lea and Flood 2014, fig. 17
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  /// Uniform in [0, 1), 53 bits.
  double uniform() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return static_cast<double>((z ^ z >> 31) >> 11) * 0x1p-53;
  }

 private:
  uint64_t state_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_RANDOM_H_
