#define HEADWAY_ISA portable

#include "ahead.h"
#include "tables.h"
#include "vector.h"

namespace headway::portable {
namespace {

constexpr int TILE = 4;

float widen(bf16 value) { return __builtin_bit_cast(float, std::uint32_t{value} << 16); }

struct Brain {
  static constexpr int GROUP = 2;
  using Sum = float;
  using Number = float;
  using Weight = bf16;
  using Input = bf16;
  static float number(bf16 value) { return widen(value); }
};

struct Byte {
  static constexpr int GROUP = 4;
  using Sum = std::int32_t;
  using Number = std::int16_t;  // holds the product of two, and needs no 32-bit multiplication
  using Weight = std::int8_t;
  using Input = std::uint8_t;
  static std::int16_t number(std::int16_t value) { return value; }
};

template <class Type, int R>
void product(const char* panel, int groups, const char* rows, std::ptrdiff_t stride, Ahead,
             typename Type::Sum (*sums)[PANEL]) {
  constexpr int GROUP = Type::GROUP;
  const auto* weights = reinterpret_cast<const typename Type::Weight*>(panel);
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < PANEL; ++n) sums[r][n] = 0;
  for (int group = 0; group < groups; ++group, weights += PANEL * GROUP) {
    for (int k = 0; k < GROUP; ++k) {
      typename Type::Number column[PANEL];
      for (int n = 0; n < PANEL; ++n) column[n] = Type::number(weights[n * GROUP + k]);
      for (int r = 0; r < R; ++r) {
        typename Type::Input input;
        __builtin_memcpy(&input, rows + r * stride + (group * GROUP + k) * int(sizeof input), sizeof input);
        const typename Type::Number value = Type::number(input);
        for (int n = 0; n < PANEL; ++n) sums[r][n] += typename Type::Number(value * column[n]);
      }
    }
  }
}

}  // namespace

#include "linear.inc"

}  // namespace headway::portable
