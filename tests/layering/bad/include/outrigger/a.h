#include "outrigger/b.h"
#include <fmt/format.h>
#include <sys/types.h>
