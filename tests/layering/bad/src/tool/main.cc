#include <outrigger/a.h>
#include <src/base/a.h>
