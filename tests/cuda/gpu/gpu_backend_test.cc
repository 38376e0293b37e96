// A real GPU keeps the contract of all backends. Where there is none it fails: run_on_gpu.sh alone runs it.
#include "src/device/cuda_loader.h"
#include "tests/contract/backend_contract.h"
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
TEST_CASE("GPU: repeats steps with the bits of their operations") { contract::check_repeat_contract(open_gpu); }

}  // namespace
}  // namespace outrigger
