// The limits of the machine, measured: what kernels are held against.
#pragma once

#include <cstddef>

#include "kernels.h"

namespace headway {

// A sum over `bytes` of memory: nothing but reading.
unsigned long long read_all(const void* data, std::size_t bytes);

namespace avx512 {

// Does the products of vdpbf16ps or vpdpbusd, on registers alone, and returns how many multiplications and additions
// that were; never mind `out`.
double dot_all(Format format, long rounds, float* out);

}  // namespace avx512
}  // namespace headway
