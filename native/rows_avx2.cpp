#define HEADWAY_ISA avx2
#include "rows.inc"
