// A vector of floats as wide as the processor's own, and the few operations that kernels are written in.
//
// Compiled once for each kind of processor, in a namespace of its own: HEADWAY_ISA. Nothing here may come from std::
// as code (it would be shared between the kinds).
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels.h"

#if defined(__AVX2__)
#pragma GCC diagnostic push  // GCC 12 warns of its own header
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace headway::HEADWAY_ISA {

#if defined(__AVX512BF16__)
inline constexpr int WIDTH = 16;
inline constexpr int REGISTERS = 32;
#elif defined(__AVX2__)
inline constexpr int WIDTH = 8;
inline constexpr int REGISTERS = 16;
#else
inline constexpr int WIDTH = 4;
inline constexpr int REGISTERS = 16;
#endif

using Floats = float __attribute__((vector_size(4 * WIDTH)));
using Ints = std::int32_t __attribute__((vector_size(4 * WIDTH)));
using Bits = std::uint32_t __attribute__((vector_size(4 * WIDTH)));
using Halves = bf16 __attribute__((vector_size(2 * WIDTH)));
using Bytes = std::uint8_t __attribute__((vector_size(WIDTH)));

inline constexpr float INFINITE = __builtin_inff();

inline int smaller(int a, int b) { return a < b ? a : b; }
inline int greater(int a, int b) { return a > b ? a : b; }

// ---- memory; `count` numbers of the vector, the others are zero

template <class Vector>
inline Vector load(const void* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

template <class Vector>
inline void store(void* to, Vector vector) {
  std::memcpy(to, &vector, sizeof vector);
}

template <class Vector>
inline Vector load(const void* from, int count) {
  if (count >= WIDTH) return load<Vector>(from);
#if defined(__AVX512BF16__)
  if constexpr (sizeof(Vector) == 64)
    return (Vector)_mm512_maskz_loadu_epi32(__mmask16((1u << count) - 1), from);
#endif
  Vector vector{};
  std::memcpy(&vector, from, count * sizeof vector[0]);
  return vector;
}

template <class Vector>
inline void store(void* to, Vector vector, int count) {
  if (count >= WIDTH) return store(to, vector);
  std::memcpy(to, &vector, count * sizeof vector[0]);
}

inline float as_float(std::int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline std::int32_t as_bits(float value) {
  std::int32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// ---- arithmetic

inline Floats splat(float value) { return value - Floats{}; }

// a * b + c, rounded once where the processor can.
inline Floats multiply_add(Floats a, Floats b, Floats c) {
#if defined(__AVX512BF16__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

// The larger of two; `b` where one of them is NaN.
inline Floats larger(Floats a, Floats b) {
#if defined(__AVX512BF16__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

inline Ints larger(Ints a, Ints b) {
#if defined(__AVX512BF16__)
  return (Ints)_mm512_max_epi32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Ints)_mm256_max_epi32((__m256i)a, (__m256i)b);
#else
  return a > b ? a : b;
#endif
}

// Whether any is true, of what a comparison gives.
inline bool any(Ints truths) {
#if defined(__AVX512BF16__)
  return _mm512_movepi32_mask((__m512i)truths) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps((__m256)truths) != 0;
#else
  std::int32_t some = 0;
  for (int index = 0; index < WIDTH; ++index) some |= truths[index];
  return some != 0;
#endif
}

// Writes the numbers of which it is true side by side, and returns how many. WIDTH numbers may be overwritten.
inline int store_those(Ints truths, float* out, Floats values) {
#if defined(__AVX512BF16__)
  const __mmask16 mask = _mm512_movepi32_mask((__m512i)truths);
  store(out, (Floats)_mm512_maskz_compress_ps(mask, (__m512)values));
  return __builtin_popcount(mask);
#else
  int found = 0;
  for (int index = 0; index < WIDTH; ++index) {
    out[found] = values[index];
    found -= truths[index];
  }
  return found;
#endif
}

// The magnitudes' bits, which order numbers as they are, infinity above them and NaN on top.
inline Ints magnitude_bits(Floats values) { return (Ints)values & 0x7fffffff; }

// The sum, or the largest, of a vector's numbers; halves are put together, so that the order of a sum is fixed.
template <class Vector, class Join>
inline auto reduce(Vector vector, Join join) {
  decltype(vector[0] + 0) numbers[WIDTH];
  store(numbers, vector);
  for (int half = WIDTH / 2; half > 0; half /= 2)
    for (int index = 0; index < half; ++index) numbers[index] = join(numbers[index], numbers[index + half]);
  return numbers[0];
}

inline float sum(Floats values) {
  return reduce(values, [](float a, float b) { return a + b; });
}

inline float largest_of(Floats values) {
#if defined(__AVX512BF16__)
  return _mm512_reduce_max_ps(values);
#else
  return reduce(values, [](float a, float b) { return a > b ? a : b; });
#endif
}

inline std::int32_t largest_of(Ints values) {
  return reduce(values, [](std::int32_t a, std::int32_t b) { return a > b ? a : b; });
}

// The nearest whole number, of two equally near the even one, for magnitudes below 2^22: in the low bits of a float.
inline constexpr float ROUNDER = 12582912.0f;  // 1.5 * 2^23
inline constexpr std::uint32_t ROUNDER_BITS = 0x4b400000;

// The lowest byte of each.
inline Bytes low_bytes(Ints values) {
#if defined(__AVX512BF16__)
  return (Bytes)_mm512_cvtepi32_epi8((__m512i)values);
#elif defined(__AVX2__)
  const __m256i lowest = _mm256_set1_epi32(0x0c080400);  // of each half, gathered in each of its quarters
  const __m256i gathered = _mm256_shuffle_epi8((__m256i)values, lowest);
  return (Bytes)_mm_cvtsi128_si64(
      _mm_unpacklo_epi32(_mm256_castsi256_si128(gathered), _mm256_extracti128_si256(gathered, 1)));
#else
  return __builtin_convertvector(values & 0xff, Bytes);
#endif
}

// e^x for x <= 0, with a relative error below 2e-7, or 0 where it is too small for a normal float. NaN stays NaN.
//
// x = n log 2 + r with |r| <= log(2) / 2, and e^r = 1 + r (1 + r q(r)), where q is the cubic of least error.
inline constexpr float EXP_COEFFICIENTS[] = {0.499992281f, 0.166671157f, 0.0418905504f, 0.00831247773f};

inline Floats exponential(Floats x) {
  constexpr float PER_LOG2 = 1.44269504f, LOG2_HIGH = 0.693145752f, LOG2_LOW = 1.42860677e-6f;
#if defined(__AVX512BF16__)
  const Floats bounded = larger(splat(-200.0f), x);
  const Floats n = _mm512_roundscale_ps(bounded * PER_LOG2, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  const Floats bounded = larger(splat(-87.0f), x);
  const Floats shifted = multiply_add(bounded, splat(PER_LOG2), splat(ROUNDER));
  const Floats n = shifted - ROUNDER;
#endif
  Floats r = multiply_add(n, splat(-LOG2_HIGH), bounded);
  r = multiply_add(n, splat(-LOG2_LOW), r);
  Floats q = multiply_add(r, splat(EXP_COEFFICIENTS[3]), splat(EXP_COEFFICIENTS[2]));
  q = multiply_add(q, r, splat(EXP_COEFFICIENTS[1]));
  q = multiply_add(q, r, splat(EXP_COEFFICIENTS[0]));
  const Floats power = multiply_add(multiply_add(q, r, splat(1.0f)), r, splat(1.0f));
#if defined(__AVX512BF16__)
  return _mm512_scalef_ps(power, n);
#else
  const Floats scale = (Floats)(((Bits)shifted - ROUNDER_BITS + 127) << 23);
  return x < -87.0f ? Floats{} : power * scale;
#endif
}

// ---- bf16

inline Floats widen(Halves halves) { return (Floats)(__builtin_convertvector(halves, Ints) << 16); }

// Rounded to the nearest, of two equally near the even one.
inline Halves narrow(Floats values) {
#if defined(__AVX512BF16__)
  return (Halves)_mm512_cvtneps_pbh(values);
#else
  const Bits bits = (Bits)values;
  const Bits rounded = bits + 0x7fff + ((bits >> 16) & 1);
  const Bits kept = values != values ? bits | 0x00400000 : rounded;
  return __builtin_convertvector(kept >> 16, Halves);
#endif
}

// Two numbers, or WIDTH times two, side by side, as the two of a packed matrix that are summed up at once.
#if defined(__AVX512BF16__)
using Pair = std::uint32_t;
using Pairs = Ints;

inline Pair pair_of(const bf16* two) {
  Pair pair;
  std::memcpy(&pair, two, sizeof pair);
  return pair;
}

inline Pairs pairs_of(Ints packed) { return packed; }

// sums + first of a * first of b + second of a * second of b
inline Floats add_products(Floats sums, Pairs a, Pair b) {
  return _mm512_dpbf16_ps(sums, (__m512bh)a, (__m512bh)_mm512_set1_epi32(int(b)));
}

// Where numbers go that are later read as pairs.
inline void store_pairs(Pair* to, Floats values) { store(to, narrow(values)); }
#else
struct Pair {
  float first, second;
};

struct Pairs {
  Floats first, second;
};

inline Pair pair_of(const bf16* two) {
  return {as_float(std::int32_t(std::uint32_t{two[0]} << 16)), as_float(std::int32_t(std::uint32_t{two[1]} << 16))};
}

inline Pairs pairs_of(Ints packed) { return {(Floats)(packed << 16), (Floats)(packed & std::int32_t(0xffff0000))}; }

inline Floats add_products(Floats sums, Pairs a, Pair b) {
  return multiply_add(a.second, splat(b.second), multiply_add(a.first, splat(b.first), sums));
}

inline void store_pairs(Pair* to, Floats values) { store(to, values); }
#endif

}  // namespace headway::HEADWAY_ISA
