// A GPU's free memory, by the driver's management library (NVML).
#include "cuda/device/free_memory.h"

#include <dlfcn.h>

namespace outrigger::cuda {
namespace {

// NVML's own, by its documented interface: 0 is success, and sizes are in bytes.
using Device = void*;
struct Memory {
  unsigned long long total, free, used;
};

class ManagementLibrary {
 public:
  ManagementLibrary() : library_(::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {}
  ~ManagementLibrary() {
    if (library_ != nullptr) (void)::dlclose(library_);
  }
  ManagementLibrary(const ManagementLibrary&) = delete;
  ManagementLibrary& operator=(const ManagementLibrary&) = delete;

  template <typename Function>
  Function* find(const char* name) const {
    return library_ == nullptr ? nullptr : reinterpret_cast<Function*>(::dlsym(library_, name));
  }

 private:
  void* library_;
};

}  // namespace

bool free_memory_of(const char* bus_id, uint64_t* free_bytes) {
  const ManagementLibrary library;
  const auto init = library.find<int()>("nvmlInit_v2"), shutdown = library.find<int()>("nvmlShutdown");
  const auto by_bus_id = library.find<int(const char*, Device*)>("nvmlDeviceGetHandleByPciBusId_v2");
  const auto memory_info = library.find<int(Device, Memory*)>("nvmlDeviceGetMemoryInfo");
  if (init == nullptr || shutdown == nullptr || by_bus_id == nullptr || memory_info == nullptr || init() != 0) return false;
  Device device = nullptr;
  Memory memory{};
  const bool is_known = by_bus_id(bus_id, &device) == 0 && memory_info(device, &memory) == 0;
  (void)shutdown();
  if (is_known) *free_bytes = memory.free;
  return is_known;
}

}  // namespace outrigger::cuda
