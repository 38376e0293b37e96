// A real GPU keeps the contract of all backends. Where there is none it fails: run_on_gpu.sh alone runs it.
#include "src/device/cuda_loader.h"
#include "tests/contract/backend_contract.h"
#include "tests/contract/backend_handoff_contract.h"
#include "tests/contract/backend_op_contract.h"
#include "tests/contract/backend_repeat_contract.h"
#include "tests/contract/backend_work_contract.h"

namespace outrigger {
namespace {

std::unique_ptr<Backend> open_gpu() { return contract::must(open_backend("cuda")); }

TEST_CASE("GPU: keeps the contract of memory") { contract::check_memory_contract(open_gpu); }
TEST_CASE("GPU: keeps the contract of copies") { contract::check_copy_contract(open_gpu); }
TEST_CASE("GPU: keeps the contract of streams") { contract::check_stream_contract(open_gpu); }
TEST_CASE("GPU: keeps the contract of failures") { contract::check_failure_contract(open_gpu); }
TEST_CASE("GPU: keeps the contract of operations") { contract::check_op_contract(open_gpu); }
TEST_CASE("GPU: keeps the contract of handoffs") { contract::check_handoff_contract(open_gpu); }
// Hidden, since it takes a minute: named by run_on_gpu.sh. The host is late now and then, by as much as a scheduler may make it.
TEST_CASE("GPU: a million handoffs are all right, however late the host is", "[.]") {
  const std::unique_ptr<Backend> backend = open_gpu();
  const contract::Turns turns(*backend, 1);
  constexpr uint32_t kTurns = 1'000'000, kBatch = 100;
  float expected = 1;
  for (uint32_t done = 0; done < kTurns; done += kBatch) {
    for (uint32_t number = done + 1; number <= done + kBatch; ++number) {
      contract::require_ok(backend->launch(Stream::kCompute, turns.send(number)));
      contract::require_ok(backend->launch(Stream::kCompute, turns.receive(number, false)));
    }
    const Event submitted = contract::must(backend->record(Stream::kCompute));
    for (uint32_t number = done + 1; number <= done + kBatch; ++number) {
      if (number % 997 == 0) std::this_thread::sleep_for(std::chrono::microseconds(number % 5000));
      turns.answer_with(number, [&](float value) {
        REQUIRE(value == expected);
        return expected = static_cast<float>(number % 1000);
      });
    }
    contract::require_ok(backend->synchronize(submitted, contract::kPatience));
  }
  REQUIRE(load_word(turns.closed()) == 0);
}
TEST_CASE("GPU: repeats steps with the bits of their operations") { contract::check_repeat_contract(open_gpu); }

}  // namespace
}  // namespace outrigger
