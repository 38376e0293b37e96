#include "src/tensor/a.h"
#include "src/base/a.h"
