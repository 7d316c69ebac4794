#define HEADWAY_ISA portable
#include "sampling.inc"
