// Products of the codebook formats' weights.
#include "cuda/kernels/matmul_of_kind.h"

namespace outrigger::cuda {

OTR_PRODUCTS_OF(kIQ4_NL);
OTR_PRODUCTS_OF(kIQ4_XS);
OTR_PRODUCTS_OF(kMXFP4);

}  // namespace outrigger::cuda
