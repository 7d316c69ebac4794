#define HEADWAY_ISA avx512
#include "sampling.inc"
