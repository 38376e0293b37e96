#include "src/device/cpu_backend.h"
