#define HEADWAY_ISA portable
#include "rows.inc"
