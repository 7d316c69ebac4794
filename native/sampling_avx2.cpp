#define HEADWAY_ISA avx2
#include "sampling.inc"
