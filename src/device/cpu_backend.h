// The CPU as a device: host memory in huge pages.
#ifndef OUTRIGGER_SRC_DEVICE_CPU_BACKEND_H_
#define OUTRIGGER_SRC_DEVICE_CPU_BACKEND_H_

#include "src/device/backend.h"

namespace outrigger {

std::unique_ptr<Backend> make_cpu_backend();

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_CPU_BACKEND_H_
