// Plans that use a device, made by hand: which part goes where is the test's choice and not the planner's.
#ifndef OUTRIGGER_TESTS_SUPPORT_DEVICE_PLANS_H_
#define OUTRIGGER_TESTS_SUPPORT_DEVICE_PLANS_H_

#include <algorithm>
#include <cstdlib>
#include <functional>

#include "src/plan/handoff_size.h"
#include "src/plan/memory_model.h"
#include "tests/support/engines.h"

namespace outrigger::testing {

/// The emulated device, or another one that the environment names: a GPU, where there is one.
inline const char* test_device() {
  const char* const named = std::getenv("OUTRIGGER_TEST_DEVICE");
  return named != nullptr ? named : "emulated:memory=64MiB,link=20GB/s,latency=0us";
}
/// At least so many it is planned with: a GPU's attention takes as much scratch as some 100 threads' do.
inline uint32_t test_device_threads() { return std::getenv("OUTRIGGER_TEST_DEVICE") != nullptr ? 128 : 1; }

/// Where a part of a layer goes.
enum class Place { kHost, kDevice, kStreamed };
using PlaceOf = std::function<Place(const MatrixShape& matrix)>;

struct DeviceSetup {
  uint32_t from_tokens = 1;     ///< of steps that stream to the device
  uint32_t slots = 2;
  uint64_t slot_bytes = 0;      ///< 0: as small as it can be
  uint32_t threads = 1;         ///< of the device
  bool corrections_beside = false;
  bool by_words = false;        ///< host and device hand over by words, where steps are small enough
};

/// `plan` with the parts placed anew and every byte counted again. What it streams from disk stays so unless it is placed on the device.
inline Plan placed_on_device(Plan plan, const StepShape& shape, const PlaceOf& place_of, const DeviceSetup& setup = {}) {
  std::vector<bool> resident;
  uint64_t slot_bytes = 4096;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    TensorPlacement& tensor = plan.tensors[i];
    const bool stays = shape.matrices[i].part == MatrixPart::kHost || (setup.corrections_beside && shape.matrices[i].is_branch);
    const Place place = stays ? Place::kHost : place_of(shape.matrices[i]);
    if (place != Place::kHost) {
      tensor.tier = tensor.compute = Tier::kDevice;
      tensor.mode = place == Place::kDevice ? Residence::kResident : Residence::kStreamed;
    }
    if (place == Place::kStreamed)
      slot_bytes = std::max(slot_bytes, least_device_slot_bytes(shape.matrices[i])), plan.device_slots = setup.slots;
    resident.push_back(tensor.mode == Residence::kResident || tensor.tier == Tier::kDevice);
  }
  if (plan.device_slots > 0)
    plan.device_slot_bytes = std::max(slot_bytes, setup.slot_bytes),
    plan.device_from_tokens = std::min(setup.from_tokens, plan.step_tokens);
  plan.corrections_beside = setup.corrections_beside;
  DeviceUse device = device_use(plan);
  const uint64_t draft_there = plan.device.breakdown.draft;  // which stays
  plan.device_threads = device.threads = device.is_used() || draft_there > 0 ? setup.threads : 0;
  plan.transfer_bytes = device.transfer_bytes = transfer_bytes(shape, device);
  if (setup.by_words && device.is_used()) plan.handoff_bytes = device.handoff_bytes = handoff_bytes(handoff_size(shape));
  bool rings = false;
  for (size_t i = 0; i < resident.size(); ++i) rings |= !resident[i] && is_multiplied(shape.matrices[i]);
  if (!rings) plan.stream_slots = 0, plan.slot_bytes = 0;
  const Slots slots{plan.stream_slots, plan.slot_bytes, plan.expert_slots, plan.expert_slots > 0 ? expert_sizes(shape) : ExpertSizes()};
  plan.reads = reads_in_flight(largest_row_block(shape), slots);
  plan.staging_bytes = staging_bytes(largest_row_block(shape), plan.threads, slots);
  plan.row_buffer_bytes = row_buffer_bytes(shape, resident, device);
  Demand demand{plan.threads, plan.batch, plan.context_tokens, plan.logit_rows, plan.kv_type, 0, 0, plan.host.breakdown.draft};
  demand.draft_device_bytes = draft_there;
  demand.device_taken_bytes = plan.device.breakdown.other;
  const ActivationCost step = *std::find_if(shape.activations.begin(), shape.activations.end(),
                                            [&](const ActivationCost& cost) { return cost.tokens == plan.step_tokens; });
  plan.host.breakdown = host_breakdown(shape, demand, step, resident, slots, device);
  plan.device.breakdown = device_breakdown(shape, demand, step, device);
  plan.host.planned_bytes = plan.host.breakdown.total();
  plan.device.planned_bytes = plan.device.budget_bytes = plan.device.breakdown.total();
  plan.host.budget_bytes = plan.host.budget_bytes == 0 ? 0 : plan.host.planned_bytes;
  plan.minimum_host_bytes = std::min(plan.minimum_host_bytes, plan.host.planned_bytes);
  for (StepPrediction* predicted : {&plan.decode, &plan.prefill}) {
    uint64_t bytes = 0, rows = 0, moved = 0;
    for (size_t i = 0; i < resident.size(); ++i) {
      if (!resident[i] && is_multiplied(shape.matrices[i])) bytes += shape.matrices[i].file_bytes;
      if (reads_rows(shape, resident, device, i)) rows += shape.matrices[i].row_file_bytes;
      if (device.is_streamed(i)) moved += shape.matrices[i].packed_bytes;
    }
    predicted->streamed_bytes = bytes + predicted->tokens * rows;
    predicted->h2d_bytes = predicted->tokens >= plan.device_from_tokens ? moved : 0;
  }
  return plan;
}

inline Engine open_on_device(const Model& model, const Plan& plan, const std::string& device, const EngineSetup& setup = {}) {
  must(check_plan(plan, must(model.step_shape())));
  EngineOptions options;
  options.device = device;
  options.numerics = setup.numerics;
  return must(Engine::open(model, plan, options));
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_DEVICE_PLANS_H_
