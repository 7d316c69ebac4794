#define HEADWAY_ISA avx512

#include <immintrin.h>

#include "ahead.h"
#include "tables.h"
#include "vector.h"

namespace headway::avx512 {
namespace {

constexpr int TILE = 12;  // 24 sums, two weights and an activation in 32 registers

struct Brain {
  static constexpr int GROUP = 2;
  using Sum = float;
  using Vector = __m512;
  static Vector zero() { return _mm512_setzero_ps(); }
  static Vector add(Vector sum, __m512i rows, __m512i weights) {
    return _mm512_dpbf16_ps(sum, (__m512bh)rows, (__m512bh)weights);
  }
  static void store(float* to, Vector sum) { _mm512_store_ps(to, sum); }
};

struct Byte {
  static constexpr int GROUP = 4;
  using Sum = std::int32_t;
  using Vector = __m512i;
  static Vector zero() { return _mm512_setzero_si512(); }
  static Vector add(Vector sum, __m512i rows, __m512i weights) { return _mm512_dpbusd_epi32(sum, rows, weights); }
  static void store(std::int32_t* to, Vector sum) { _mm512_store_si512(to, sum); }
};

// One group of inputs. Rows are addressed from every third one, which x86 can do without a register for each.
template <class Type, int R>
[[gnu::always_inline]] inline void step(const char* panel, const char* const* rows, std::ptrdiff_t stride, int group,
                                        typename Type::Vector (&sums)[R][2]) {
  const __m512i low = _mm512_load_si512(panel), high = _mm512_load_si512(panel + 64);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    std::int32_t inputs;
    __builtin_memcpy(&inputs, rows[r / 3] + r % 3 * stride + group * 4, sizeof inputs);
    const __m512i row = _mm512_set1_epi32(inputs);
    sums[r][0] = Type::add(sums[r][0], row, low);
    sums[r][1] = Type::add(sums[r][1], row, high);
  }
}

template <class Type, int R>
void product(const char* panel, int groups, const char* rows, std::ptrdiff_t stride, Ahead ahead,
             typename Type::Sum (*out)[PANEL]) {
  constexpr int UNROLL = 4;
  constexpr int BASES = (R + 2) / 3;
  static_assert(UNROLL * PANEL * 4 == FETCH_STRETCH);
  const char* bases[BASES];
  for (int base = 0; base < BASES; ++base) bases[base] = rows + 3 * base * stride;
  typename Type::Vector sums[R][2];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) sums[r][0] = sums[r][1] = Type::zero();
  int left = groups;
  for (; left >= UNROLL; left -= UNROLL) {
    if (ahead.near)
      for (int line = 0; line < ahead.lines; ++line) _mm_prefetch(ahead.from + line * FETCH_BYTES, _MM_HINT_T0);
    else
      for (int line = 0; line < ahead.lines; ++line) _mm_prefetch(ahead.from + line * FETCH_BYTES, _MM_HINT_T1);
    ahead.from += ahead.lines * FETCH_BYTES;
#pragma GCC unroll 4
    for (int group = 0; group < UNROLL; ++group)
      step<Type, R>(panel + group * PANEL * 4, bases, stride, group, sums);
    panel += UNROLL * PANEL * 4;
#pragma GCC unroll 8
    for (int base = 0; base < BASES; ++base) bases[base] += UNROLL * 4;
  }
  for (int group = 0; group < left; ++group) step<Type, R>(panel + group * PANEL * 4, bases, stride, group, sums);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    Type::store(out[r], sums[r][0]);
    Type::store(out[r] + HALF_PANEL, sums[r][1]);
  }
}

}  // namespace

#include "linear.inc"

}  // namespace headway::avx512
