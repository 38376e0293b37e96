#include "src/model/model.h"
#include "capi/handles.h"
