// C API: how much of the corrections a session computes.
#include "capi/capi_generation.h"
#include "capi/capi_hold.h"

using outrigger::Status;
using namespace outrigger::capi;  // NOLINT: this file is the C side of that namespace

namespace {

otr_follow_load_options follow_load_defaults() {
  auto options = only_size<otr_follow_load_options>();
  options.max_slowdown = outrigger::FollowLoad().max_slowdown;
  return options;
}

}  // namespace

namespace outrigger::capi {

Status read_follow_load(const otr_follow_load_options* given, const char* what, FollowLoad* wanted) {
  otr_follow_load_options known = follow_load_defaults();
  OTR_CAPI_TRY(read_options(given, what, &known));
  OTR_CAPI_TRY(check_reserved(known.reserved, what));
  wanted->max_slowdown = known.max_slowdown;
  return {};
}

}  // namespace outrigger::capi

otr_status otr_session_set_branch_share(otr_session* session, float share, otr_error* error) {
  return with_session(session, error, [&]() -> Status { return session->session.set_branch_share(share); });
}

void otr_follow_load_options_init(otr_follow_load_options* options, uint32_t struct_size) {
  init(options, struct_size, follow_load_defaults());
}

otr_status otr_session_follow_load(otr_session* session, const otr_follow_load_options* options, otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    outrigger::FollowLoad wanted;
    OTR_CAPI_TRY(read_follow_load(options, "options", &wanted));
    return session->session.follow_load(wanted);
  });
}

otr_status otr_session_get_branch_use(const otr_session* session, otr_branch_use* use, otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    OTR_CAPI_TRY(check_info(use, "use"));
    const outrigger::BranchUse made = session->session.branch_use();
    otr_branch_use full = {};
    full.follows_load = made.follows_load ? 1 : 0;
    full.steps = made.steps;
    full.mean_share = made.mean_share;
    full.slowdown = made.slowdown;
    give_info(full, use);
    return {};
  });
}
