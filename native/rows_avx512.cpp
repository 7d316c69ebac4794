#define HEADWAY_ISA avx512
#include "rows.inc"
