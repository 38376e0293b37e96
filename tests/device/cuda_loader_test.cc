// What is said where no GPU can be had, with shared objects of the test in place of the real one.
#include "src/device/cuda_loader.h"

#include <cstdlib>
#include <fstream>
#include <string>

#include "tests/support/catch.h"
#include "tests/support/scratch_folder.h"

namespace outrigger {
namespace {

Status refusal(const std::string& device, const std::string& library) {
  REQUIRE(::setenv("OUTRIGGER_CUDA_LIBRARY", library.c_str(), 1) == 0);
  return open_cuda_backend(device).status();
}

bool says(const Status& status, const std::string& what) {
  UNSCOPED_INFO(status.to_string());
  return status.message().find(what) != std::string::npos;
}

TEST_CASE("cuda loader: a GPU's number is a number") {
  for (const char* device : {"cuda:", "cuda:x", "cuda:-1", "cuda:+1", "cuda:1x", "cuda: 1", "cuda:99999999999", "cud", "cuda1"}) {
    CAPTURE(device);
    const Status status = refusal(device, OTR_CUDA_FIXTURE);
    REQUIRE(status.code() == StatusCode::kInvalidArgument);
    REQUIRE(says(status, "need \"cuda\" or \"cuda:N\""));
  }
}

TEST_CASE("cuda loader: what the shared object says of the GPU is the answer") {
  REQUIRE(says(refusal("cuda", OTR_CUDA_FIXTURE), "the fixture was asked for 0"));
  REQUIRE(says(refusal("cuda:7", OTR_CUDA_FIXTURE), "the fixture was asked for 7"));
}

TEST_CASE("cuda loader: without the shared object it says where it looked and what to do") {
  const Status missing = refusal("cuda:1", "/nonexistent/liboutrigger_cuda.so");
  REQUIRE(missing.code() == StatusCode::kUnavailable);
  REQUIRE(says(missing, "device \"cuda:1\": there is no liboutrigger_cuda.so: looked for /nonexistent/liboutrigger_cuda.so;"));
  REQUIRE(says(missing, "OUTRIGGER_CUDA_LIBRARY"));
  const Status unnamed = refusal("cuda:9999", "");  // where it usually is: beside this program, or not at all
  REQUIRE(unnamed.code() == StatusCode::kUnavailable);
  if (says(unnamed, "there is no")) REQUIRE(says(unnamed, OTR_TEST_FOLDER "/liboutrigger_cuda.so, "));
}

TEST_CASE("cuda loader: a file that is no such library, and one of another version, are told from a missing one") {
  const ScratchFolder scratch;
  std::ofstream(scratch / "text.so") << "no library";
  const Status text = refusal("cuda", scratch / "text.so");
  REQUIRE(text.code() == StatusCode::kUnavailable);
  REQUIRE(says(text, "text.so cannot be loaded ("));
  const Status other = refusal("cuda", OTR_CUDA_FIXTURE_WITHOUT);
  REQUIRE(other.code() == StatusCode::kUnavailable);
  REQUIRE(says(other, "it is not Outrigger's"));
  const Status old = refusal("cuda", OTR_CUDA_FIXTURE_OLD);
  REQUIRE(old.code() == StatusCode::kUnavailable);
  REQUIRE(says(old, "is of another version (it has 0.0.1 interface 1, this library "));
}

}  // namespace
}  // namespace outrigger
