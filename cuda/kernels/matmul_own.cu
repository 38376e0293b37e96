// Products of our own formats' weights.
#include "cuda/kernels/matmul_of_kind.h"

namespace outrigger::cuda {

OTR_PRODUCTS_OF(kO2);
OTR_PRODUCTS_OF(kO3);
OTR_PRODUCTS_OF(kO4);

}  // namespace outrigger::cuda
