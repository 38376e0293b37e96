#include "src/base/a.h"
#include <tbb/info.h>
#include <outrigger/a.h>
#include <fmt/format.h>
