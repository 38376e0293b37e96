// Loading: packed bytes against pack_rows of the file, with any number of threads; cancelled, refused and cut short.
#include <outrigger/cancel.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "src/base/bytes.h"
#include "src/memory/residency.h"
#include "tests/memory/scenario.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

std::unique_ptr<ThreadTeam> make_team(size_t threads) {
  auto team = ThreadTeam::create(threads);
  REQUIRE(team.is_ok());
  return std::move(team).value();
}

std::unique_ptr<TensorResidency> make_residency(const Scenario& scenario, FakeBackend& backend, std::shared_ptr<const ByteSource> source,
                                                const Plan& plan) {
  auto residency = TensorResidency::create(backend, std::move(source), scenario.shape, scenario.weights, plan);
  REQUIRE(residency.is_ok());
  return std::move(residency).value();
}

void require_loaded(const Scenario& scenario, const TensorResidency& residency) {
  for (uint32_t m = 0; m < scenario.weights.size(); ++m) {
    CAPTURE(m);
    if (!residency.is_resident(m)) continue;
    const std::vector<std::byte> packed = scenario.packed(m);
    REQUIRE(std::memcmp(residency.operand({m, 0, 1}), packed.data(), packed.size()) == 0);
  }
}

/// Enough for several chunks a thread: 2 MiB are read at once.
Scenario large_model() {
  Scenario scenario;
  scenario.add(DType::kF32, 1003, 1500);  // 6 MB
  scenario.add(DType::kQ8_0, 999, 3200);  // 3.4 MB
  scenario.add(DType::kQ4_1, 5, 64);
  scenario.add(DType::kBF16, 2000, 1001);  // 4 MB
  return scenario;
}

TEST_CASE("TensorResidency::load: every type and odd size is packed as pack_rows does it, with 1, 2 and 3 threads, within the plan") {
  for (unsigned round = 0; round < 60; ++round) {
    CAPTURE(round);
    Scenario scenario;
    scenario.random.seed(round);
    scenario.add_random_model(8);
    const Plan plan = scenario.plan(round % 3 == 0 ? scenario.all(false) : scenario.some());
    FakeBackend backend;
    auto source = scenario.source();
    source->reads_in_place = round % 4 == 0;
    const auto residency = make_residency(scenario, backend, source, plan);
    const uint64_t before = residency->report().current_bytes;
    REQUIRE(residency->load(*make_team(1 + round % 3), {}, {}).is_ok());
    require_loaded(scenario, *residency);
    REQUIRE(residency->report().current_bytes == before);
    REQUIRE(residency->report().peak_bytes <= plan.host.planned_bytes);
    REQUIRE(backend.peak_bytes <= plan.host.planned_bytes);
    REQUIRE(residency->streamed_bytes() == 0);
  }
}

