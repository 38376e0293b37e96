#include <stdint.h>
#include <outrigger/b.h>
#include <vector>
