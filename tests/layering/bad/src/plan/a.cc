# include "src/memory/a.h"
