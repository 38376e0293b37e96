#include "a.h"
#include "src/devices/a.h"
