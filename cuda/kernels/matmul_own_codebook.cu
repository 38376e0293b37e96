// Products of our own formats' weights whose levels are a codebook's.
#include "cuda/kernels/matmul_of_kind.h"

namespace outrigger::cuda {

OTR_PRODUCTS_OF(kN2);
OTR_PRODUCTS_OF(kN3);
OTR_PRODUCTS_OF(kN4);

}  // namespace outrigger::cuda
