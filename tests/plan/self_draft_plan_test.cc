// Plans with low-bit copies of what streams: what they take, whether they pay, and what is said of those that do not.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "src/plan/memory_model.h"
#include "src/tensor/stream_layout.h"
#include "tests/support/random_shape.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

// Rows of whole blocks of 64, in float16 or as they are, at 5 bits.
StepShape whole_blocks(StepShape shape, bool is_f16) {
  for (MatrixShape& matrix : shape.matrices) {
    matrix.columns = (matrix.columns + 63) / 64 * 64;
    const uint64_t row_bytes = is_f16 ? 2 * matrix.columns : matrix.columns / 32 * 20, row_blocks = (matrix.rows + 15) / 16;
    matrix.row_file_bytes = row_bytes;
    matrix.row_block_bytes = matrix.row_block_file_bytes = 16 * row_bytes;
    matrix.packed_bytes = row_blocks * matrix.row_block_bytes * matrix.experts;
    matrix.file_bytes = matrix.rows * row_bytes * matrix.experts;
    if (is_f16) matrix.product = ProductKind::kFloat32;
  }
  shape.draft_step_bytes = 20000;
  return shape;
}

Workload drafting(StandIns stand_ins, uint32_t draft_tokens = 8) {
  Workload workload;
  workload.draft_tokens = draft_tokens;
  workload.stand_ins = stand_ins;
  return workload;
}

Result<Plan> plan_small(bool is_f16, uint64_t budget, StandIns stand_ins) {
  return PlacementPlanner::plan(whole_blocks(small_model(), is_f16), two_cores(), {budget, 0}, drafting(stand_ins));
}

constexpr uint64_t operator""_MiB(unsigned long long count) { return count << 20; }

TEST_CASE("Self-draft plans: every byte is counted, no budget is exceeded, and the least one that is named does") {
  uint64_t made = 0, refused = 0;
  for (uint64_t seed = 0; seed < seeds(600); ++seed) {
    Random random(seed);
    const StepShape shape = whole_blocks(random_shape(random), pick(random, 0, 1) == 0);
    const MachineProfile machine = random_machine(random);
    Workload workload = random_workload(random);
    workload.draft_tokens = static_cast<uint32_t>(pick(random, 1, kMostDraftTokens));
    workload.draft_bytes = 0;
    workload.stand_ins = static_cast<StandIns>(pick(random, 1, 5));
    uint64_t budget = pick(random, 1 << 20, 1 << 24);
    CAPTURE(seed, static_cast<int>(workload.stand_ins), budget);
    Result<Plan> plan = PlacementPlanner::plan(shape, machine, {budget, 0}, workload);
    if (plan.status().code() == StatusCode::kBudget) {
      ++refused;
      REQUIRE(plan.status().given_bytes() == budget);
      REQUIRE(plan.status().needed_bytes() > budget);
      budget = plan.status().needed_bytes();
      REQUIRE(PlacementPlanner::plan(shape, machine, {budget - 1, 0}, workload).status().needed_bytes() == budget);
      plan = PlacementPlanner::plan(shape, machine, {budget, 0}, workload);
      REQUIRE(plan.status().code() != StatusCode::kBudget);
    }
    if (!plan.is_ok()) continue;
    REQUIRE(check_plan(plan.value(), shape).to_string() == Status().to_string());
    REQUIRE(plan.value().host.planned_bytes <= budget);
    const std::string json = plan_to_json(plan.value());
    REQUIRE(plan_to_json(plan_from_json(json).value()) == json);
    REQUIRE((plan.value().self_draft_bits > 0) == (plan.value().host.breakdown.draft > 0));
    if (plan.value().self_draft_bits == 0) continue;
    ++made;
    uint64_t copies = 0;
    for (size_t i = 0; i < shape.matrices.size(); ++i) {
      const MatrixShape& matrix = shape.matrices[i];
      const bool streams = plan.value().tensors[i].mode == Residence::kStreamed;
      if (!streams || matrix.use == MatrixUse::kRowLookup) continue;
      // A float16 scale and minimum for each row's 64, and so many bits of each.
      copies += (matrix.rows + 15) / 16 * 16 * (matrix.columns / 64) * (4 + 8 * plan.value().self_draft_bits);
    }
    const uint64_t step = shape.draft_step_bytes + machine.threads * shape.activation_bytes_per_thread + 3 * shape.logits_row_bytes;
    REQUIRE(plan.value().host.breakdown.draft == (copies + 4095) / 4096 * 4096 + (step + 4095) / 4096 * 4096);
    REQUIRE(plan.value().draft_tokens >= 1);
    REQUIRE(plan.value().draft_tokens_per_pass > 1);
    REQUIRE(plan.value().draft_tokens_per_pass <= plan.value().draft_tokens + 1);
  }
  CHECK(made > seeds(100));
  CHECK(refused > seeds(20));
}

