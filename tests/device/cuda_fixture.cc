// In place of liboutrigger_cuda.so: answers with what it was asked. Built without the function, and with an older version's, too.
#include <string>

#include "src/device/cuda_interface.h"

namespace outrigger {

#if !defined(OTR_FIXTURE_WITHOUT)
extern "C" __attribute__((visibility("default"))) const char* outrigger_cuda_open(const char*, int device,
                                                                                  Result<std::unique_ptr<Backend>>* result) {
#if defined(OTR_FIXTURE_OLD)
  (void)device, (void)result;
  return "0.0.1 interface 1";
#else
  *result = Status(StatusCode::kUnavailable, "the fixture was asked for " + std::to_string(device));
  return kCudaInterface;
#endif
}
#endif

}  // namespace outrigger
