#define HEADWAY_ISA avx512
#include "attention.inc"
