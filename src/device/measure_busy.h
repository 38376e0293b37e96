// Lanes while others run: memory and processors are shared, and none keeps the rate it has alone.
#ifndef OUTRIGGER_SRC_DEVICE_MEASURE_BUSY_H_
#define OUTRIGGER_SRC_DEVICE_MEASURE_BUSY_H_

#include <outrigger/machine_profile.h>
#include <outrigger/status.h>

#include <string>

#include "src/device/backend.h"
#include "src/device/host_product.h"

namespace outrigger {

/// What runs beside the host's products; without either there is nothing to measure.
struct BusyLanes {
  std::string disk_path;      ///< empty: the disk rests
  Backend* device = nullptr;  ///< null: there is no link
};

/// Runs the product over and over on all threads while the disk is read and the link copies both ways, all for `seconds`, and fills
/// host_stream_bytes_busy and, with a disk, disk_bytes_busy. Errors: those of measure_disk; kDevice; kOutOfMemory.
Status measure_busy(Backend& host, ThreadTeam& team, const HostProduct& product, const BusyLanes& lanes, double seconds,
                    MachineProfile* profile);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_MEASURE_BUSY_H_
