#include "src/plan/a.h"
  #  include "src/tensor/a.h"
