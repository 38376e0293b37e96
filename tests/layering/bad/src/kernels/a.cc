#include <tbb/parallel_for.h>
#include <cuda_runtime.h>
