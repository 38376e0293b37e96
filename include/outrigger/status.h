// The outcome of a call that can fail: Status, and Result<T> for one that also yields a value.
#ifndef OUTRIGGER_STATUS_H_
#define OUTRIGGER_STATUS_H_

#include <outrigger/export.h>

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace outrigger {

/// Why a call failed. The values are the C API's and the tool's exit codes: they never change, new ones are added at the end.
enum class StatusCode : int32_t {
  kOk = 0,
  kInvalidArgument = 10,  ///< the caller broke a documented precondition
  kNotFound = 11,         ///< no such file
  kCorruptFile = 12,      ///< the file contradicts itself or its format; Status::byte_offset() says where
  kUnsupported = 13,      ///< valid, but not something this version does; the message names it
  kUnavailable = 14,      ///< no such device, or a build without it
  kBudget = 15,           ///< does not fit the stated bytes; see Status::needed_bytes()
  kOutOfMemory = 16,      ///< the system refused memory
  kIo = 17,               ///< the system refused a read or a write, or the file changed under us
  kDevice = 18,           ///< an accelerator failed
  kCancelled = 19,        ///< the caller asked to stop
  kInternal = 20,         ///< our own mistake
};

/// The code's name as it appears in JSON and logs: "BUDGET", "CORRUPT_FILE", "OK". Never null; "UNKNOWN" for another value.
OTR_API const char* status_code_name(StatusCode code) noexcept;

/// Success, or a code with one line for a person: what happened, what was got, what is needed, what to do.
/// A Status is cheap to move and has no hidden state; ignoring one is a compiler warning.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool is_ok() const noexcept { return code_ == StatusCode::kOk; }
  StatusCode code() const noexcept { return code_; }
  const std::string& message() const noexcept { return message_; }

  /// For kBudget: the smallest budget, in bytes, with which the same call would succeed, and the budget it was given; 0 otherwise.
  uint64_t needed_bytes() const noexcept { return needed_bytes_; }
  uint64_t given_bytes() const noexcept { return given_bytes_; }
  /// For kCorruptFile and kIo: where in the file; 0 otherwise.
  uint64_t byte_offset() const noexcept { return byte_offset_; }
  /// For errors of one: the file, and the tensor or metadata key; empty otherwise.
  const std::string& file() const noexcept { return file_; }
  const std::string& subject() const noexcept { return subject_; }

  Status&& with_bytes(uint64_t needed, uint64_t given) && {
    needed_bytes_ = needed;
    given_bytes_ = given;
    return std::move(*this);
  }
  Status&& at_offset(uint64_t offset) && { return byte_offset_ = offset, std::move(*this); }
  Status&& in_file(std::string file) && { return file_ = std::move(file), std::move(*this); }
  Status&& about(std::string subject) && { return subject_ = std::move(subject), std::move(*this); }

  /// The message with where it happened: "<message> (<file>, <subject>, byte N)", leaving out what is not known.
  OTR_API std::string to_string() const;

 private:
  StatusCode code_ = StatusCode::kOk;
  uint64_t needed_bytes_ = 0;
  uint64_t given_bytes_ = 0;
  uint64_t byte_offset_ = 0;
  std::string message_;
  std::string file_;
  std::string subject_;
};

/// A T, or the Status that explains why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : outcome_(std::move(value)) {}             // NOLINT: a value is a result
  Result(Status status) : outcome_(std::move(status)) {}      // NOLINT: so is a failure; must not be an ok Status

  bool is_ok() const noexcept { return std::holds_alternative<T>(outcome_); }
  /// Precondition of the next four: is_ok().
  T& value() & { return std::get<T>(outcome_); }
  const T& value() const& { return std::get<T>(outcome_); }
  T&& value() && { return std::get<T>(std::move(outcome_)); }
  T* operator->() { return &std::get<T>(outcome_); }
  /// The failure, or an ok Status.
  Status status() const { return is_ok() ? Status() : std::get<Status>(outcome_); }

 private:
  std::variant<T, Status> outcome_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_STATUS_H_
