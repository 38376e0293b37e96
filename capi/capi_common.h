// What the C API's files share: the handles, the guard around every call, and the copying of structs and buffers across the boundary.
#ifndef OUTRIGGER_CAPI_COMMON_H_
#define OUTRIGGER_CAPI_COMMON_H_

#include <outrigger/cancel.h>
#include <outrigger/compress.h>
#include <outrigger/engine.h>
#include <outrigger/export_model.h>
#include <outrigger/model.h>
#include <outrigger/outrigger.h>
#include <outrigger/pack.h>
#include <outrigger/plan.h>
#include <outrigger/sampling.h>
#include <outrigger/session.h>
#include <outrigger/status.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "capi/capi_struct_sizes.h"

// The handles. `mutable` parts are guarded: a const handle may be used by several threads.
struct otr_cancel {
  outrigger::CancelToken token;
};

struct otr_model {
  otr_model(outrigger::Model opened, bool from_memory) : model(std::move(opened)), in_memory(from_memory), tensors(model.tensors()) {}

  const outrigger::Model model;
  const bool in_memory;                              ///< opened from a buffer: there is no disk to measure
  const std::vector<outrigger::TensorInfo> tensors;  ///< what otr_tensor_info points into
  mutable std::mutex profiles_mutex;
  mutable std::map<uint32_t, outrigger::MachineProfile> profiles;  ///< measured for otr_plan_make, by the threads asked for
};

struct otr_text_stream {
  outrigger::TextStream stream;
  std::string text;  ///< what the last call returned
};

struct otr_profile {
  const outrigger::MachineProfile profile;
};

struct otr_plan {
  const outrigger::Plan plan;
};

struct otr_engine {
  const outrigger::Engine engine;
};

struct otr_sampler {
  outrigger::Sampler sampler;
};

struct otr_session {
  otr_session(outrigger::Session opened, outrigger::Engine under) : engine(std::move(under)), session(std::move(opened)) {}

  const outrigger::Engine engine;
  outrigger::Session session;
  uint64_t prompt_tokens = 0;              ///< of the last generation
  outrigger::GenerateResult generated;     ///< of the last generation
  mutable std::atomic<bool> busy = false;  ///< a call on it has not returned
};

