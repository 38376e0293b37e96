#include "outrigger/a.h"