TEST_CASE("Self-draft plans: more memory goes to weights, until nothing streams and no copies are left") {
  const uint64_t least = plan_small(true, 1, StandIns::kFourBits).status().needed_bytes();
  uint64_t streamed = UINT64_MAX;
  double so_far = HUGE_VAL;
  for (uint64_t budget = least; budget < 320_MiB; budget += 8_MiB) {
    CAPTURE(budget);
    const Plan plan = plan_small(true, budget, StandIns::kFourBits).value();
    CHECK(predicted_ms(plan, drafting(StandIns::kFourBits)) <= so_far);
    so_far = predicted_ms(plan, drafting(StandIns::kFourBits));
    CHECK((plan.self_draft_bits == 4) == (plan.decode.streamed_bytes > 0));
    // All but some slots' and a matrix's worth is spent.
    if (plan.self_draft_bits == 4) CHECK(plan.host.planned_bytes + 4_MiB > budget);
    streamed = plan.decode.streamed_bytes;
  }
  CHECK(streamed == 0);
}

TEST_CASE("Self-draft plans: as many bits as fit, or those that were asked for") {
  uint64_t least[5] = {};
  for (const uint32_t bits : {2u, 3u, 4u}) {
    least[bits] = plan_small(true, 1, static_cast<StandIns>(bits)).status().needed_bytes();
    CHECK(plan_small(true, least[bits], StandIns::kAsFit).value().self_draft_bits == bits);
    CHECK(plan_small(true, least[bits] + 100_MiB, static_cast<StandIns>(bits)).value().self_draft_bits == bits);
    if (bits > 2) CHECK(plan_small(true, least[bits] - 1, StandIns::kAsFit).value().self_draft_bits == bits - 1);
  }
  CHECK(plan_small(true, 1, StandIns::kAsFit).status().needed_bytes() == least[2]);
  CHECK(plan_small(true, least[4] + 50_MiB, StandIns::kAsFit).value().minimum_host_bytes == least[2]);
}

TEST_CASE("Self-draft plans: an expectation is the best of the chains' lengths, by the plan's own steps") {
  const StepShape shape = whole_blocks(small_model(), true);
  const Plan plan = plan_small(true, 160_MiB, StandIns::kAsFit).value();
  REQUIRE(plan.self_draft_bits == 4);
  // Which acceptance and length give so many tokens a pass.
  double accepted = 0, tokens = 0;
  uint32_t drafted = 0;
  for (const double chance : {0.2, 0.5, 0.8}) {
    double sum = 1, power = 1;
    for (uint32_t n = 1; n <= plan.draft_tokens; ++n) {
      sum += power *= chance;
      if (sum == Approx(plan.draft_tokens_per_pass).epsilon(1e-9)) accepted = chance, drafted = n, tokens = sum;
    }
  }
  REQUIRE(drafted > 0);
  CAPTURE(accepted, drafted, tokens);
  const double pass_s = predict_step(plan, shape, two_cores(), drafted + 1, 576, drafted + 1).value().predicted_ms / 1e3;
  CHECK(plan.predicted_draft_tokens_per_s < tokens / pass_s);
  const double draft_s = (tokens / plan.predicted_draft_tokens_per_s - pass_s) / drafted;
  // The copies and the resident weights, and nothing from disk.
  const double bytes = static_cast<double>(plan.host.breakdown.draft + plan.host.breakdown.weights_resident);
  CHECK(draft_s > bytes / two_cores().host_stream_bytes.per_s / 1.05);
  CHECK(draft_s < 3 * bytes / two_cores().host_stream_bytes.per_s);
}

