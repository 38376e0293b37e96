// MachineProfile: the rates of a machine's lanes, measured or given, for the planner.
#ifndef OUTRIGGER_MACHINE_PROFILE_H_
#define OUTRIGGER_MACHINE_PROFILE_H_

#include <outrigger/export.h>
#include <outrigger/status.h>

#include <cstdint>
#include <string>

namespace outrigger {

/// One measured figure.
struct Rate {
  double per_s = 0;         ///< bytes or operations a second; 0: this machine has no such lane
  double spread = 0;        ///< (slowest - fastest) / median of the samples; 0 when given by hand
  std::string how;          ///< one line: what was measured and how
};

/// Rates with `threads` compute threads. Plain data: may be written by hand for a machine one does not have.
struct MachineProfile {
  std::string machine;              ///< processor, cores, instruction level, memory: the fingerprint a stored profile is valid for
  uint32_t threads = 0;
  Rate host_stream_bytes;           ///< weights read from host memory by one token's product, all threads: packed bytes
  Rate host_int8_ops;               ///< low-bit matrix product over many tokens, all threads; 2 operations a multiply-add
  Rate host_small_batch_ops;        ///< the same for steps of 1 to 8 tokens
  Rate host_attention_flops;
  /// Turning file bytes that were just read into packed ones, a thread while all of them do: packed bytes
  Rate host_repack_bytes;

  // The same for float weights. 0: not known, and taken to be a quarter of host_int8_ops, half of it for bf16, and host_repack_bytes, as
  // vector instructions have them.
  Rate host_float_ops;              ///< matrix product of float weights with float32 activations over many tokens, all threads
  Rate host_float_small_batch_ops;  ///< the same for steps of 1 to 8 tokens
  Rate host_bf16_ops;               ///< of BF16 weights with bf16 activations
  Rate host_bf16_small_batch_ops;
  Rate host_float_repack_bytes;     ///< host_repack_bytes of F16 rows
  Rate disk_bytes;                  ///< reading the model's file past the page cache, one reader
  double host_step_overhead_us = 0; ///< of one step, whatever its size: starting a region, and 200 barriers

  // Lanes while others run, since they share memory and processors; 0: not measured.
  Rate disk_bytes_busy;             ///< disk_bytes while the host computes on all its threads
  Rate host_stream_bytes_busy;      ///< host_stream_bytes while the disk reads and, with a device, the link copies in both directions

  // A device with memory of its own; without one all are empty and 0.
  std::string device;               ///< its name
  uint64_t device_memory_bytes = 0;
  Rate h2d_bytes;                   ///< from pinned host memory to the device
  Rate d2h_bytes;                   ///< and back
  Rate device_stream_bytes;         ///< weights read from the device's memory by one token's product: packed bytes
  Rate device_int8_ops;             ///< low-bit matrix product over many tokens
  Rate device_small_batch_ops;      ///< the same for steps of 1 to 8 tokens
  Rate device_attention_flops;
  double link_latency_us = 0;       ///< from the request for a copy of few bytes to its end, seen from the host
  /// A few numbers from the device to the host and others back, in the middle of a step, through memory that both look at. 0: they cannot,
  /// and it takes copies
  double handoff_us = 0;
  uint32_t device_threads = 0;      ///< how many scratch buffers of a host thread's size its attention needs
  uint64_t device_taken_bytes = 0;  ///< of its memory, by using it at all: a context and kernels. It counts in budgets
  double device_step_overhead_us = 0; ///< of one step, whatever its size: submitting 200 operations and waiting for the last
};

struct ProfileOptions {
  uint32_t threads = 0;             ///< 0: the physical cores this process may use
  /// A file of some MiB on the disk to measure, usually the model, also a directory; empty: disk_bytes stays 0
  std::string disk_path;
  double seconds_per_lane = 0.1;    ///< time to spend on each figure
  std::string device = "cpu";       ///< as in EngineOptions; what has memory of its own is measured too
};

/// Measures this machine. Cost: about ten times seconds_per_lane, and 64 MiB of memory for as long; with a device about seventeen times,
/// and up to 128 MiB of the device's. The file is only read.
/// Errors: kNotFound, kIo for disk_path; kOutOfMemory; for the device kInvalidArgument, kUnavailable, kDevice.
OTR_API Result<MachineProfile> measure_machine(const ProfileOptions& options);

/// The fingerprint of this machine: a profile with another one is not its own.
OTR_API std::string machine_fingerprint();

/// JSON with one object per rate; reads back what it wrote. Unknown fields are ignored, missing rates are an error naming them. What is not
/// known of float weights, of busy lanes and of a device is left out, and may be missing.
OTR_API std::string profile_to_json(const MachineProfile& profile);
OTR_API Result<MachineProfile> profile_from_json(const std::string& json);

}  // namespace outrigger

#endif  // OUTRIGGER_MACHINE_PROFILE_H_
