#include "limits.h"

#include <immintrin.h>

#include <utility>

namespace headway::avx512 {
namespace {

constexpr int SUMS = 16;  // enough to hide the latency of one
constexpr int LANES = 16;
using Each = std::make_integer_sequence<int, SUMS>;  // a loop over an array would leave the sums in memory

// The sums begin differently, or they would be one to the compiler.
template <int... index>
float dot_bf16(long rounds, std::integer_sequence<int, index...>) {
  __m512 sums[] = {_mm512_set1_ps(float(index))...};
  __m512bh values = (__m512bh)_mm512_set1_epi16(0x3c00);
  for (long round = 0; round < rounds; ++round) {
    asm volatile("" : "+v"(values));  // so that nothing is moved out of the loop
    ((sums[index] = _mm512_dpbf16_ps(sums[index], values, values)), ...);
  }
  __m512 total = _mm512_setzero_ps();
  ((total = _mm512_add_ps(total, sums[index])), ...);
  return _mm512_reduce_add_ps(total);
}

template <int... index>
float dot_int8(long rounds, std::integer_sequence<int, index...>) {
  __m512i sums[] = {_mm512_set1_epi32(index)...};
  __m512i values = _mm512_set1_epi8(1);
  for (long round = 0; round < rounds; ++round) {
    asm volatile("" : "+v"(values));
    ((sums[index] = _mm512_dpbusd_epi32(sums[index], values, values)), ...);
  }
  __m512i total = _mm512_setzero_si512();
  ((total = _mm512_add_epi32(total, sums[index])), ...);
  return float(_mm512_reduce_add_epi32(total));
}

}  // namespace

double dot_all(Format format, long rounds, float* out) {
  const bool int8 = format == Format::INT8;
  *out = int8 ? dot_int8(rounds, Each{}) : dot_bf16(rounds, Each{});
  return double(rounds) * SUMS * LANES * (int8 ? 4 : 2) * 2;
}

}  // namespace headway::avx512
