// Arithmetic on sizes that come from a file: every sum, product and rounding says whether it fitted.
#ifndef OUTRIGGER_SRC_BASE_CHECKED_H_
#define OUTRIGGER_SRC_BASE_CHECKED_H_

#include <cstdint>
#include <optional>

namespace outrigger {

/// An unsigned 64-bit size, or nothing once any step has overflowed. Overflow sticks, so a formula is checked once, at its end.
class CheckedSize {
 public:
  constexpr CheckedSize(uint64_t value) : value_(value) {}  // NOLINT: a plain size is a valid one

  constexpr CheckedSize operator+(CheckedSize other) const {
    return combine(other, [](uint64_t a, uint64_t b, uint64_t* r) { return __builtin_add_overflow(a, b, r); });
  }
  constexpr CheckedSize operator*(CheckedSize other) const {
    return combine(other, [](uint64_t a, uint64_t b, uint64_t* r) { return __builtin_mul_overflow(a, b, r); });
  }
  /// Up to the next multiple of `unit`, which must not be 0.
  constexpr CheckedSize round_up(uint64_t unit) const {
    if (overflowed_) return *this;
    const uint64_t rest = value_ % unit;
    return rest == 0 ? *this : *this + CheckedSize(unit - rest);
  }

  constexpr bool fits(uint64_t limit) const { return !overflowed_ && value_ <= limit; }
  constexpr std::optional<uint64_t> value() const { return overflowed_ ? std::nullopt : std::optional(value_); }

 private:
  template <typename Op>
  constexpr CheckedSize combine(CheckedSize other, Op op) const {
    CheckedSize result(0);
    result.overflowed_ = overflowed_ || other.overflowed_ || op(value_, other.value_, &result.value_);
    return result;
  }

  uint64_t value_;
  bool overflowed_ = false;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_BASE_CHECKED_H_
