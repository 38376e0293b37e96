// The disk's rate, as a reader of streamed weights sees it.
#ifndef OUTRIGGER_SRC_DEVICE_MEASURE_DISK_H_
#define OUTRIGGER_SRC_DEVICE_MEASURE_DISK_H_

#include <outrigger/machine_profile.h>
#include <outrigger/status.h>

#include <string>

#include "src/device/backend.h"

namespace outrigger {

/// Reads the file, or the largest .safetensors file of a directory, in order, request by request and past the page cache, for `seconds`,
/// from the start again at its end. Where the file system has no direct I/O, the file's pages are dropped from the cache first. Errors:
/// kNotFound, kIo (no regular file, no permission, an empty file), kOutOfMemory.
Result<Rate> measure_disk(Backend& backend, const std::string& path, double seconds);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_MEASURE_DISK_H_
