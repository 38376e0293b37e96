#include <oneapi/tbb/flow_graph.h>
#include "src/device/backend.h"
#include "src/base/a.h"