TEST_CASE("Self-draft plans: where it pays a float16 model takes copies, a 5-bit one on a small budget declines them and says why") {
  const Plan taken = plan_small(true, 200_MiB, StandIns::kAsItPays).value(), plain = plan_small(true, 200_MiB, StandIns::kNone).value();
  CHECK(taken.self_draft_bits == 4);
  CHECK(taken.draft_tokens == kMostDraftTokens);
  CHECK(taken.predicted_draft_tokens_per_s > 1.1 * plain.predicted_decode_tokens_per_s);
  CHECK(taken.minimum_host_bytes == plain.minimum_host_bytes);
  REQUIRE(!taken.alternatives.empty());
  CHECK(taken.alternatives[0].what.find("nothing to draft with: ") == 0);
  CHECK(taken.alternatives[0].predicted_decode_tokens_per_s == plain.predicted_decode_tokens_per_s);
  CHECK(taken.alternatives.back().what == "everything resident");
  CHECK(plan_to_text(taken).find("4-bit copies of what streams, for the model to draft with: ") != std::string::npos);
  const nlohmann::json json = nlohmann::json::parse(plan_to_json(taken));
  CHECK(json["draft"]["kind"] == "self");
  CHECK(json["draft"]["bits"] == 4);
  CHECK(json["draft"]["expected_tokens_per_pass"] == taken.draft_tokens_per_pass);

  const Plan without = plan_small(false, 60_MiB, StandIns::kNone).value();
  Plan declined = plan_small(false, 60_MiB, StandIns::kAsItPays).value();
  REQUIRE(declined.alternatives.size() == without.alternatives.size() + 1);
  const PlanAlternative told = declined.alternatives.back();
  CHECK(declined.draft_tokens == 8);
  const Workload as_long = drafting(StandIns::kAsFit, kMostDraftTokens);
  const Plan asked = PlacementPlanner::plan(whole_blocks(small_model(), false), two_cores(), {told.host_bytes, 0}, as_long).value();
  CHECK(told.what.find("-bit copies of ") != std::string::npos);
  CHECK(told.what.find(" to draft with: ") != std::string::npos);
  CHECK(told.predicted_decode_tokens_per_s == asked.predicted_draft_tokens_per_s);
  CHECK(asked.predicted_draft_tokens_per_s < 1.1 * without.predicted_decode_tokens_per_s);
  declined.alternatives.pop_back();
  CHECK(plan_to_json(declined) == plan_to_json(without));
}

TEST_CASE("Self-draft plans: what can have no copies is refused by name, and left as it is where they were not asked for") {
  const auto status_of = [](const StepShape& shape, StandIns stand_ins, const MachineProfile& machine = two_cores()) {
    return PlacementPlanner::plan(shape, machine, {60_MiB, 0}, drafting(stand_ins)).status();
  };
  StepShape narrow = whole_blocks(small_model(), true), branched = narrow;
  narrow.matrices[3].columns -= 32;
  branched.correction_row_bytes = 64;
  CHECK(status_of(narrow, StandIns::kAsFit).code() == StatusCode::kUnsupported);
  CHECK(status_of(narrow, StandIns::kAsFit).subject() == narrow.matrices[3].name);
  CHECK(status_of(narrow, StandIns::kAsItPays).is_ok());
  CHECK(status_of(branched, StandIns::kTwoBits).code() == StatusCode::kUnsupported);
  CHECK(status_of(branched, StandIns::kAsFit).is_ok());  // it drafts without its branches
  const MachineProfile device = with_device(two_cores(), 20_MiB);
  const StepShape shape = whole_blocks(small_model(), true);
  CHECK(PlacementPlanner::plan(shape, device, {60_MiB, 0}, drafting(StandIns::kAsItPays)).value().device.planned_bytes > 0);
  CHECK(status_of(shape, StandIns::kTwoBits, device).code() == StatusCode::kUnsupported);
  CHECK(status_of(shape, StandIns::kTwoBits, device).message().find("device") != std::string::npos);
}

TEST_CASE("Self-draft plans: workloads that ask for copies and nothing to draft, or a draft model too, are refused") {
  const auto code_of = [](const Workload& workload) {
    return PlacementPlanner::plan(small_model(), two_cores(), {60_MiB, 0}, workload).status().code();
  };
  Workload workload = drafting(StandIns::kAsFit, 0);
  CHECK(code_of(workload) == StatusCode::kInvalidArgument);
  workload = drafting(StandIns::kAsFit);
  workload.draft_bytes = 1;
  CHECK(code_of(workload) == StatusCode::kInvalidArgument);
  CHECK(code_of(drafting(static_cast<StandIns>(6))) == StatusCode::kInvalidArgument);
}

TEST_CASE("Self-draft plans: check_plan refuses one that was changed, and says where") {
  const StepShape shape = whole_blocks(small_model(), true);
  const Plan good = plan_small(true, 160_MiB, StandIns::kAsFit).value();
  REQUIRE(check_plan(good, shape).is_ok());
  const auto message_of = [&](auto change) {
    Plan plan = good;
    change(plan);
    return check_plan(plan, shape).message();
  };
  CHECK(message_of([](Plan& plan) { plan.self_draft_bits = 5; }).find("draft.bits is 5") != std::string::npos);
  CHECK(message_of([](Plan& plan) { plan.self_draft_bits = 3; }).find("tiers.host.draft") != std::string::npos);
  CHECK(message_of([](Plan& plan) { plan.draft_tokens = 0; }).find("draft.tokens") != std::string::npos);
  CHECK(message_of([](Plan& plan) { plan.host.breakdown.draft += 4096; }).find("tiers.host.draft") != std::string::npos);
  Plan resident = plan_small(true, 0, StandIns::kNone).value();
  resident.self_draft_bits = 4;
  CHECK(check_plan(resident, shape).message().find("nothing streams") != std::string::npos);
}

}  // namespace
}  // namespace outrigger
