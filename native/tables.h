// Each source file of kernels puts its own into the table of its processor.
//
// A table starts as the one before it (portable, then avx2, then avx512), so a file need only bring what it does better.
// Files named *_avx2.cpp and *_avx512.cpp are compiled for that processor: they must not call functions of the standard
// library that could be compiled into them, because the linker might give that copy to everyone.
#pragma once

#include "kernels.h"

namespace headway {

namespace portable {
void add_linear(Kernels& kernels);
void add_rows(Kernels& kernels);
void add_attention(Kernels& kernels);
void add_sampling(Kernels& kernels);
}  // namespace portable

namespace avx2 {
void add_linear(Kernels& kernels);
void add_rows(Kernels& kernels);
void add_attention(Kernels& kernels);
void add_sampling(Kernels& kernels);
}  // namespace avx2

namespace avx512 {
void add_linear(Kernels& kernels);
void add_rows(Kernels& kernels);
void add_attention(Kernels& kernels);
void add_sampling(Kernels& kernels);
}  // namespace avx512

}  // namespace headway
