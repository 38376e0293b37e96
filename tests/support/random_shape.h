// Shapes, machines and workloads for the planner's tests: random ones by seed, and one that looks like a small model.
#ifndef OUTRIGGER_TESTS_SUPPORT_RANDOM_SHAPE_H_
#define OUTRIGGER_TESTS_SUPPORT_RANDOM_SHAPE_H_

#include <outrigger/plan.h>

#include <cstdint>
#include <random>

#include "tests/support/few_cases.h"

namespace outrigger {

using Random = std::mt19937_64;

/// Uniform in [low, high].
uint64_t pick(Random& random, uint64_t low, uint64_t high);

/// A matrix of `rows` x `columns` at 5 bits a weight, as Q4_1 is packed: file and memory bytes are equal but for padding rows.
MatrixShape matrix_of(std::string name, uint64_t rows, uint64_t columns, MatrixUse use = MatrixUse::kEveryToken);

/// Up to 8 layers of up to 8 matrices of all sizes from one row block to 2 MiB, with or without head and embedding.
StepShape random_shape(Random& random);
/// Rates over some orders of magnitude; the disk is sometimes unknown.
MachineProfile random_machine(Random& random);
/// A device of 256 KiB to 64 MiB, as a rule faster than the host.
void add_random_device(Random& random, MachineProfile* machine);
Workload random_workload(Random& random);
Workload workload_of(uint32_t prompt_tokens, uint32_t new_tokens, uint32_t batch = 1, uint32_t context_tokens = 0, uint32_t logit_rows = 1);

/// 30 layers and the sizes of a 135M-parameter model: 94 MiB, the tied head among them.
StepShape small_model();
/// Two cores and a solid-state disk.
MachineProfile two_cores();

/// The same machine and a device ten times as fast, at the end of a link of 12 GB/s.
MachineProfile with_device(MachineProfile machine, uint64_t memory_bytes);

/// The planner's objective: the time of one session of the workload.
double predicted_ms(const Plan& plan, const Workload& workload);

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_SUPPORT_RANDOM_SHAPE_H_
