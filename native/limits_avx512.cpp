#include <immintrin.h>

#include "limits.h"

namespace headway::avx512 {

double dot_all(Format format, long rounds, float* out) {
  // Enough to hide the latency of one. All loops over them are unrolled, or they would lie in memory; and they begin
  // differently, or they would be one.
  constexpr int SUMS = 24;
  constexpr int LANES = 16;
  if (format == Format::BF16) {
    __m512 sums[SUMS];
#pragma GCC unroll 24
    for (int index = 0; index < SUMS; ++index) sums[index] = _mm512_set1_ps(float(index));
    __m512bh values = (__m512bh)_mm512_set1_epi16(0x3c00);
    for (long round = 0; round < rounds; ++round) {
      asm volatile("" : "+v"(values));  // so that nothing is moved out of the loop
#pragma GCC unroll 24
      for (auto& sum : sums) sum = _mm512_dpbf16_ps(sum, values, values);
    }
    __m512 total = _mm512_setzero_ps();
#pragma GCC unroll 24
    for (const auto& sum : sums) total = _mm512_add_ps(total, sum);
    *out = _mm512_reduce_add_ps(total);
    return double(rounds) * SUMS * LANES * 2 * 2;
  }
  __m512i sums[SUMS];
#pragma GCC unroll 24
  for (int index = 0; index < SUMS; ++index) sums[index] = _mm512_set1_epi32(index);
  __m512i values = _mm512_set1_epi8(1);
  for (long round = 0; round < rounds; ++round) {
    asm volatile("" : "+v"(values));
#pragma GCC unroll 24
    for (auto& sum : sums) sum = _mm512_dpbusd_epi32(sum, values, values);
  }
  __m512i total = _mm512_setzero_si512();
#pragma GCC unroll 24
  for (const auto& sum : sums) total = _mm512_add_epi32(total, sum);
  *out = float(_mm512_reduce_add_epi32(total));
  return double(rounds) * SUMS * LANES * 4 * 2;
}

}  // namespace headway::avx512
