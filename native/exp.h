// e to the power of x, in operations that compilers turn into vector instructions of whatever processor they compile
// for. Of internal linkage, so that each processor's files keep their own copy.
#pragma once

#include <cstdint>

namespace headway {
namespace {

// Relative error below 2e-7; x outside -87 .. 88 counts as the nearer of the two. exp_of(NaN) is a number.
inline float exp_of(float x) {
  constexpr float LOWEST = -87.0f, HIGHEST = 88.0f;
  constexpr float LOG2_E = 1.44269504f;
  constexpr float LN_2_HIGH = 0.693359375f, LN_2_LOW = -2.12194440e-4f;  // the first has 9 bits: times n, it is exact
  constexpr float TO_INTEGER = 12582912.0f;  // 1.5 * 2^23: adding it rounds, and leaves n in the lowest bits
  x = x > LOWEST ? x : LOWEST;
  x = x < HIGHEST ? x : HIGHEST;
  const float shifted = x * LOG2_E + TO_INTEGER;
  const float n = shifted - TO_INTEGER;
  const float r = (x - n * LN_2_HIGH) - n * LN_2_LOW;  // |r| <= ln(2) / 2, where Taylor's series is short
  float sum = 1.0f / 5040;
  sum = sum * r + 1.0f / 720;
  sum = sum * r + 1.0f / 120;
  sum = sum * r + 1.0f / 24;
  sum = sum * r + 1.0f / 6;
  sum = sum * r + 0.5f;
  sum = sum * r + 1.0f;
  sum = sum * r + 1.0f;
  const std::int32_t exponent = __builtin_bit_cast(std::int32_t, shifted) << 23;
  return __builtin_bit_cast(float, __builtin_bit_cast(std::int32_t, sum) + exponent);
}

}  // namespace
}  // namespace headway
