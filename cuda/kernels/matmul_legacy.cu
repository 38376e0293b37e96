// Products of the older formats' weights.
#include "cuda/kernels/matmul_of_kind.h"

namespace outrigger::cuda {

OTR_PRODUCTS_OF(kQ8_0);
OTR_PRODUCTS_OF(kQ4_0);
OTR_PRODUCTS_OF(kQ4_1);
OTR_PRODUCTS_OF(kQ5_0);
OTR_PRODUCTS_OF(kQ5_1);

}  // namespace outrigger::cuda
