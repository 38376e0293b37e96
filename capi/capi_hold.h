// A session belongs to one call at a time.
#ifndef OUTRIGGER_CAPI_HOLD_H_
#define OUTRIGGER_CAPI_HOLD_H_

#include <utility>

#include "capi/capi_common.h"

namespace outrigger::capi {

/// Holds a session for one call. Session itself refuses a second thread where it computes; this one covers what is kept beside it, and a
/// callback that calls the session it came from.
class Hold {
 public:
  explicit Hold(const otr_session* session) : session_(session) {}
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  ~Hold() {
    if (held_) session_->busy.store(false, std::memory_order_release);
  }

  Status take() {
    OTR_CAPI_TRY(require(session_, "session"));
    held_ = !session_->busy.exchange(true, std::memory_order_acquire);
    return held_ ? Status() : invalid("the session is busy: another call on it has not returned");
  }

 private:
  const otr_session* session_;
  bool held_ = false;
};

/// Every call on a session: guarded, and alone.
template <typename Body>
otr_status with_session(const otr_session* session, otr_error* error, Body&& body) noexcept {
  return guard(error, [&]() -> Status {
    Hold hold(session);
    OTR_CAPI_TRY(hold.take());
    return body();
  });
}

}  // namespace outrigger::capi

#endif  // OUTRIGGER_CAPI_HOLD_H_
