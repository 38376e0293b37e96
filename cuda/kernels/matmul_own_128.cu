// Products of our own formats' weights in blocks of 128.
#include "cuda/kernels/matmul_of_kind.h"

namespace outrigger::cuda {

OTR_PRODUCTS_OF(kO2_128);
OTR_PRODUCTS_OF(kO3_128);
OTR_PRODUCTS_OF(kO4_128);
OTR_PRODUCTS_OF(kN2_128);
OTR_PRODUCTS_OF(kN3_128);
OTR_PRODUCTS_OF(kN4_128);

}  // namespace outrigger::cuda