namespace outrigger::capi {

/// Returns from the enclosing function with the failure, if `expr` (a Status) is one.
#define OTR_CAPI_TRY(expr)                                                      \
  do {                                                                          \
    if (::outrigger::Status failure = (expr); !failure.is_ok()) return failure; \
  } while (false)

/// `OTR_CAPI_ASSIGN(name, f());` declares name as the value of a Result, or returns its failure from the enclosing function.
#define OTR_CAPI_ASSIGN(name, expr)                          \
  auto name##_result = (expr);                               \
  if (!name##_result.is_ok()) return name##_result.status(); \
  auto& name = name##_result.value()

/// A struct larger than this is taken for an uninitialised struct_size: reading it could leave the caller's memory.
inline constexpr uint32_t kLargestStructBytes = 4096;

/// Writes the outcome into the caller's error, if there is one.
otr_status report(const Status& status, otr_error* error) noexcept;
/// The same without a Status, for when there is no memory to make one.
otr_status report(otr_status code, const char* message, otr_error* error) noexcept;
/// False if there is an error struct that must not be written to.
bool is_usable(const otr_error* error) noexcept;
Status invalid(std::string message);
/// Fails, naming `what`, when the pointer is null.
Status require(const void* pointer, const char* what);
/// Fails when the caller has no memory for `count` things and yet says so.
Status require_array(const void* pointer, size_t count, const char* what);
Status check_struct_size(uint32_t given, uint32_t least, const char* what);
Status check_no_unknown_bytes(const void* given, uint32_t given_bytes, size_t known_bytes, const char* what);
Status check_reserved(uint32_t reserved, const char* what);
Status check_flags(uint32_t flags, uint32_t known, const char* what);
Status buffer_too_small(size_t capacity, size_t needed, const char* unit);
/// Text and its NUL into the caller's buffer: habit 4 of the header.
Status give_text(std::string_view text, char* buffer, size_t capacity, size_t* bytes);
CancelToken token_of(const otr_cancel* cancel);
/// The caller's machine with so many threads, 0 for its own; where it gives none, this one as it was measured for the model.
Result<MachineProfile> profile_for(const otr_model* model, const otr_profile* given, uint32_t threads);
Progress progress_of(otr_progress progress, void* user);

/// Runs the body of a call: nothing it does leaves as an exception, and its outcome is in the caller's error.
template <typename Body>
otr_status guard(otr_error* error, Body&& body) noexcept {
  if (!is_usable(error)) return OTR_INVALID_ARGUMENT;
  try {
    return report(body(), error);
  } catch (const std::bad_alloc&) {
    return report(OTR_OUT_OF_MEMORY, "the system refused memory; close something, or ask for less", error);
  } catch (const std::exception& exception) {
    return report(OTR_INTERNAL, exception.what(), error);
  } catch (...) {
    return report(OTR_INTERNAL, "an unknown exception; please report it", error);
  }
}

/// Makes a handle of a Result that has a value, and of what else its constructor takes.
template <typename Handle, typename T, typename... Rest>
Status give_handle(Result<T> made, Handle** handle, Rest... rest) {
  OTR_CAPI_TRY(made.status());
  *handle = new Handle{std::move(made).value(), rest...};
  return {};
}

template <typename Handle>
void close(Handle** handle) noexcept {
  if (handle == nullptr) return;
  delete *handle;
  *handle = nullptr;
}

/// Defaults for as many bytes as the caller has; whatever a later header adds after them starts as 0.
template <typename Options>
void init(Options* options, uint32_t struct_size, Options defaults) noexcept {
  if (options == nullptr || struct_size < sizeof defaults.struct_size || struct_size > kLargestStructBytes) return;
  std::memset(static_cast<void*>(options), 0, struct_size);
  defaults.struct_size = struct_size;
  std::memcpy(static_cast<void*>(options), &defaults, std::min<size_t>(struct_size, sizeof defaults));
}

/// Options of which 0 is the default of every field.
template <typename Options>
Options only_size() {
  Options options = {};
  options.struct_size = sizeof options;
  return options;
}

/// The caller's options, of this version or another one, over `defaults`; `given` may be null.
template <typename Options>
Status read_options(const Options* given, const char* what, Options* defaults) {
  static_assert(kFirstBytes<Options> >= sizeof(uint32_t) && kFirstBytes<Options> <= sizeof(Options));
  if (given == nullptr) return {};
  OTR_CAPI_TRY(check_struct_size(given->struct_size, kFirstBytes<Options>, what));
  OTR_CAPI_TRY(check_no_unknown_bytes(given, given->struct_size, sizeof(Options), what));
  std::memcpy(static_cast<void*>(defaults), given, std::min<size_t>(given->struct_size, sizeof(Options)));
  return {};
}

/// Whether a struct can be filled.
template <typename Info>
Status check_info(const Info* info, const char* what) {
  static_assert(kFirstBytes<Info> >= sizeof(uint32_t) && kFirstBytes<Info> <= sizeof(Info));
  OTR_CAPI_TRY(require(info, what));
  return check_struct_size(info->struct_size, kFirstBytes<Info>, what);
}

/// Fills a struct that check_info took, as far as the caller's version of it goes; what we do not know in it becomes 0.
template <typename Info>
void give_info(Info full, Info* info) noexcept {
  const uint32_t struct_size = info->struct_size;
  full.struct_size = struct_size;
  std::memset(static_cast<void*>(info), 0, struct_size);
  std::memcpy(static_cast<void*>(info), &full, std::min<size_t>(struct_size, sizeof full));
}

/// An array into the caller's buffer.
template <typename T>
Status give_array(std::span<const T> values, T* buffer, size_t capacity, size_t* count) {
  *count = values.size();
  if (buffer == nullptr) return {};
  if (capacity < values.size()) return buffer_too_small(capacity, values.size(), sizeof(T) == 1 ? "bytes" : "tokens");
  std::copy(values.begin(), values.end(), buffer);
  return {};
}

}  // namespace outrigger::capi

#endif  // OUTRIGGER_CAPI_COMMON_H_
