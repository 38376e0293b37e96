// C API: engines and what they report.
#include "capi/capi_common.h"

using outrigger::Engine;
using outrigger::Status;
using outrigger::TierUse;
using namespace outrigger::capi;  // NOLINT: this file is the C side of that namespace

namespace {

otr_engine_options engine_defaults() {
  otr_engine_options options = {};
  options.struct_size = sizeof options;
  options.numerics = OTR_NUMERICS_FAST;
  return options;
}

}  // namespace

void otr_engine_options_init(otr_engine_options* options, uint32_t struct_size) { init(options, struct_size, engine_defaults()); }

otr_status otr_engine_open(const otr_model* model, const otr_plan* plan, const otr_engine_options* options, otr_engine** engine,
                           otr_error* error) {
  if (engine != nullptr) *engine = nullptr;
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(model, "model"));
    OTR_CAPI_TRY(require(plan, "plan"));
    OTR_CAPI_TRY(require(engine, "engine"));
    otr_engine_options known = engine_defaults();
    OTR_CAPI_TRY(read_options(options, "options", &known));
    if (known.numerics != OTR_NUMERICS_FAST && known.numerics != OTR_NUMERICS_FLOAT32) {
      return invalid("options.numerics: got " + std::to_string(known.numerics) + ", need 0 (fast) or 1 (float32)");
    }
    outrigger::EngineOptions wanted;
    if (known.device != nullptr) wanted.device = known.device;
    wanted.numerics = static_cast<outrigger::Numerics>(known.numerics);
    wanted.progress = progress_of(known.progress, known.user);
    wanted.cancel = token_of(known.cancel);
    wanted.trace_events = known.trace_events;
    if (known.spill_directory != nullptr) wanted.spill_directory = known.spill_directory;
    return give_handle(Engine::open(model->model, plan->plan, wanted), engine);
  });
}

otr_status otr_engine_replan(otr_engine* engine, const otr_plan* plan, const otr_engine_options* options, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(engine, "engine"));
    OTR_CAPI_TRY(require(plan, "plan"));
    otr_engine_options known = engine_defaults();
    OTR_CAPI_TRY(read_options(options, "options", &known));
    outrigger::Engine shared = engine->engine;  // copies are one engine
    return shared.replan(plan->plan, progress_of(known.progress, known.user), token_of(known.cancel));
  });
}

void otr_engine_close(otr_engine** engine) { close(engine); }

otr_status otr_engine_get_memory(const otr_engine* engine, int32_t tier, otr_memory_report* report, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(engine, "engine"));
    OTR_CAPI_TRY(check_info(report, "report"));
    if (tier != OTR_TIER_HOST && tier != OTR_TIER_DEVICE) {
      return invalid("tier: got " + std::to_string(tier) + ", need 1 (host) or 2 (device)");
    }
    const outrigger::MemoryReport memory = engine->engine.memory();
    const TierUse& use = tier == OTR_TIER_HOST ? memory.host : memory.device;
    otr_memory_report full = {};
    full.tier = tier;
    full.budget_bytes = use.budget_bytes;
    full.planned_bytes = use.planned_bytes;
    full.current_bytes = use.current_bytes;
    full.peak_bytes = use.peak_bytes;
    full.weights_resident_bytes = use.current.weights_resident;
    full.stream_slots_bytes = use.current.stream_slots;
    full.kv_cache_bytes = use.current.kv_cache;
    full.activations_bytes = use.current.activations;
    full.draft_bytes = use.current.draft;
    full.branches_bytes = use.current.branches;
    full.other_bytes = use.current.other;
    full.experts_bytes = use.current.experts;
    give_info(full, report);
    return {};
  });
}

otr_status otr_engine_get_experts(const otr_engine* engine, otr_expert_report* report, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(engine, "engine"));
    OTR_CAPI_TRY(check_info(report, "report"));
    const outrigger::ExpertReport experts = engine->engine.experts();
    otr_expert_report full = {};
    full.uses = experts.uses;
    full.hits = experts.hits;
    full.reads = experts.reads;
    full.guesses = experts.guesses;
    full.right_guesses = experts.right_guesses;
    full.token_uses = experts.token_uses;
    full.token_hits = experts.token_hits;
    full.repetition = experts.repetition;
    give_info(full, report);
    return {};
  });
}

otr_status otr_engine_get_device(const otr_engine* engine, otr_device_report* report, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(engine, "engine"));
    OTR_CAPI_TRY(check_info(report, "report"));
    const outrigger::DeviceReport device = engine->engine.device();
    otr_device_report full = {};
    full.operations = device.operations;
    full.launches = device.launches;
    full.graphs = device.graphs;
    full.graph_operations = device.graph_operations;
    full.handoffs = device.handoffs;
    give_info(full, report);
    return {};
  });
}

otr_status otr_engine_get_streamed(const otr_engine* engine, otr_stream_report* report, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(engine, "engine"));
    OTR_CAPI_TRY(check_info(report, "report"));
    const outrigger::StreamReport streamed = engine->engine.streamed();
    otr_stream_report full = {};
    full.disk_bytes = streamed.disk_bytes;
    full.h2d_bytes = streamed.h2d_bytes;
    full.d2h_bytes = streamed.d2h_bytes;
    full.kv_read_bytes = streamed.kv_read_bytes;
    full.kv_written_bytes = streamed.kv_written_bytes;
    give_info(full, report);
    return {};
  });
}

otr_status otr_engine_lane_busy(const otr_engine* engine, uint64_t most_steps, otr_lane_busy* busy, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(engine, "engine"));
    OTR_CAPI_TRY(check_info(busy, "busy"));
    const outrigger::LaneBusy measured = engine->engine.lane_busy(most_steps);
    otr_lane_busy full = {};
    full.steps = measured.steps;
    full.wall_ms = measured.wall_ms;
    full.disk_ms = measured.disk_ms;
    full.h2d_ms = measured.h2d_ms;
    full.d2h_ms = measured.d2h_ms;
    full.host_ms = measured.host_ms;
    full.device_ms = measured.device_ms;
    give_info(full, busy);
    return {};
  });
}

otr_status otr_engine_write_trace(const otr_engine* engine, const char* path, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(engine, "engine"));
    OTR_CAPI_TRY(require(path, "path"));
    return engine->engine.write_trace(path);
  });
}
