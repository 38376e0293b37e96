// How each matrix of a layout is multiplied with, by what it and those beside it are stored as.
#ifndef OUTRIGGER_SRC_MODEL_PRODUCT_KINDS_H_
#define OUTRIGGER_SRC_MODEL_PRODUCT_KINDS_H_

#include "src/model/layout.h"

namespace outrigger {

/// Sets MatrixShape::product of all matrices.
void name_products(ModelLayout& layout);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_PRODUCT_KINDS_H_
