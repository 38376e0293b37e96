// The microbenchmarks: kernels as fractions of what this processor and this memory can do at most, measured in the same run.
#include <benchmark/benchmark.h>

#include "tests/bench/micro/bench_case.h"

int main(int argc, char** argv) {
  outrigger::bench::add_team_rows();
  outrigger::bench::add_matmul_rows();
  outrigger::bench::add_attention_rows();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
