#define HEADWAY_ISA portable
#include "attention.inc"
