#define HEADWAY_ISA avx2
#include "attention.inc"
