// A device's rates and its link's, as its user sees them: real copies and operations through the seam.
#ifndef OUTRIGGER_SRC_DEVICE_MEASURE_DEVICE_H_
#define OUTRIGGER_SRC_DEVICE_MEASURE_DEVICE_H_

#include <outrigger/machine_profile.h>
#include <outrigger/status.h>

#include "src/device/backend.h"

namespace outrigger {

/// Fills the profile's fields of a device, each in about `seconds`. Takes a quarter of the device's free memory and at most 128 MiB for as
/// long. Errors: kOutOfMemory for a device with less than 8 MiB free, kDevice.
Status measure_device(Backend& backend, double seconds, MachineProfile* profile);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_MEASURE_DEVICE_H_