TEST_CASE("TensorResidency::load: matrices of several chunks, with little and with much memory for buffers") {
  Scenario scenario = large_model();
  for (const uint64_t activation_bytes : {300'000u, 40'000'000u}) {
    for (const size_t threads : {1, 2, 3}) {
      CAPTURE(activation_bytes, threads);
      Plan plan = scenario.plan(scenario.all(false));
      scenario.shape.activations.back().bytes = activation_bytes;
      plan.host.breakdown.activations = Scenario::pages(activation_bytes + 2 * 5000 + 2 * 4000);
      plan.host.planned_bytes = plan.host.budget_bytes = plan.host.breakdown.total();
      FakeBackend backend;
      const auto residency = make_residency(scenario, backend, scenario.source(), plan);
      double last = 0;
      int calls = 0;
      bool ascends = true;
      REQUIRE(residency
                  ->load(*make_team(threads),
                         [&](double share) {
                           ascends = ascends && share > last && share <= 1;
                           last = share;
                           ++calls;
                           return true;
                         },
                         {})
                  .is_ok());
      require_loaded(scenario, *residency);
      REQUIRE(ascends);
      REQUIRE(last == 1);
      REQUIRE(calls >= 1);
      REQUIRE(residency->report().peak_bytes <= plan.host.planned_bytes);
      // With room for it, each thread reads 2 MiB at once: less would be slow on a disk.
      if (activation_bytes > 10'000'000) REQUIRE(backend.peak_bytes >= residency->report().current_bytes + threads * 2_MiB);
    }
  }
}

TEST_CASE("TensorResidency::load: what the page cache holds is not read from the disk, and what it lacks is") {
  Scenario scenario = large_model();
  const Plan plan = scenario.plan(scenario.all(false));
  for (const uint64_t cached_percent : {0, 40, 100}) {
    CAPTURE(cached_percent);
    FakeBackend backend;
    const auto source = scenario.source();
    source->cached_bytes = source->size_bytes() * cached_percent / 100;
    const auto residency = make_residency(scenario, backend, source, plan);
    source->reads = 0;
    REQUIRE(residency->load(*make_team(1), {}, {}).is_ok());
    require_loaded(scenario, *residency);
    CHECK((source->cache_hits > 0) == (cached_percent > 0));
    CHECK((source->reads > 0) == (cached_percent < 100));
  }
}

TEST_CASE("TensorResidency::load: where the plan leaves no room for a single row block, the budget decides") {
  Scenario scenario;
  scenario.add(DType::kF32, 20, 20'000);  // a row block of 1.3 MB
  scenario.shape.kv_bytes_per_token = 0;
  scenario.shape.activations = {{16, 0}};
  scenario.shape.activation_bytes_per_thread = scenario.shape.logits_row_bytes = 0;
  Plan plan = scenario.plan({false});
  plan.host.breakdown.kv_cache = plan.host.breakdown.activations = 0;
  plan.host.planned_bytes = plan.host.breakdown.total();
  FakeBackend backend;
  const auto team = make_team(2);

  plan.host.budget_bytes = plan.host.planned_bytes;
  const Status refused = make_residency(scenario, backend, scenario.source(), plan)->load(*team, {}, {});
  REQUIRE(refused.code() == StatusCode::kBudget);

  plan.host.budget_bytes = refused.needed_bytes();
  const auto residency = make_residency(scenario, backend, scenario.source(), plan);
  REQUIRE(residency->load(*team, {}, {}).is_ok());
  require_loaded(scenario, *residency);
}

TEST_CASE("TensorResidency::load: is cancelled in the middle by a token, by the progress callback, and by one that throws") {
  const Scenario scenario = large_model();
  const auto team = make_team(2);
  const Plan plan = scenario.plan(scenario.all(false));
  FakeBackend backend;
  {
    const CancelToken cancel;
    auto source = scenario.source();
    source->on_read = [&] {
      if (source->reads == 3) cancel.cancel();
    };
    const auto residency = make_residency(scenario, backend, source, plan);
    REQUIRE(residency->load(*team, {}, cancel).code() == StatusCode::kCancelled);
    REQUIRE(residency->report().current_bytes == plan.host.breakdown.weights_resident);
  }
  {
    const auto residency = make_residency(scenario, backend, scenario.source(), plan);
    REQUIRE(residency->load(*team, [](double) { return false; }, {}).code() == StatusCode::kCancelled);
  }
  {
    const auto residency = make_residency(scenario, backend, scenario.source(), plan);
    const Status status = residency->load(*team, [](double) -> bool { throw std::runtime_error("no"); }, {});
    REQUIRE(status.code() == StatusCode::kInternal);
  }
  REQUIRE(backend.current_bytes == 0);
}

TEST_CASE("TensorResidency::load: whichever read fails, whenever the file has changed, the result is an I/O error") {
  const Scenario scenario = large_model();
  const auto team = make_team(3);
  const Plan plan = scenario.plan(scenario.all(false));
  FakeBackend backend;
  for (uint64_t nth = 1;; nth += 3) {
    auto source = scenario.source();
    source->failing_read = nth;
    const Status status = make_residency(scenario, backend, source, plan)->load(*team, {}, {});
    if (source->reads < nth) {
      REQUIRE(status.is_ok());
      REQUIRE(nth > 6);
      break;
    }
    REQUIRE(status.code() == StatusCode::kIo);
  }
  for (const uint64_t at_read : {0, 4}) {
    auto source = scenario.source();
    source->has_changed = at_read == 0;
    source->on_read = [&] {
      if (source->reads == at_read) source->has_changed = true;
    };
    REQUIRE(make_residency(scenario, backend, source, plan)->load(*team, {}, {}).code() == StatusCode::kIo);
  }
  REQUIRE(backend.current_bytes == 0);
}

TEST_CASE("TensorResidency::load: a real file is loaded, and one that was cut or touched since it was opened gives an I/O error") {
  const Scenario scenario = large_model();
  const auto team = make_team(2);
  const std::string path = std::filesystem::temp_directory_path() / ("outrigger_load_test_" + std::to_string(std::random_device()()));
  const auto write = [&] {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(scenario.file.data()), static_cast<std::streamsize>(scenario.file.size()));
  };
  FakeBackend backend;
  const Plan plan = scenario.plan(scenario.all(false));
  for (const bool is_cut : {false, true}) {
    CAPTURE(is_cut);
    write();
    auto source = open_file(path);
    REQUIRE(source.is_ok());
    const auto residency = make_residency(scenario, backend, source.value(), plan);
    if (is_cut) std::filesystem::resize_file(path, scenario.file.size() / 2);
    const Status status = residency->load(*team, {}, {});
    REQUIRE(status.code() == (is_cut ? StatusCode::kIo : StatusCode::kOk));
    if (!is_cut) require_loaded(scenario, *residency);
  }
  {
    // Cut while it is being read: the check before has passed.
    write();
    auto source = open_file(path);
    REQUIRE(source.is_ok());
    const auto residency = make_residency(scenario, backend, source.value(), plan);
    const Status status = residency->load(*make_team(1),
                                          [&](double) {
                                            std::filesystem::resize_file(path, 8192);
                                            return true;
                                          },
                                          {});
    REQUIRE(status.code() == StatusCode::kIo);
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace outrigger
