// How large each struct of the header was when it was first delivered.
#ifndef OUTRIGGER_CAPI_STRUCT_SIZES_H_
#define OUTRIGGER_CAPI_STRUCT_SIZES_H_

#include <outrigger/outrigger.h>

#include <cstdint>

namespace outrigger::capi {

/// sizeof each struct in 0.1: the least a caller may have. Never changes when a struct grows; capi/abi.txt has the layouts.
template <typename T>
inline constexpr uint32_t kFirstBytes = 0;
template <>
inline constexpr uint32_t kFirstBytes<otr_error> = 1184;
template <>
inline constexpr uint32_t kFirstBytes<otr_build_info> = 48;
template <>
inline constexpr uint32_t kFirstBytes<otr_model_options> = 8;
template <>
inline constexpr uint32_t kFirstBytes<otr_model_info> = 152;
template <>
inline constexpr uint32_t kFirstBytes<otr_tensor_info> = 48;
template <>
inline constexpr uint32_t kFirstBytes<otr_pack_options> = 32;
template <>
inline constexpr uint32_t kFirstBytes<otr_compress_options> = 48;
template <>
inline constexpr uint32_t kFirstBytes<otr_compress_report> = 48;
template <>
inline constexpr uint32_t kFirstBytes<otr_export_options> = 40;
template <>
inline constexpr uint32_t kFirstBytes<otr_export_report> = 56;
template <>
inline constexpr uint32_t kFirstBytes<otr_profile_options> = 24;
template <>
inline constexpr uint32_t kFirstBytes<otr_plan_options> = 48;
template <>
inline constexpr uint32_t kFirstBytes<otr_plan_summary> = 128;
template <>
inline constexpr uint32_t kFirstBytes<otr_draft_forecast> = 48;
template <>
inline constexpr uint32_t kFirstBytes<otr_engine_options> = 40;
template <>
inline constexpr uint32_t kFirstBytes<otr_memory_report> = 96;
template <>
inline constexpr uint32_t kFirstBytes<otr_stream_report> = 32;
template <>
inline constexpr uint32_t kFirstBytes<otr_expert_report> = 48;
template <>
inline constexpr uint32_t kFirstBytes<otr_device_report> = 48;
template <>
inline constexpr uint32_t kFirstBytes<otr_lane_busy> = 64;
template <>
inline constexpr uint32_t kFirstBytes<otr_sampling_options> = 40;
template <>
inline constexpr uint32_t kFirstBytes<otr_session_options> = 8;
template <>
inline constexpr uint32_t kFirstBytes<otr_prefill_options> = 32;
template <>
inline constexpr uint32_t kFirstBytes<otr_evaluate_options> = 32;
template <>
inline constexpr uint32_t kFirstBytes<otr_generate_options> = 72;
template <>
inline constexpr uint32_t kFirstBytes<otr_generate_result> = 72;
template <>
inline constexpr uint32_t kFirstBytes<otr_follow_load_options> = 16;
template <>
inline constexpr uint32_t kFirstBytes<otr_branch_use> = 32;
template <>
inline constexpr uint32_t kFirstBytes<otr_batch_options> = 24;
template <>
inline constexpr uint32_t kFirstBytes<otr_batch_report> = 64;

}  // namespace outrigger::capi

#endif  // OUTRIGGER_CAPI_STRUCT_SIZES_H_
