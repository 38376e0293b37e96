// The disk's rate, as a reader of streamed weights sees it.
#ifndef OUTRIGGER_SRC_DEVICE_MEASURE_DISK_H_
#define OUTRIGGER_SRC_DEVICE_MEASURE_DISK_H_

#include <outrigger/machine_profile.h>
#include <outrigger/status.h>

#include <string>

#include "src/device/backend.h"

namespace outrigger {

/// Reads the file, or the largest .safetensors file of a directory, in order, with several requests in flight as streaming has them, past
/// the page cache where the file system allows it, for `seconds`, from the start again at its end. Errors: kNotFound, kIo (no regular file,
/// no permission, an empty file), kOutOfMemory.
Result<Rate> measure_disk(Backend& backend, const std::string& path, double seconds);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_MEASURE_DISK_H_
