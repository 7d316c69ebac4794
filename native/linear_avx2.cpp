#define HEADWAY_ISA avx2

#include <immintrin.h>

#include "ahead.h"
#include "tables.h"
#include "vector.h"

namespace headway::avx2 {
namespace {

constexpr int TILE = 6;  // 12 sums, two weights and an activation in 16 registers

// bf16, as two products in fp32.
struct Brain {
  static constexpr int GROUP = 2;
  using Sum = float;
  using Vector = __m256;
  struct Pair {
    __m256 first, second;
  };
  static Vector zero() { return _mm256_setzero_ps(); }
  static Pair expand(__m256i two) {
    const __m256i upper = _mm256_set1_epi32(int(0xffff0000));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(two, 16)), _mm256_castsi256_ps(_mm256_and_si256(two, upper))};
  }
  static Pair weights(__m256i two) { return expand(two); }
  static Pair rows(__m256i two) { return expand(two); }
  static Vector add(Vector sum, const Pair& row, const Pair& weight) {
    return _mm256_fmadd_ps(row.second, weight.second, _mm256_fmadd_ps(row.first, weight.first, sum));
  }
  static void store(float* to, Vector sum) { _mm256_store_ps(to, sum); }
};

// int8, as sums of 16-bit products: those of 8 bits (vpmaddubsw) would saturate.
struct Byte {
  static constexpr int GROUP = 4;
  using Sum = std::int32_t;
  using Vector = __m256i;
  struct Pair {
    __m256i even, odd;
  };
  static Vector zero() { return _mm256_setzero_si256(); }
  static Pair weights(__m256i four) {
    return {_mm256_srai_epi16(_mm256_slli_epi16(four, 8), 8), _mm256_srai_epi16(four, 8)};
  }
  static Pair rows(__m256i four) {
    return {_mm256_and_si256(four, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(four, 8)};
  }
  static Vector add(Vector sum, const Pair& row, const Pair& weight) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(row.even, weight.even));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(row.odd, weight.odd));
  }
  static void store(std::int32_t* to, Vector sum) { _mm256_store_si256(reinterpret_cast<__m256i*>(to), sum); }
};

// Outputs first .. first + 8 * V - 1 of a panel.
template <class Type, int R, int V>
void part(const char* panel, int groups, const char* rows, std::ptrdiff_t stride, Ahead ahead, int first,
          typename Type::Sum (*out)[PANEL]) {
  typename Type::Vector sums[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sums[r][v] = Type::zero();
  panel += first * 4;
  for (int group = 0; group < groups; ++group) {
    if (group % 4 == 0) {
      if (ahead.near)
        for (int line = 0; line < ahead.lines; ++line) _mm_prefetch(ahead.from + line * FETCH_BYTES, _MM_HINT_T0);
      else
        for (int line = 0; line < ahead.lines; ++line) _mm_prefetch(ahead.from + line * FETCH_BYTES, _MM_HINT_T1);
      ahead.from += ahead.lines * FETCH_BYTES;
    }
    typename Type::Pair weights[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v)
      weights[v] = Type::weights(_mm256_load_si256(reinterpret_cast<const __m256i*>(panel) + v));
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      std::int32_t inputs;
      __builtin_memcpy(&inputs, rows + r * stride + group * 4, sizeof inputs);
      const typename Type::Pair row = Type::rows(_mm256_set1_epi32(inputs));
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] = Type::add(sums[r][v], row, weights[v]);
    }
    panel += PANEL * 4;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) Type::store(out[r] + first + v * WIDTH, sums[r][v]);
}

template <class Type, int R>
void product(const char* panel, int groups, const char* rows, std::ptrdiff_t stride, Ahead ahead,
             typename Type::Sum (*out)[PANEL]) {
  if constexpr (R <= 2) {  // a stream of weights, read once
    part<Type, R, 4>(panel, groups, rows, stride, ahead, 0, out);
  } else {
    part<Type, R, 2>(panel, groups, rows, stride, ahead, 0, out);
    part<Type, R, 2>(panel, groups, rows, stride, {panel, 0, false}, HALF_PANEL, out);
  }
}

}  // namespace

#include "linear.inc"

}  // namespace headway::avx2
