// Products of K-quants' weights.
#include "cuda/kernels/matmul_of_kind.h"

namespace outrigger::cuda {

OTR_PRODUCTS_OF(kQ2_K);
OTR_PRODUCTS_OF(kQ3_K);
OTR_PRODUCTS_OF(kQ4_K);
OTR_PRODUCTS_OF(kQ5_K);
OTR_PRODUCTS_OF(kQ6_K);

}  // namespace outrigger::cuda
